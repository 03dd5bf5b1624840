"""Bad input of every kind: each case works, or ends in one line that names the file or the variable.

TELEPATH_FUZZ says how many cases each test tries (default 25). How many there were in all is said at the end:

    TELEPATH_FUZZ=2000 pytest -s tests/reliability/test_fuzz.py
"""

import contextlib
import copy
import functools
import io
import json
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages import check
from stages.harness import Context, Stage, read_stage
from telepath.config import load
from telepath.envs import gl
from telepath.episodes import Episode, load_episodes, save_arrays
from telepath.observations import Observation
from telepath.runtime.device import half_precision, training_device
from telepath.runtime.environment import (
    CHECKPOINT_SECONDS,
    DEVICE,
    EXECUTOR,
    GL,
    HALF,
    LOG,
    MEMORY_GIB,
    PROGRESS_SECONDS,
    THREADS,
    VARIABLES,
    Executor,
    check_variables,
)
from telepath.runtime.live import wanted_tracker
from telepath.runtime.memory import memory_limit
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.runtime.store import save_state
from telepath.settings import GapSettings
from tests.reliability.artefacts import (
    EPISODES,
    FACTS,
    FILMED,
    FRAME_LABELS,
    FRAMES,
    KINDS,
    LABEL_ARRAYS,
    PARAMS,
    Kind,
    adapted,
    agent,
    policies,
    rival,
    seeing_agent,
    works_or_says_why,
)

ROOT = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("TELEPATH_FUZZ", "25"))
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PIPELINE = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
CHECK_NAMES = ("params.yaml", "task", "gap", *(f"gap.{name}" for name in GapSettings.model_fields))
"""What a refusal by the check begins with."""
tried: Counter[str] = Counter()

fuzz = settings(
    max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(1, 50),
    st.floats(0.05, 0.95),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.dates(),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | scalars, inner, max_size=3),
)


@pytest.fixture(scope="module", autouse=True)
def figures() -> Iterator[None]:
    yield
    refused = sum(n for name, n in tried.items() if name.startswith("refused"))
    print(f"\n{tried.total()} cases, {refused} of them refused in one line, the others worked: {dict(tried)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def note(what: str, worked: bool) -> None:
    tried[f"{'worked' if worked else 'refused'} {what}"] += 1


def mutated(data: st.DataObject, whole: bytes) -> bytes:
    """Bytes with some harm done to them."""
    at = data.draw(st.integers(0, max(0, len(whole) - 1)))
    match data.draw(st.sampled_from(["cut", "flip", "flips", "splice", "double", "zeros", "noise", "nothing"])):
        case "cut":
            return whole[:at]
        case "flip":
            bit = data.draw(st.integers(0, 7))
            return whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        case "flips":
            harmed = bytearray(whole)
            for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=20)):
                harmed[place] ^= data.draw(st.integers(1, 255))
            return bytes(harmed)
        case "splice":
            return whole[:at] + data.draw(st.binary(max_size=30)) + whole[at + data.draw(st.integers(0, 30)) :]
        case "double":
            return whole[at:] + whole
        case "zeros":
            return whole[:at] + bytes(len(whole) - at)
        case "noise":
            return data.draw(st.binary(max_size=200))
        case _:
            return b""


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key in a tree of dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(node: Any, place: Iterable[Any]) -> Any:
    """What lies at a place of a tree."""
    return functools.reduce(operator.getitem, place, node)


def disturbed(data: st.DataObject, content: Any) -> Any:
    """A tree in which a few nodes were replaced, removed, renamed or added."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(content))
        assume(found)
        *parents, key = data.draw(st.sampled_from(found))
        node = at(content, parents)
        match data.draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"])):
            case "replace":
                node[key] = data.draw(trees)
            case "remove":
                del node[key]
            case "rename" if isinstance(node, dict):
                node[data.draw(scalars)] = node.pop(key)
            case "add" if isinstance(node, dict):
                node[data.draw(scalars)] = data.draw(trees)
    return content


def checked(path: Path) -> None:
    """Read the settings, and have the first stage look at them in the folder that they lie in."""
    params = load(path)
    with contextlib.chdir(path.parent), redirect_stderr(io.StringIO()):
        check.main(params, Context(Stage("check", "", (), (), ()), ""))


def passes(what: str, path: Path) -> None:
    """Note whether settings are read, and whether those that are pass the check."""
    read = works_or_says_why(lambda: load(path), path)
    note(what, read)
    if read:
        note(f"{what}, checked", works_or_says_why(lambda: checked(path), *CHECK_NAMES))


def other_number(data: st.DataObject, number: float) -> float:
    """A number of the same type and any order of magnitude."""
    if isinstance(number, int):
        return round(10 ** data.draw(st.floats(0, 9))) - data.draw(st.integers(0, 1))
    return 10 ** data.draw(st.floats(-2, 2) | st.floats(-12, 12)) * data.draw(st.sampled_from([0.0, 1.0, 1.0]))


@fuzz
@given(data=st.data())
def test_settings_with_other_numbers(folder: Path, data: st.DataObject) -> None:
    content = yaml.safe_load(TEXT)
    content["task"] = data.draw(st.sampled_from(list(content["tasks"])))
    numbers = [place for place in places(content) if type(at(content, place)) in (int, float)]
    # Only the task's own numbers count.
    own = [place for place in numbers if place[0] != "tasks" or place[1] == content["task"]]
    for *parents, key in data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=2)):
        node = at(content, parents)
        node[key] = other_number(data, node[key])
    path = folder / "params.yaml"
    path.write_text(yaml.dump(content), encoding="utf-8")
    passes("params.yaml, numbers", path)


@fuzz
@given(data=st.data())
def test_settings_with_other_values(folder: Path, data: st.DataObject) -> None:
    path = folder / "params.yaml"
    path.write_text(yaml.dump(disturbed(data, yaml.safe_load(TEXT))), encoding="utf-8")
    passes("params.yaml, values", path)


@fuzz
@given(data=st.data())
def test_settings_with_other_bytes(folder: Path, data: st.DataObject) -> None:
    path = folder / "params.yaml"
    path.write_bytes(mutated(data, TEXT.encode()))
    passes("params.yaml, bytes", path)


@fuzz
@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>%@`'\"#,?\n \t\\01.~<="), max_size=80) | st.text(max_size=80))
def test_settings_that_are_hardly_yaml(folder: Path, text: str) -> None:
    path = folder / "params.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    note("params.yaml, text", works_or_says_why(lambda: load(path), path))


@fuzz
@given(data=st.data())
def test_pipelines(folder: Path, data: st.DataObject) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        if data.draw(st.booleans()):
            Path("dvc.yaml").write_text(yaml.dump(disturbed(data, yaml.safe_load(PIPELINE))), encoding="utf-8")
        else:
            Path("dvc.yaml").write_bytes(mutated(data, PIPELINE.encode()))
        name = data.draw(st.sampled_from(["label", "report", "train_source"]))
        note("dvc.yaml", works_or_says_why(lambda: read_stage(name, PARAMS), "dvc.yaml"))
    finally:
        os.chdir(before)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@fuzz
@given(data=st.data())
def test_damaged_artefacts(folder: Path, kind: Kind, data: st.DataObject) -> None:
    path = folder / kind.name
    kind.write(path)
    path.write_bytes(mutated(data, path.read_bytes()))
    note(f"{kind.name}, bytes", works_or_says_why(lambda: kind.read(path), path))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_artefact_of_another_kind_nothing_and_a_folder(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "artefact"
    kind.write(path)
    kind.read(path)
    for other in KINDS:
        other.write(path)
        note("another kind", works_or_says_why(lambda: kind.read(path), path))
    path.unlink()
    assert not works_or_says_why(lambda: kind.read(path), path)
    path.mkdir()
    assert not works_or_says_why(lambda: kind.read(path), path)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_artefact_that_may_not_be_read(tmp_path: Path, kind: Kind, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "artefact"
    kind.write(path)
    path.chmod(0)
    request.getfixturevalue("nobody")
    assert not works_or_says_why(lambda: kind.read(path), path)


some_arrays = st.one_of(
    *(
        arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        for kind in (np.float32, np.int64, np.bool_, np.float64, np.uint8)
    )
)


@pytest.mark.parametrize(
    ("of", "whole", "played", "seen"),
    [("", LABEL_ARRAYS, EPISODES, Observation("state", 2)), ("pixel ", FRAME_LABELS, FILMED, FRAMES)],
    ids=["states", "frames"],
)
@fuzz
@given(data=st.data())
def test_labels_and_episodes_of_other_shapes(
    folder: Path, of: str, whole: dict[str, Any], played: list[Episode], seen: Observation, data: st.DataObject
) -> None:
    path = folder / "shapes.npz"
    labels = dict(whole)
    for name in data.draw(st.lists(st.sampled_from(list(labels)), min_size=1, max_size=3)):
        labels[name] = data.draw(some_arrays)
    save_arrays(path, labels)
    (read,) = (kind.read for kind in KINDS if kind.name == f"{of}labels")
    note(f"{of}labels, shapes", works_or_says_why(lambda: read(path), path))
    episodes = {
        "length": np.array([len(episode) for episode in played]),
        "terminal": np.zeros(2, np.bool_),
        "divergences": np.zeros(2, np.int64),
        "observation": np.concatenate([episode.observation for episode in played]),
        "action": np.concatenate([episode.action for episode in played]),
    }
    episodes[data.draw(st.sampled_from(list(episodes)))] = data.draw(some_arrays)
    save_arrays(path, episodes)
    note(f"{of}episodes, shapes", works_or_says_why(lambda: load_episodes(path, rewarded=False, dims=(seen, 1)), path))


@pytest.mark.parametrize("name", ["agent", "pixel agent", "policies", "belief", "rival", "adapted rival"])
@fuzz
@given(data=st.data())
def test_states_of_another_structure(folder: Path, name: str, data: st.DataObject) -> None:
    path = folder / "structure"
    (kind,) = (kind for kind in KINDS if kind.name == name)
    whole: dict[str, Any] = {"agent": agent().artefact, "policies": policies, "rival": rival, "adapted rival": adapted}
    whole["pixel agent"] = seeing_agent().artefact
    whole["belief"] = lambda: {"weights": {"w": torch.ones(1)}}
    content = disturbed(data, whole[name]())
    try:
        save_state(path, content, kind=name.split()[-1])
    except TypeError:
        return  # a key or leaf that no file can hold
    note(f"{name}, structure", works_or_says_why(lambda: kind.read(path), path))


@fuzz
@given(data=st.data())
def test_facts_of_another_structure(folder: Path, data: st.DataObject) -> None:
    path = folder / "facts.json"
    path.write_text(json.dumps(disturbed(data, FACTS), default=str, skipkeys=True), encoding="utf-8")
    (read,) = (kind.read for kind in KINDS if kind.name == "facts")
    note("facts, structure", works_or_says_why(lambda: read(path), path))


@fuzz
@given(text=st.text(st.sampled_from('agent,episodreu\n0123.-e" '), max_size=60))
def test_tables_of_other_text(folder: Path, text: str) -> None:
    path = folder / "table.csv"
    path.write_text("agent,episode,return\n" + text, encoding="utf-8")
    (read,) = (kind.read for kind in KINDS if kind.name == "table")
    note("table, text", works_or_says_why(lambda: read(path), path))


words = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.integers(5000, 9000).map(lambda digits: "9" * digits),
)


READERS: dict[str, Callable[[], object]] = {
    CHECKPOINT_SECONDS.name: lambda: Scratch(Path("nowhere")),
    DEVICE.name: lambda: training_device(frames=True),
    EXECUTOR.name: lambda: EXECUTOR.read(Executor()),
    GL.name: gl.find_backend.__wrapped__,
    HALF.name: lambda: half_precision("cpu"),
    LOG.name: wanted_tracker,
    MEMORY_GIB.name: memory_limit,
    PROGRESS_SECONDS.name: lambda: Progress("fuzz", 1, "cases"),
    THREADS.name: lambda: THREADS.read(1),
}
"""What becomes of each variable in a stage that needs it."""

meant = st.sampled_from(["0", "1", "2.5", "cpu", "CUDA", "egl", "osmesa", "off", "tensorboard", "WandB", "process:2"])


def test_every_variable_is_tried() -> None:
    assert sorted(READERS) == sorted(variable.name for variable in VARIABLES)


@pytest.mark.parametrize("name", READERS)
@fuzz
@given(word=words | meant | st.text(st.sampled_from("process:dak/0123456789.[]- "), max_size=30))
def test_environment_variables(name: str, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gl, "failure_of", lambda backend: "")
        patch.setenv(name, word)
        passed = works_or_says_why(check_variables, name)
        worked = works_or_says_why(READERS[name], name)
    # What means nothing is refused when a stage begins; what is refused later means something that is not there.
    assert passed or not worked
    note(f"variable, {name}", worked)


@fuzz
@given(name=st.text(st.sampled_from("ACDEFGHIKLMNOPRSTUXB_"), max_size=20))
def test_environment_variables_of_other_names(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"TELEPATH_{name}", "1")
        note("variable, name", works_or_says_why(check_variables, f"TELEPATH_{name}"))


def override(data: st.DataObject) -> str:
    """What a user may write behind `-S`: some key, not always a known one, and some value."""
    found = [".".join(map(str, place)) for place in places(yaml.safe_load(TEXT))]
    sign = data.draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    key = data.draw(st.sampled_from(found) | st.text(st.sampled_from("abgmsk._-0"), min_size=1, max_size=9))
    numbers = st.integers(-5, 10**10).map(str) | st.floats().map(str)
    value = data.draw(numbers | st.sampled_from(["null", "true", "[1,2]", "{a: 1}", "''", "x,y"]) | words)
    return f"{sign}{key}={value}"


@fuzz
@given(data=st.data())
def test_settings_overridden_as_dvc_does_it(folder: Path, data: st.DataObject) -> None:
    path = folder / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    try:
        apply_overrides(path, [override(data) for _ in range(data.draw(st.integers(1, 2)))])
    except Exception:  # dvc, or its Hydra, refuses it in its own words, and nothing has been run
        tried["refused -S, by dvc"] += 1
        return
    passes("-S", path)


@fuzz
@given(data=st.data())
def test_damaged_checkpoints(folder: Path, data: st.DataObject) -> None:
    state = {"updates": 3, "weights": torch.arange(4.0)}
    with Scratch(folder / "scratch") as scratch, redirect_stderr(io.StringIO()) as said:
        scratch.save(state)
        scratch.save_part(2, state)
        path = folder / "scratch" / data.draw(st.sampled_from(["state.safetensors", "000002.state.safetensors"]))
        path.write_bytes(mutated(data, path.read_bytes()))
        found = [*filter(None, (scratch.load(), scratch.load_parts().get(2)))]
    # What is read is what was written; what is damaged is told in one line and counts as none.
    assert all(each["updates"] == 3 and torch.equal(each["weights"], state["weights"]) for each in found)
    assert len(said.getvalue().splitlines()) == 2 - len(found)
    note("checkpoint", len(found) == 2)


@pytest.mark.parametrize("name", ["state.safetensors", "lock", "finished"])
def test_a_folder_in_the_place_of_a_checkpoint_s_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "s" / name).mkdir(parents=True)

    def use() -> None:
        with Scratch(tmp_path / "s") as scratch:
            assert scratch.load() is None
            scratch.save({"updates": 1})

    assert works_or_says_why(use, tmp_path / "s" / name) == (name == "finished")

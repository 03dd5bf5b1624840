import copy
import functools
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from telepath.config import load
from telepath.errors import UserError

ROOT = Path(__file__).parent.parent


def edited(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    edit(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_settings_that_come_with_the_project_are_valid() -> None:
    params = load(ROOT / "params.yaml")
    assert params.task in params.tasks


def test_settings_cannot_be_changed() -> None:
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.gap.mass = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["gap"].update(mas=2.0), "gap.mas: unknown key; did you mean 'mass'?"),
        (lambda c: c["gap"].update(mass=-1), "gap.mass: input should be greater than or equal to 0.01, got -1"),
        (lambda c: c["gap"].update(mass="heavy"), "gap.mass: input should be a valid number"),
        (lambda c: c["gap"].update(mass=True), "gap.mass: input should be a valid number"),
        (lambda c: c["gap"].update(mass=float("inf")), "gap.mass"),
        (lambda c: c["gap"].update(action_repeat=1.5), "gap.action_repeat: input should be a valid integer"),
        (lambda c: c["seed"].pop("source"), "seed.source: missing"),
        (lambda c: c["seed"].update(target=-1), "seed.target: input should be greater than or equal to 0"),
        (lambda c: c.update(seed=3), "seed: input should be a valid dictionary"),
        (lambda c: c.update(task="walker-wlak"), "did you mean 'walker-walk'?"),
        (lambda c: c.update(setting="both"), "setting: input should be 'trajectories only' or 'with source agent'"),
        (lambda c: c["tasks"]["walker-walk"].update(steps=1), "tasks.walker-walk.steps: unknown key"),
        (lambda c: c["label"]["cem"].update(elite_fraction=0), "label.cem.elite_fraction"),
        (lambda c: c["label"]["cem"].update(elites=3), "label.cem.elites: unknown key"),
        (lambda c: c["dreamer"].update(deter=None, stoch=0), "(and 1 more)"),
        (
            lambda c: c["dreamer"].update(actor_min_std=2.0),
            "dreamer.actor_max_std: input should be at least actor_min_std, 2.0, got 1.0",
        ),
        (
            lambda c: c["explore"].update(random=0.75),
            "explore.source_policy: input should be at most 0.25, what `random` leaves, got 0.8",
        ),
        (
            lambda c: c["label"]["match"].update(stride=40),
            "label.match.stride: input should be at most the window, 12, or some records get no label, got 40",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = edited(tmp_path, edit)
    with pytest.raises(UserError) as raised:
        load(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("oracle.step_multiple", 1e6),
        ("source.training.update_ratio", 1e6),
        ("explore.update_ratio", 1e6),
        ("tasks.walker-walk.refine_ratio", 1e6),
        ("gap.action_noise", 1e3),
        ("gap.observation_noise", 1e3),
        ("gap.action_delay", 10**4),
        ("gap.observation_delay", 10**4),
        ("gap.action_repeat", 10**4),
        ("tasks.walker-walk.action_repeat", 10**4),
        ("explore.source_noise", 1e3),
        ("belief.min_std", 1e3),
        ("label.slack", 1e6),
        ("label.cem.initial_std", 1e3),
        ("label.cem.min_std", 1e3),
        ("label.match.slack", 1e6),
        ("label.match.worth", 1e6),
        ("label.match.tolerance", 1e6),
        ("dreamer.model_lr", 1e6),
        ("dreamer.grad_clip", 1e30),
        ("rivals.pada.cem.population", 10**4),
        ("rivals.pada_model.cem.population", 10**4),
        ("rivals.pada.first_noise", 1e3),
        ("rivals.darc.input_noise", 1e3),
    ],
)
def test_what_no_number_holds_is_refused(tmp_path: Path, key: str, most: float) -> None:
    def put(value: float) -> Callable[[dict[str, Any]], object]:
        *parents, leaf = key.split(".")
        return lambda content: functools.reduce(operator.getitem, parents, content).update({leaf: value})

    load(edited(tmp_path, put(most)))
    with pytest.raises(UserError, match=rf"params\.yaml: {key}: input should be less than or equal to 1"):
        load(edited(tmp_path, put(10 * most)))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-05", 1e-05),  # as dvc writes it
        ("3e-4", 3e-4),
        ("1E-3", 1e-3),
        ("+2.e-3", 2e-3),
        (".5e-2", 5e-3),
        ("0.001", 1e-3),
        ("1.0e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("1", 1.0),
    ],
)
def test_a_number_is_read_as_yaml_1_2_writes_it(tmp_path: Path, written: str, value: float) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text.replace("model_lr: 0.001", f"model_lr: {written}"))
    assert load(path).dreamer.model_lr == value


@pytest.mark.parametrize("written", ["1e", "e5", ".", "1e-", "1.5.2", "'1e-5'", ".e5", "1e5x"])
def test_a_word_remains_a_word(tmp_path: Path, written: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("model_lr: 0.001", f"model_lr: {written}"))
    with pytest.raises(UserError, match=r"dreamer\.model_lr: input should be a valid number"):
        load(path)


def test_what_dvc_overrides_is_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, ["dreamer.model_lr=0.00001"])
    assert load(path).dreamer.model_lr == 1e-05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: a\nseed:\n  source: 0\ntask: b\n", "task: stands on line 1 and again on line 4; remove one of them"),
        ("seed:\n  source: 0\n  'source': 0\n", "seed.source: stands on line 2 and again on line 3; "),
        ("ot: {iterations: 5, iterations: 5}\n", "ot.iterations: stands on line 1 and again on line 1; "),
        ("list:\n- a: 1\n  a: 2\n", "list.a: stands on line 2 and again on line 3; "),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "task: [", "a: 1\n b: 2\n", "\x00", "just words"])
def test_a_file_that_holds_no_settings_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load(path)
    assert "\n" not in str(raised.value)
    assert "params.yaml" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "params.yaml")


def test_every_declared_key_stands_in_the_file(tmp_path: Path) -> None:
    """A reader finds every setting, with its default, in params.yaml."""
    written = yaml.safe_load((ROOT / "params.yaml").read_text())

    def keys(node: Any) -> Any:
        return {key: keys(value) for key, value in node.items()} if isinstance(node, dict) else None

    assert keys(load(ROOT / "params.yaml").model_dump()) == keys(copy.deepcopy(written))

"""Files made to do harm are refused in one line: nothing in them is run, and no room is made for what they claim."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from telepath.baselines.catalogue import load_policy
from telepath.config import load
from telepath.dreamer.agent import Agent
from telepath.episodes import load_arrays, load_episodes, save_arrays
from telepath.runtime.store import VERSION, checksum, load_state, save_state
from tests.reliability.artefacts import adapted, agent, works_or_says_why
from tests.reliability.artefacts import rival as clone

MUCH = 10**13


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (self.path,)


def refused(path: Path, read: Callable[[Path], object], most: int = 30_000_000) -> None:
    """Reading must fail in one line, with no more than ``most`` bytes taken."""
    tracemalloc.start()
    try:
        assert not works_or_says_why(lambda: read(path), path)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The beginning of an npy file that claims a shape and a type."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(path: Path, content: bytes, name: str = "x.npy", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def arrays_of(path: Path) -> object:
    return load_arrays(path, ["x"])


def test_pickles(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    bomb = pickle.dumps(Bomb(str(trap)))
    np.savez(tmp_path / "object.npz", x=np.array([Bomb(str(trap))], dtype=object))
    torch.save({"x": Bomb(str(trap))}, tmp_path / "torch.pt")
    (tmp_path / "bare.pkl").write_bytes(bomb)
    zipped(tmp_path / "inside.npz", bomb)
    zipped(tmp_path / "claimed.npz", header((1,), "|O") + bomb)
    for path in sorted(tmp_path.iterdir()):
        refused(path, arrays_of)
        refused(path, lambda path: load_episodes(path, rewarded=False))
        refused(path, lambda path: load_state(path, "agent"))
        refused(path, lambda path: Agent.load(path, "point"))
    assert not trap.exists()


def test_zip_bombs(tmp_path: Path) -> None:
    # 300 MB of zeros in 300 kB, and a few bytes that claim to be terabytes.
    refused(zipped(tmp_path / "deflated.npz", bytes(300_000_000), compression=zipfile.ZIP_DEFLATED), arrays_of)
    for shape in ((MUCH,), (MUCH, MUCH), (2**62, 2), (-1,), (-5, -5)):
        refused(zipped(tmp_path / "claims.npz", header(shape) + bytes(100)), arrays_of)
    path = zipped(tmp_path / "size.npz", header((4,)) + bytes(16))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    path.write_bytes(data)
    refused(path, arrays_of)


@pytest.mark.parametrize("name", ["../x.npy", "/tmp/x.npy", "..\\x.npy", "x.npy/../../y"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "a.npz", header((4,)) + bytes(16), name)
    refused(path, arrays_of)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.npz"]
    # A name is looked up in the archive and nowhere else.
    save_arrays(tmp_path / "x.npz", {"x": np.zeros(2)})
    refused(path, lambda path: load_arrays(path, ["../../x"]))


def test_headers_that_claim_too_much(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for length in (2**63, 2**64 - 1, MUCH, 200_000_000):
        path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(64))
        refused(path, lambda path: load_state(path, "agent"))
    tensor = {"x": {"dtype": "F32", "shape": [MUCH], "data_offsets": [0, 4 * MUCH]}}
    text = json.dumps(tensor).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    refused(path, lambda path: load_state(path, "agent"))


def forged(path: Path, state: object, kind: str = "agent") -> Path:
    """A file whose checksum fits, since whoever forges one can compute that, too."""
    content = {"version": VERSION, "kind": kind, "state": state}
    text = json.dumps({"checksum": checksum(content, {}), **content})
    path.write_bytes(safetensors.torch.save({}, {"telepath": text}))
    return path


@pytest.mark.parametrize(
    "state",
    [
        {"tensor": "../../etc/passwd"},
        {"tensor": 3},
        {"dict": [["a"]]},
        {"dict": [[{"dict": []}, 1]]},
        {"a": 1, "b": 2},
        {},
        {"dict": [["task", "point"], ["settings", {"dict": []}]]},
        [1, 2],
        None,
    ],
)
def test_skeletons_that_lead_nowhere(tmp_path: Path, state: object) -> None:
    refused(forged(tmp_path / "s", state), lambda path: Agent.load(path, "point"))


def test_a_skeleton_without_a_floor(tmp_path: Path) -> None:
    path = tmp_path / "s"
    deep = '{"version": 1, "kind": "agent", "checksum": "", "state": ' + 100_000 * "[" + 100_000 * "]" + "}"
    path.write_bytes(safetensors.torch.save({}, {"telepath": deep}))
    refused(path, lambda path: load_state(path, "agent"))


def test_settings_that_ask_for_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    for key, value in (("deter", 10_000), ("hidden", 10**9), ("layers", 10**9)):
        artefact = agent().artefact()
        artefact["settings"][key] = value
        save_state(path, artefact, kind="agent")
        refused(path, lambda path: Agent.load(path, "point"))
    artefact = agent().artefact() | {"observation_dim": 10**12}
    save_state(path, artefact, kind="agent")
    refused(path, lambda path: Agent.load(path, "point"))


@pytest.mark.parametrize(
    ("rival", "key", "value"),
    [
        ("bco", "hidden", 10**5),
        ("bco", "history", 10**9),
        ("bco", "observation_dim", 10**12),
        ("pada", "hidden", 10**5),
        ("pada", "hidden", -1),
        ("pada", "rate_ratio", float("nan")),
    ],
)
def test_rivals_that_ask_for_all_memory(tmp_path: Path, rival: str, key: str, value: float) -> None:
    stored = {"bco": clone, "pada": adapted}[rival]()
    save_state(tmp_path / "rival", stored, kind="rival")
    load_policy(tmp_path / "rival", rival, "point")
    save_state(tmp_path / "rival", stored | {key: value}, kind="rival")
    refused(tmp_path / "rival", lambda path: load_policy(path, rival, "point"))


def test_settings_that_run_code_or_explode(tmp_path: Path) -> None:
    path, trap = tmp_path / "params.yaml", tmp_path / "trap"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(9 * ['*' + a])}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    for text in (
        f"task: !!python/object/apply:os.mkdir ['{trap}']",
        f"!!python/object/new:os.mkdir ['{trap}']",
        "\n".join(lines),
        "&a [*a]",
        "\n".join(i * " " + "a:" for i in range(500)),
        "[" * 20_000,
    ):
        path.write_text(text)
        refused(path, load)
    assert not trap.exists()

"""The state file: exact round trips, deterministic bytes, no damaged file that loads as another state."""

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from telepath.errors import UserError
from telepath.runtime.store import load_state, pack, save_state


def rich_state() -> dict[str, Any]:
    """One of everything that may be stored."""
    base = torch.arange(12.0).reshape(3, 4)
    return {
        "scalars": [
            0,
            -1,
            2**200,
            -(2**65),
            0.1,
            -0.0,
            1e-320,
            float("inf"),
            True,
            False,
            None,
            "",
            "ä\n\"'\ud7ff",
        ],
        "tensors": (
            torch.tensor(3.5),
            torch.zeros(0, 3),
            base,
            base,
            base.T,
            base[:, ::2],
            torch.tensor([True, False]),
        ),
        1: {
            "one": 1,
            1: "int key",
            "1": torch.ones(1),
            "a/b": torch.zeros(1),
            "a": {"b": torch.full((1,), 2.0)},
        },
        "types": [
            torch.ones(2, dtype=t) for t in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint64)
        ],
        "arrays": [
            np.array(5),
            np.zeros((2, 0)),
            np.arange(6, dtype=np.uint16)[::-2],
            np.asfortranarray(np.ones((2, 3))),
            np.array([True, False]),
            np.array([np.nan, -0.0]),
        ],
        "numpy scalars": (np.float32(0.1), np.int64(-7), np.bool_(True), np.float64(0.3)),
        "empty": [{}, [], (), ((),)],
        "dict": {"tensor": "looks like a skeleton", "list": [["nested"], {"tuple": ()}]},
    }


def assert_same(a: Any, b: Any) -> None:
    """Equal in type, shape and every bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.contiguous().reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))
    elif isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert repr(a) == repr(b)


def stored(path: Path, state: Any) -> Any:
    save_state(path, state, kind="test")
    return load_state(path, "test")


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    assert_same(rich_state(), stored(tmp_path / "new" / "state.safetensors", rich_state()))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["state.safetensors"]


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    assert pack(rich_state(), "test") == pack(rich_state(), "test")
    once = pack(stored(tmp_path / "s", rich_state()), "test")
    assert once == pack(rich_state(), "test")


def test_subclasses_become_plain(tmp_path: Path) -> None:
    pair = collections.namedtuple("pair", "x y")
    state = {
        "ordered": collections.OrderedDict(b=1, a=2),
        "pair": pair(1, 2),
        "weight": torch.nn.Parameter(torch.ones(2)),
    }
    loaded = stored(tmp_path / "s", state)
    assert_same(loaded, {"ordered": {"b": 1, "a": 2}, "pair": (1, 2), "weight": torch.ones(2)})
    assert not loaded["weight"].requires_grad


def test_what_is_loaded_may_be_written_to(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = stored(path, {"t": torch.zeros(3), "a": np.zeros(3), "u": torch.zeros(3)})
    first["t"] += 1
    first["a"] += 1
    assert_same(load_state(path, "test"), {"t": torch.zeros(3), "a": np.zeros(3), "u": torch.zeros(3)})
    assert_same(first["u"], torch.zeros(3))


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, optimizer: Any) -> None:
    def setup() -> tuple[torch.nn.Linear, Any]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        return net, optimizer(net.parameters(), lr=0.1)

    def train(net: torch.nn.Linear, optimizer: Any) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

    net, opt = setup()
    train(net, opt)
    state = stored(tmp_path / "s", {"net": net.state_dict(), "opt": opt.state_dict()})
    other, other_opt = setup()
    other.load_state_dict(state["net"])
    other_opt.load_state_dict(state["opt"])
    train(net, opt)
    train(other, other_opt)
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_numpy_generators_go_on(tmp_path: Path, bits: Any) -> None:
    rng = np.random.Generator(bits(3))
    rng.standard_normal(5)
    other = np.random.Generator(bits(4))
    other.bit_generator.state = stored(tmp_path / "s", rng.bit_generator.state)
    assert np.array_equal(rng.integers(2**60, size=9), other.integers(2**60, size=9))


def test_torch_generators_go_on(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, generator=generator)
    other = torch.Generator()
    other.set_state(stored(tmp_path / "s", generator.get_state()))
    assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=other))


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": [1, object()]}, "state/a/1: .*object"),
        ({"a": {1.5: 0}}, "state/a: a key .*float"),
        ({True: 0}, "state: a key .*bool"),
        ([np.array(["x"])], "state/0: .*U1"),
        ([np.array([None])], "state/0: .*O"),
        ([torch.zeros(1, dtype=torch.complex64)], "state/0: .*complex64"),
        ([torch.eye(2).to_sparse()], "state/0: .*sparse"),
        ([{1, 2}], "state/0: .*set"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, state: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        save_state(tmp_path / "s", state, kind="test")
    assert not list(tmp_path.iterdir())


def refused(path: Path, kind: str = "test") -> str:
    with pytest.raises(UserError) as caught:
        load_state(path, kind)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "dvc repro" in message
    return message


def test_missing_directory_and_kind(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing")
    assert "cannot be read" in refused(tmp_path)
    save_state(tmp_path / "s", {}, kind="agent")
    assert "holds 'agent' where 'test' is needed" in refused(tmp_path / "s")


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for content in (b"", b"hello", b"PK\x03\x04" * 30, b"\xff" * 200, b"\x02" + bytes(7) + b"{}"):
        path.write_bytes(content)
        refused(path)
    path.write_bytes(safetensors.torch.save({"x": torch.ones(2)}, {"format": "pt"}))
    assert "not one that Telepath wrote" in refused(path)
    for value in ("", "[]", "1", "{}", '{"version": 1}'):
        path.write_bytes(safetensors.torch.save({"x": torch.ones(2)}, {"telepath": value}))
        refused(path)


def test_another_format_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telepath.runtime.store.VERSION", 2)
    save_state(tmp_path / "s", {}, kind="test")
    monkeypatch.undo()
    assert "format 2" in refused(tmp_path / "s")


SMALL = {"a": torch.arange(4.0), "b": [1, (2.5, "x")], "c": np.arange(3)}


def test_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "s"
    data = pack(SMALL, "test")
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        refused(path)


def test_no_flipped_bit_changes_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "s"
    data = pack(SMALL, "test")
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            state = load_state(path, "test")
        except UserError:
            continue
        assert_same(state, SMALL)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "s").mkdir(parents=True)
    for path in (tmp_path / "file" / "s", tmp_path / "folder" / "s"):
        with pytest.raises(UserError, match=f"^{path}: cannot be written"):
            save_state(path, {}, kind="test")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["s"]


def test_a_failing_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    save_state(path, {"old": 1}, kind="test")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        save_state(path, {"new": 1}, kind="test")
    assert load_state(path, "test") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


WRITER = """
import sys, torch
from pathlib import Path
from telepath.runtime.store import save_state
number = 0
while True:
    filled = torch.full((200_000,), float(number))
    save_state(Path(sys.argv[1]), {"number": number, "filled": filled}, kind="test")
    number += 1
    print(number, flush=True)
"""


def test_kill_in_the_middle_of_a_save_leaves_a_whole_state(tmp_path: Path) -> None:
    path, last = tmp_path / "s", 0
    for delay in (0.0, 0.0013):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3):
            last = int(writer.stdout.readline())
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        state = load_state(path, "test")
        assert state["number"] in (last - 1, last)
        assert torch.equal(state["filled"], torch.full((200_000,), float(state["number"])))
    save_state(path, {}, kind="test")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]

"""Threads from the environment, and determinism."""

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from telepath.errors import UserError
from telepath.runtime.device import be_deterministic, limit_threads, shared_out, side_by_side, training_device


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    monkeypatch.setenv("TELEPATH_THREADS", "1")
    limit_threads()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize(("variable", "each", "threads"), [("1", 1, 1), ("2", 1, 2), ("3", 1, 2), ("4", 2, 2)])
def test_threads_are_shared_out_between_two(
    monkeypatch: pytest.MonkeyPatch, variable: str, each: int, threads: int
) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", variable)
    limit_threads()
    assert torch.get_num_threads() == each
    (_, here), (count, there) = side_by_side(
        lambda: (torch.get_num_threads(), threading.get_ident()),
        lambda: (torch.get_num_threads(), threading.get_ident()),
    )
    assert count == each
    assert len({here, there}) == threads


@pytest.mark.parametrize("threads", ["1", "2"])
def test_one_part_or_two_are_shared_out_in_their_order(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", threads)
    limit_threads()
    assert shared_out(lambda part: (part, threading.get_ident()), [7]) == [(7, threading.get_ident())]
    (first, here), (second, there) = shared_out(lambda part: (part, threading.get_ident()), [1, 2])
    assert (first, second) == (1, 2)
    assert len({here, there}) == int(threads)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_error_on_either_side_comes_out(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", threads)
    limit_threads()

    def fail() -> None:
        raise FloatingPointError("this one")

    for here, there in ((fail, lambda: None), (lambda: None, fail)):
        with pytest.raises(FloatingPointError, match="this one"):
            side_by_side(here, there)


def test_ctrl_c_leaves_nothing_running_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", "2")
    limit_threads()
    begun, ended = threading.Event(), threading.Event()

    def here() -> None:
        begun.wait()
        raise KeyboardInterrupt

    def there() -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        side_by_side(here, there)
    assert ended.is_set()


@pytest.mark.parametrize("value", ["2000", "9" * 5000, "0", "-1", "two", "1.5", "²"])
def test_a_bad_number_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", value)
    with pytest.raises(UserError, match=r"^TELEPATH_THREADS: "):
        limit_threads()


def test_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    be_deterministic()
    assert torch.are_deterministic_algorithms_enabled()


def test_frames_go_to_a_gpu_where_there_is_one_and_states_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELEPATH_DEVICE", raising=False)
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=gpu: found)
        assert training_device(frames=True).type == ("cuda" if gpu else "cpu")
        assert training_device(frames=False).type == "cpu"
    monkeypatch.setenv("TELEPATH_DEVICE", "cpu")
    assert training_device(frames=True).type == "cpu"
    monkeypatch.setenv("TELEPATH_DEVICE", "cuda")
    assert training_device(frames=False).type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="TELEPATH_DEVICE: this machine has no GPU"):
        training_device(frames=True)
    monkeypatch.setenv("TELEPATH_DEVICE", "tpu")
    with pytest.raises(UserError, match="TELEPATH_DEVICE: 'tpu' is not cpu or cuda"):
        training_device(frames=True)


FREED_AND_TAKEN_AGAIN = """
import resource
import torch
from telepath.runtime.device import keep_memory

def update():
    return [torch.ones(2**20) for _ in range(4)]

def faults():
    update()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        update()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_memory()
print(given_back, faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has the switch")
def test_memory_is_not_given_back_between_updates() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FREED_AND_TAKEN_AGAIN], capture_output=True, text=True, check=True, timeout=120
    )
    given_back, kept = map(int, ran.stdout.split())
    assert given_back > 1000
    assert kept < 100

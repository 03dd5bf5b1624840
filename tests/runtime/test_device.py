"""Device, threads and workers from the environment."""

from collections.abc import Iterator

import pytest
import torch

from telepath.errors import UserError
from telepath.runtime.device import be_deterministic, device, limit_threads, usable_cpus, workers


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


def gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(
    ("found", "value", "expected"),
    [
        (0, None, "cpu"),
        (0, "", "cpu"),
        (0, "auto", "cpu"),
        (2, None, "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, " cuda:1 ", "cuda:1"),
    ],
)
def test_device(monkeypatch: pytest.MonkeyPatch, found: int, value: str | None, expected: str) -> None:
    gpus(monkeypatch, found)
    monkeypatch.delenv("TELEPATH_DEVICE", raising=False)
    if value is not None:
        monkeypatch.setenv("TELEPATH_DEVICE", value)
    assert device() == torch.device(expected)


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "cuda:2", "cpu:0", "cuda:-1", "CUDA"])
def test_a_bad_device_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    gpus(monkeypatch, 2)
    monkeypatch.setenv("TELEPATH_DEVICE", value)
    with pytest.raises(UserError, match=r"^TELEPATH_DEVICE: "):
        device()


def test_threads_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TELEPATH_THREADS", "TELEPATH_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    limit_threads()
    assert torch.get_num_threads() == 1
    assert workers() == usable_cpus() >= 1
    monkeypatch.setenv("TELEPATH_THREADS", "2")
    monkeypatch.setenv("TELEPATH_WORKERS", "7")
    limit_threads()
    assert torch.get_num_threads() == 2
    assert workers() == 7


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_bad_numbers_name_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", value)
    monkeypatch.setenv("TELEPATH_WORKERS", value)
    with pytest.raises(UserError, match=r"^TELEPATH_THREADS: "):
        limit_threads()
    with pytest.raises(UserError, match=r"^TELEPATH_WORKERS: "):
        workers()


def test_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    be_deterministic()
    assert torch.are_deterministic_algorithms_enabled()

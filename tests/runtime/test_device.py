"""Threads from the environment, and determinism."""

from collections.abc import Iterator

import pytest
import torch

from telepath.errors import UserError
from telepath.runtime.device import be_deterministic, limit_threads, usable_cpus


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELEPATH_THREADS", raising=False)
    limit_threads()
    assert torch.get_num_threads() == min(2, usable_cpus())
    monkeypatch.setenv("TELEPATH_THREADS", "1")
    limit_threads()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_bad_number_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TELEPATH_THREADS", value)
    with pytest.raises(UserError, match=r"^TELEPATH_THREADS: "):
        limit_threads()


def test_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    be_deterministic()
    assert torch.are_deterministic_algorithms_enabled()

"""How much memory there is, and what is refused for want of it."""

from pathlib import Path

import psutil
import pytest

from telepath.errors import UserError
from telepath.runtime import memory
from telepath.runtime.environment import MEMORY_GIB
from telepath.runtime.memory import GIB, demand_memory, memory_limit


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEMORY_GIB.name, raising=False)


def test_the_limit_is_the_machine_s_or_the_container_s_or_as_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    groups = tmp_path / "memory.max", tmp_path / "other"
    monkeypatch.setattr(memory, "GROUPS", groups)
    assert memory_limit() == psutil.virtual_memory().total
    groups[0].write_text("max\n")
    assert memory_limit() == psutil.virtual_memory().total
    groups[1].write_text("12345\n")
    assert memory_limit() == 12345
    monkeypatch.setenv(MEMORY_GIB.name, "0.5")
    assert memory_limit() == GIB // 2


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much", "1e300"])
def test_anything_else_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(MEMORY_GIB.name, text)
    with pytest.raises(UserError, match=rf"^TELEPATH_MEMORY_GIB: '{text}' is not a number of GiB"):
        memory_limit()


def test_needs_are_told_and_the_largest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_GIB.name, "2")
    needs = {"source": {"a.steps": 0.5 * GIB}, "labelling": {"b.chunk": 1.0 * GIB, "a.steps": 0.5 * GIB}}
    assert demand_memory(needs, 0.5 * GIB) == "memory in GiB, at most: source 1.00, labelling 2.00; of 2.0"
    needs["labelling"]["b.chunk"] = 1.5 * GIB
    with pytest.raises(UserError, match=r"^params\.yaml: b\.chunk: labelling would need 2\.5 GiB .* 2\.0; lower it"):
        demand_memory(needs, 0.5 * GIB)

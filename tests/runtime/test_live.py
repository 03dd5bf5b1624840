"""Live figures: curves that grow, no count twice however often a run is killed, and trackers behind one switch."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from telepath.errors import UserError
from telepath.runtime.environment import LOG
from telepath.runtime.live import POINTS, TRACKERS, Watcher
from telepath.runtime.progress import Progress


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOG.name, raising=False)


def work(folder: Path, done: int, until: int, total: int = 20, extra: int = 10**9) -> Watcher:
    """A stage that has ``done`` units from its checkpoint and gets to ``until``."""
    live = Watcher(folder, "train-abc", total, "updates")
    with Progress("train", total, "updates", live) as progress:
        progress.advance(done)
        for count in range(done + 1, until + 1):
            progress.advance(1, loss=1.0 / count, **({"score": float(count)} if count >= extra else {}))
    return live


def test_the_curve_grows_while_the_stage_works(tmp_path: Path) -> None:
    live = Watcher(tmp_path, "train-abc", 20, "updates")
    with Progress("train", 20, "updates", live) as progress:
        progress.advance(0)
        for count in range(1, 4):
            progress.advance(1, loss=0.5 * count)
            assert pd.read_csv(live.path)["updates"].tolist() == list(range(1, count + 1))
    assert live.path == tmp_path / "curves" / "train-abc.csv"
    assert live.path.read_text() == "updates,loss\n1,0.5\n2,1\n3,1.5\n"


def test_a_resumed_run_leaves_the_same_curve(tmp_path: Path) -> None:
    whole = work(tmp_path / "one", 0, 20, extra=8).path.read_text()
    work(tmp_path / "two", 0, 11, extra=8)
    work(tmp_path / "two", 6, 9, extra=8)  # its checkpoint was older than what was noted
    resumed = work(tmp_path / "two", 9, 20, extra=8).path
    assert resumed.read_text() == whole
    assert not pd.read_csv(resumed)["updates"].duplicated().any()
    assert pd.read_csv(resumed)["score"].isna().sum() == 7


def test_a_forced_rerun_begins_anew(tmp_path: Path) -> None:
    work(tmp_path, 0, 20)
    assert len(pd.read_csv(work(tmp_path, 0, 3).path)) == 3


def test_a_stage_that_never_resumes_needs_no_first_count(tmp_path: Path) -> None:
    for _ in range(2):
        live = Watcher(tmp_path, "collect-abc", 3, "episodes")
        with Progress("collect", 3, "episodes", live) as progress:
            for number in range(3):
                progress.advance(1, score=float(number))
    assert pd.read_csv(live.path)["episodes"].tolist() == [1, 2, 3]


def test_a_stage_without_figures_leaves_no_curve(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, "collect-abc", 3, "episodes")
    with Progress("collect", 3, "episodes", watcher) as progress:
        progress.advance(1)
    assert not watcher.path.exists()


def test_a_torn_or_foreign_curve_is_mended(tmp_path: Path) -> None:
    path = work(tmp_path, 0, 5).path
    with path.open("ab") as file:
        file.write(b"\xff\x00\nx,1\n6,0.1,7\n6,0.")
    assert pd.read_csv(work(tmp_path, 5, 7).path)["updates"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    path.write_bytes(b"")
    assert pd.read_csv(work(tmp_path, 5, 7).path)["updates"].tolist() == [6, 7]


def test_long_work_gets_no_more_rows_than_can_be_seen(tmp_path: Path) -> None:
    rows = pd.read_csv(work(tmp_path, 0, 10 * POINTS + 7, total=10 * POINTS + 7).path)
    assert POINTS <= len(rows) <= POINTS + 2
    whole = rows["updates"].tolist()
    work(tmp_path / "two", 0, 3333, total=10 * POINTS + 7)
    again = pd.read_csv(work(tmp_path / "two", 3000, 10 * POINTS + 7, total=10 * POINTS + 7).path)["updates"].tolist()
    assert len(set(again)) == len(again)
    assert set(again) >= set(whole[1:])  # the counts are the same ones, wherever a session began


def test_where_nothing_can_be_written_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "curves").write_text("a file where a folder should be")
    work(tmp_path, 0, 5)


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_missing_package_is_named_in_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG.name, kind)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=f"{LOG.name}: {kind} is not installed; run `pip install {kind}`") as caught:
        Watcher(tmp_path, "train-abc", 1, "updates")
    assert len(str(caught.value).splitlines()) == 1


def test_another_tracker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG.name, "aim")
    with pytest.raises(UserError, match=f"{LOG.name}: 'aim' is not tensorboard or wandb"):
        Watcher(tmp_path, "train-abc", 1, "updates")


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_tracker_that_does_not_start_says_so_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: Any, **named: Any) -> None:
        raise RuntimeError("no account\nor no network")

    for name, entry in (("torch.utils.tensorboard", "SummaryWriter"), ("wandb", "init")):
        module = ModuleType(name)
        setattr(module, entry, broken)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv(LOG.name, kind)
    with pytest.raises(UserError, match=f"{LOG.name}: {kind} cannot be started .no account") as caught:
        work(tmp_path, 0, 3)
    assert len(str(caught.value).splitlines()) == 1


class Writer:
    """Stands in for a tracker: keeps what it is told."""

    def __init__(self, *words: Any, **named: Any):
        self.begun, self.told, self.closed = (words, named), [], False
        WRITERS.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((step, name, value))

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.told += [(step, name, value) for name, value in numbers.items()]

    def finish(self) -> None:
        self.closed = True

    close = finish


WRITERS: list[Writer] = []


@pytest.mark.parametrize("kind", TRACKERS)
def test_one_switch_brings_the_same_figures_elsewhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS.clear()
    for name, entry in (("torch.utils.tensorboard", "SummaryWriter"), ("wandb", "init")):
        module = ModuleType(name)
        setattr(module, entry, Writer)
        monkeypatch.setitem(sys.modules, name, module)
    plain = work(tmp_path / "plain", 0, 3).path.read_text()
    monkeypatch.setenv(LOG.name, kind)
    watched = work(tmp_path / "watched", 0, 3)
    work(tmp_path / "watched", 3, 5)
    first, second = WRITERS
    assert [step for step, *_ in first.told + second.told] == [1, 2, 3, 4, 5]
    assert first.told[1] == (2, "loss", 0.5)
    assert first.closed
    assert second.closed
    words, named = second.begun
    if kind == "tensorboard":
        assert words == (str(tmp_path / "watched" / "tensorboard" / "train-abc"),)
        assert named == {"purge_step": 4}
    else:
        assert (named["id"], named["resume"]) == ("train-abc", "allow")
    assert watched.path.read_text().startswith(plain)


def test_tensorboard_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is an optional extra"
    )
    monkeypatch.setenv(LOG.name, "tensorboard")
    work(tmp_path, 0, 8)
    work(tmp_path, 5, 10)
    found = accumulators.EventAccumulator(str(tmp_path / "tensorboard" / "train-abc"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 11))

"""Progress: the plain lines, the live line, the estimate, the cost."""

import io
import sys
from collections.abc import Callable

import pytest

from telepath.errors import UserError
from telepath.runtime.progress import Progress, clock

Lines = Callable[[], list[str]]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to be set by hand."""
    reading = [50.0]
    monkeypatch.setattr("telepath.runtime.progress.time.monotonic", lambda: reading[0])
    return reading


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The lines on stderr since the last call."""
    return lambda: capsys.readouterr().err.splitlines()


def test_plain_lines_at_most_every_ten_seconds(now: list[float], lines: Lines) -> None:
    with Progress("train", 100, "updates") as progress:
        progress.advance()
        for _ in range(59):
            now[0] += 0.5
            progress.advance(1, loss=1.23456, steps=40_000)
        assert lines() == [
            "train: 21%, 21/100 updates, 0:10, 0:40 left; loss 1.235  steps 4e+04",
            "train: 41%, 41/100 updates, 0:20, 0:30 left; loss 1.235  steps 4e+04",
        ]
        now[0] += 20
        progress.advance(40)
        assert lines() == ["train: 100%, 100/100 updates, 0:50; loss 1.235  steps 4e+04"]
    assert lines() == ["train: 100%, 100/100 updates, 0:50; loss 1.235  steps 4e+04"]


def test_a_resumed_count_does_not_speed_up_the_estimate(now: list[float], lines: Lines) -> None:
    with Progress("train", 1000, "updates") as progress:
        progress.advance(800)
        assert progress.remaining() is None
        now[0] += 10
        progress.advance(10)
        assert progress.remaining() == pytest.approx(190)
        assert lines() == ["train: 81%, 810/1000 updates, 0:10, 3:10 left"]


def test_a_slow_start_does_not_spoil_the_estimate(now: list[float]) -> None:
    with Progress("train", 101, "updates") as progress:
        now[0] += 30
        progress.advance()
        now[0] += 1
        progress.advance()
        assert progress.remaining() == pytest.approx(99)


def test_an_exception_leaves_the_last_line_and_goes_through(lines: Lines) -> None:
    progress = Progress("train", 4, "updates")
    progress.advance(3, n=2.0)
    with pytest.raises(KeyboardInterrupt), progress:
        raise KeyboardInterrupt
    assert lines() == ["train: 75%, 3/4 updates, 0:00, -:-- left; n 2"]


@pytest.mark.parametrize(("total", "done"), [(0, 0), (0, 3), (2, 5)])
def test_odd_totals(total: int, done: int, lines: Lines) -> None:
    with Progress("x", total, "things") as progress:
        progress.advance(done)
    assert lines() == [f"x: 100%, {done}/{total} things, 0:00"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_live_line_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    with Progress("train_target", 1000, "updates") as progress:
        for _ in range(1000):
            progress.advance(1, loss=0.5, inferred=800.0, something_long=12345.678)
    shown = terminal.getvalue()
    assert "1000/1000 updates" in shown
    assert "something_long" not in shown
    assert "…" in shown
    # One line feed when the display ends, none while it is drawn over and over.
    assert shown.count("\n") == 1


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with Progress("x", 1, "things") as progress:
        progress.advance()
    assert terminal.getvalue() == "x: 100%, 1/1 things, 0:00\n"


def test_a_line_is_put_together_only_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    describe = Progress.describe
    monkeypatch.setattr(Progress, "describe", lambda progress: lines.append(describe(progress)) or lines[-1])
    monkeypatch.setenv("TELEPATH_PROGRESS_SECONDS", "3600")
    with Progress("x", 1000, "things") as progress:
        for _ in range(1000):
            progress.advance(1, steps=1, loss=0.5)
        assert lines == []
    assert len(lines) == 1


def test_a_bad_interval_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_PROGRESS_SECONDS", "often")
    with pytest.raises(UserError, match=r"^TELEPATH_PROGRESS_SECONDS: 'often'"):
        Progress("x", 1, "things")


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]

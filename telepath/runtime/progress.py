"""How far a stage is: one live line on a terminal, a plain line now and then in a log."""

import os
import sys
import time
from types import TracebackType
from typing import Self, SupportsFloat, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from telepath.runtime.environment import PROGRESS_SECONDS
from telepath.runtime.live import Watcher

DEFAULT_SECONDS = 10.0
REFRESHES_PER_SECOND = 4
BAR_WIDTH = 24


class Progress:
    """Counts ``total`` units of work and shows on stderr how many are done, the time left, and figures.

    Where stderr is no terminal, a plain line appears every ``TELEPATH_PROGRESS_SECONDS`` at most (default 10)
    and one at the end. Speed is measured from the first ``advance`` on: work that an earlier session did,
    and compilation before the first unit, do not spoil it. So after a resume, first advance by what is done.
    What the line shows now and then goes to ``watcher`` as it comes.
    """

    def __init__(self, label: str, total: int, unit: str, watcher: Watcher | None = None):
        self.label, self.total, self.unit = label, total, unit
        self._watcher = watcher
        self.count = 0
        self.figures: dict[str, SupportsFloat] = {}
        self._interval = PROGRESS_SECONDS.read(DEFAULT_SECONDS)
        self._begin = time.monotonic()
        self._next_line = self._begin + self._interval
        self._first: tuple[float, int] | None = None  # when the speed's clock started, and at which count
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Start the clock, and the live line where there is a terminal."""
        self._begin = time.monotonic()
        self._next_line = self._begin + self._interval
        if is_terminal(sys.stderr):
            # The line is drawn by Live's own thread: `advance` only has to count.
            self._live = Live(
                get_renderable=self._line,
                console=Console(stderr=True),
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last line standing."""
        if self._watcher is not None:
            self._watcher.close()
        if self._live is not None:
            self._live.stop()
            self._live = None
        else:
            self._print()

    def advance(self, n: int = 1, /, **figures: SupportsFloat) -> None:
        """``n`` more units are done; ``figures`` are the newest values of what is worth watching.

        They are made numbers when somebody looks: a GPU need not be waited for.
        """
        now = time.monotonic()
        self.count += n
        if figures:
            self.figures = figures
        if self._watcher is not None:
            self._watcher.add(self.count, figures)
        if self._first is None:
            self._first = (now, self.count)
        if self._live is None and now >= self._next_line:
            self._print()
            self._next_line = now + self._interval

    def remaining(self) -> float | None:
        """Seconds that the rest takes at this session's speed; None while that is unknown."""
        if self.count >= self.total:
            return 0.0
        if self._first is None or self.count <= self._first[1]:
            return None
        begin, count = self._first
        return (time.monotonic() - begin) / (self.count - count) * (self.total - self.count)

    def describe(self) -> str:
        """The plain line: share, count, time spent, time left, figures."""
        share = 100 if self.total <= 0 else min(100, 100 * self.count // self.total)
        parts = [f"{share}%", f"{self.count}/{self.total} {self.unit}", *self._times()]
        return f"{self.label}: {', '.join(parts)}{self._figures('; ')}"

    def _times(self) -> list[str]:
        elapsed, left = clock(time.monotonic() - self._begin), self.remaining()
        return [elapsed] if left == 0 else [elapsed, "-:-- left" if left is None else f"{clock(left)} left"]

    def _figures(self, before: str) -> str:
        # A copy, because the thread that draws must not meet a dict that is being replaced.
        figures = dict(self.figures)
        return before + "  ".join(f"{name} {float(value):.4g}" for name, value in figures.items()) if figures else ""

    def _line(self) -> Text:
        # One text that is cut off at the right: on a narrow terminal the figures go first.
        filled = BAR_WIDTH if self.total <= 0 else min(BAR_WIDTH, BAR_WIDTH * self.count // self.total)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self.label} ", "bold")
        line.append("━" * filled, "green").append("━" * (BAR_WIDTH - filled), "bright_black")
        line.append(f" {self.count}/{self.total} {self.unit} ")
        return line.append(", ".join(self._times()), "cyan").append(self._figures("  "))

    def _print(self) -> None:
        print(self.describe(), file=sys.stderr, flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a line on the stream can be drawn over again."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def clock(duration: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

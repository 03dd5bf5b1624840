"""Figures of a running stage for those who watch it: a CSV file that grows, and TensorBoard or W&B where asked for.

Nothing here is an output of a stage or decides one: whoever is killed, resumed or watched ends in the same bytes. A
resumed run goes on behind its checkpoint; what was noted beyond that is taken back, so that no count comes twice.
"""

import contextlib
import csv
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsFloat

from telepath.errors import UserError
from telepath.files import one_line, write_atomically
from telepath.runtime.environment import LOG

TRACKERS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}
"""What ``TELEPATH_LOG`` may ask for: names, which are those of the packages to install, and modules that are used."""

POINTS = 500
"""Rows of a curve, at most, and some: so small that nobody has to clear up."""


class Watcher:
    """Takes a stage's figures as they come, at counts that are ``total / POINTS`` apart.

    The file is ``folder``/curves/``name``.csv: a column ``unit`` with the count, and one for each figure, empty where
    there was none yet. ``name`` is the same for a resumed run, and for no other.
    """

    def __init__(self, folder: Path, name: str, total: int, unit: str):
        """``UserError`` where ``TELEPATH_LOG`` means nothing or its package is missing."""
        self._folder, self._name, self._unit = folder, name.replace("@", "-"), unit
        self.path = folder / "curves" / f"{self._name}.csv"
        self._every = max(1, total // POINTS)
        self._columns = [unit]
        self._next: int | None = None
        self._kind, self._module = wanted_tracker()
        self._tracker: Any = None

    def add(self, count: int, figures: Mapping[str, SupportsFloat]) -> None:
        """The figures after ``count`` units; the first call says where this session begins."""
        if self._next is None:
            self._begin(count if figures else count + 1)
        assert self._next is not None
        if not figures or count < self._next:
            return
        self._next = (count // self._every + 1) * self._every
        numbers = {name: float(value) for name, value in figures.items()}
        # Watching must not stop the work: a disk may be full.
        with contextlib.suppress(OSError, UserError):
            self._append(count, numbers)
        if self._kind == "tensorboard":
            for name, value in numbers.items():
                self._tracker.add_scalar(name, value, count)
        elif self._kind == "wandb":
            self._tracker.log(numbers, step=count)

    def close(self) -> None:
        """Nothing more comes."""
        if self._tracker is not None:
            self._tracker.close() if self._kind == "tensorboard" else self._tracker.finish()
            self._tracker = None

    def _begin(self, first: int) -> None:
        """Take back what is at ``first`` or behind it."""
        self._next = 0
        columns, rows = read_curve(self.path)
        kept = [row for row in rows if int(row[0]) < first]
        self._columns = columns if kept and columns[0] == self._unit else [self._unit]
        if self.path.exists():
            with contextlib.suppress(OSError, UserError):
                self._rewrite(kept if len(self._columns) > 1 else [])
        if self._module is not None:
            try:
                self._tracker = self._start_tracker(self._module, first)
            except Exception as error:  # whatever a tracker trips over: no account, no network, a full disk
                reason = f"{self._kind} cannot be started ({one_line(error)})"
                raise UserError(f"{LOG.name}: {reason}; mend it or unset it") from None

    def _start_tracker(self, module: ModuleType, first: int) -> Any:
        if self._kind == "tensorboard":
            return module.SummaryWriter(str(self._folder / "tensorboard" / self._name), purge_step=first)
        stage = self._name.rpartition("-")[0]
        return module.init(project="telepath", name=stage, id=self._name, resume="allow", dir=str(self._folder))

    def _append(self, count: int, numbers: Mapping[str, float]) -> None:
        new = [name for name in numbers if name not in self._columns]
        if new:
            _, rows = read_curve(self.path)
            self._columns += new
            self._rewrite(rows)
        values = [f"{numbers[name]:.6g}" if name in numbers else "" for name in self._columns[1:]]
        # One call to the system: whoever reads meanwhile sees the row whole or not at all.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{','.join([str(count), *values])}\n".encode())
        finally:
            os.close(descriptor)

    def _rewrite(self, rows: list[list[str]]) -> None:
        width = len(self._columns)
        lines = [self._columns, *(row + [""] * (width - len(row)) for row in rows)]
        write_atomically(self.path, "".join(f"{','.join(line)}\n" for line in lines))


def wanted_tracker() -> tuple[str, ModuleType | None]:
    """What ``TELEPATH_LOG`` asks for, and its module; an empty name for nothing. Otherwise a ``UserError``."""
    kind = LOG.read("")
    if not kind:
        return "", None
    try:
        return kind, importlib.import_module(TRACKERS[kind])
    except ImportError:
        raise UserError(f"{LOG.name}: {kind} is not installed; run `pip install {kind}`, or unset it") from None


def read_curve(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns, and the rows that are whole, as text; nothing where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [""], []
    header, *rows = list(csv.reader(text[: text.rfind("\n") + 1].replace("\0", "").splitlines())) or [[""]]
    whole = [row for row in rows if len(row) == len(header) and row[0].isascii() and row[0].isdigit()]
    return header or [""], whole

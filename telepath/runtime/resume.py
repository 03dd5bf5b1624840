"""Checkpoints of a running stage: where they lie, who may write them, and how often."""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from telepath.errors import UserError
from telepath.files import unwritable
from telepath.runtime.environment import CHECKPOINT_SECONDS
from telepath.runtime.store import load_state, save_state

DEFAULT_SECONDS = 30.0
PATIENCE = 1.0
"""Seconds to wait for a lock: whoever was stopped just now may take a moment to go."""
OLD = 7 * 24 * 3600.0
"""Seconds after which a finished checkpoint goes in any case."""


class Scratch:
    """A folder with one checkpoint and numbered parts, locked for as long as the ``with`` block lasts.

    The lock is the kernel's (``fcntl``): it goes when the process goes, however that happens, and forked
    workers do not inherit it. A process has one ``Scratch`` for a folder; its ``with`` blocks may be nested.
    ``TELEPATH_CHECKPOINT_SECONDS`` is the time between checkpoints (default 30; 0: a checkpoint each time). Parts are
    for work that falls into independent pieces, done in any order: each is a file of its own, written when it is done.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE):
        self.folder, self._patience = folder, patience
        self._state, self._finished = folder / "state.safetensors", folder / "finished"
        self._interval = CHECKPOINT_SECONDS.read(DEFAULT_SECONDS)
        self._due = 0.0
        self._lock: int | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        """Take the lock; a ``UserError`` names the process that has it."""
        if self._depth == 0:
            self._lock = acquire(self.folder / "lock", self._patience)
        self._depth += 1
        self._due = time.monotonic() + self._interval
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back; a folder without a checkpoint goes too."""
        self._depth -= 1
        if self._depth:
            return
        assert self._lock is not None
        if not self.holds_state():
            # While it is locked, so that nobody can have found the lock file who might still come to own it:
            # `acquire` looks once more whether what it locked is what has the name.
            with contextlib.suppress(OSError):
                (self.folder / "lock").unlink()
                self.folder.rmdir()
        os.close(self._lock)
        self._lock = None

    def holds_state(self) -> bool:
        """Whether there is a checkpoint or a part of one; asks no lock."""
        return self._state.exists() or any(True for _ in self._parts())

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None. A damaged one is reported on stderr and counts as none."""
        return self._read(self._state) if self._state.exists() else None

    def load_parts(self) -> dict[int, dict[str, Any]]:
        """The parts that were saved, by number. A damaged one is reported on stderr and left out."""
        read = {int(path.name.split(".")[0]): self._read(path) for path in sorted(self._parts())}
        return {number: part for number, part in read.items() if part is not None}

    def _parts(self) -> Iterator[Path]:
        return self.folder.glob("[0-9]*.state.safetensors")

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return dict(load_state(path, kind="checkpoint"))
        except UserError as error:
            print(f"telepath: {error.args[0].partition(';')[0]}; starting over", file=sys.stderr, flush=True)
            return None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, all or nothing."""
        self._demand_lock()
        save_state(self._state, state, kind="checkpoint")
        # Counted from the end: a slow disk must not make the stage do nothing but save.
        self._due = time.monotonic() + self._interval

    def save_part(self, number: int, part: dict[str, Any]) -> None:
        """Write the part with this number, all or nothing."""
        self._demand_lock()
        save_state(self.folder / f"{number:06}.state.safetensors", part, kind="checkpoint")

    def save_if_due(self, make_state: Callable[[], dict[str, Any]]) -> bool:
        """Save if the interval is over; ``make_state`` is called only then. True if saved."""
        if time.monotonic() < self._due:
            return False
        self.save(make_state())
        return True

    def clear(self) -> None:
        """Forget the checkpoint."""
        self._demand_lock()
        for leftover in (*self.folder.glob("*state.safetensors*"), self._finished):
            with contextlib.suppress(OSError):
                leftover.unlink()

    def finish(self, made: Iterable[str] = ()) -> None:
        """The checkpoint has served, but keep it until ``sweep`` finds what was ``made`` of it, hashes, in safety."""
        self._demand_lock()
        if self.holds_state():
            self._finished.write_text("\n".join(made), encoding="utf-8")

    def is_left_over(self, recorded: str = "") -> bool:
        """Whether nobody will ever ask for this folder: its work is done, or it was killed before it had any.

        Done is what ``recorded`` has all the hashes of, and what nobody has recorded for long.
        """
        try:
            made = self._finished.read_text(encoding="utf-8").split()
            age = time.time() - self._finished.stat().st_mtime
        except FileNotFoundError:
            return not self.holds_state()
        return age > OLD or all(each in recorded for each in made)

    def _demand_lock(self) -> None:
        assert self._lock is not None, "a Scratch is written only inside its `with` block"


def sweep(folder: Path, keep: Path, recorded: str = "") -> None:
    """Remove the scratch folders under ``folder`` that are left over and not in use, all but ``keep``.

    recorded: a text with the hashes of all that is in safety.
    """
    for each in folder.glob("*/"):
        with contextlib.suppress(UserError, OSError):
            if each.name != keep.name and Scratch(each).is_left_over(recorded):
                with Scratch(each, patience=0.0) as scratch:
                    # Looked at again under the lock: somebody may have come and gone meanwhile.
                    if scratch.is_left_over(recorded):
                        scratch.clear()


@contextlib.contextmanager
def locked(path: Path, patience: float, work: str) -> Iterator[None]:
    """Hold the lock at ``path`` as ``acquire`` takes it; the file goes with it."""
    descriptor = acquire(path, patience, work)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is locked, as in ``Scratch``
        os.close(descriptor)


def acquire(path: Path, patience: float = 0.0, work: str = "the same stage with the same inputs") -> int:
    """Lock the file at ``path`` for this process alone and write our pid into it; returns its descriptor.

    ``work``: what the owner of the lock is said to be at.

    Raises ``UserError`` if another process still has it after ``patience`` seconds. Says so on stderr if it waits for
    longer than is usual.
    """
    begin, told = time.monotonic(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and time.monotonic() - begin < PATIENCE:
                continue  # its owner removed the folder between the two calls
            raise UserError(f"{path}: {unwritable(error)}") from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_named(descriptor, path):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        except (BlockingIOError, PermissionError):
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            waited = time.monotonic() - begin
            why = f"{path.parent}: process {owner} is at work on {work}"
            if waited >= patience:
                raise UserError(f"{why}; wait until it is done, or stop it") from None
            if waited >= PATIENCE and not told:
                print(f"telepath: {why}; waiting until it is done", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.05)
            continue
        except OSError as error:
            os.close(descriptor)
            raise UserError(f"{path}: {unwritable(error)}") from None
        os.close(descriptor)


def is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

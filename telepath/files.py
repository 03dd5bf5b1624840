"""Files written whole or not at all, and one line that says why where that fails."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from telepath.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
MEND = "delete it and run `dvc repro`"


@dataclass(frozen=True)
class Held:
    """Files and folders whose new content is held back, and where it lies meanwhile."""

    places: tuple[Path, ...]
    ready: dict[Path, Path] = field(default_factory=dict)

    def holds(self, path: Path) -> bool:
        """Whether the path is one of the places, or lies in one."""
        return any(place == path or place in path.parents for place in self.places)


_held: ContextVar[Held | None] = ContextVar("held", default=None)


@contextlib.contextmanager
def together(places: Iterable[Path]) -> Iterator[None]:
    """What is written to these files, or into these folders, takes its place when the block has come to its end: all of
    it, or nothing where the block fails. Meanwhile ``read`` finds the new content already.
    """
    held = Held(tuple(places))
    token = _held.set(held)
    try:
        yield
        for path, temporary in held.ready.items():
            _replace(temporary, path)
    finally:
        _held.reset(token)
        for temporary in held.ready.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace the file at ``path`` in one step that survives a crash of the process or of the machine.

    Text is written as UTF-8. Raises ``UserError`` where the file cannot be written; what was there before is unharmed.
    """
    # One fixed name beside the file: what a killed process leaves there, the next write takes over.
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise UserError(f"{path}: {unwritable(error)}") from None
    held = _held.get()
    if held is not None and held.holds(path):
        held.ready[path] = temporary
    else:
        _replace(temporary, path)


def _replace(temporary: Path, path: Path) -> None:
    """Give a file that is on disk its name."""
    try:
        try:
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path}: {unwritable(error)}") from None


def unwritable(error: OSError) -> str:
    """Why a file cannot be written, and the mend."""
    if error.errno in FULL:
        return f"cannot be written ({error.strerror}); what was there before is whole: make room, then run this again"
    return f"cannot be written ({error.strerror}); make the folder writable or free the name"


def sync_folder(folder: Path) -> None:
    """Have the folder's entries on disk: a rename is safe only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes:
    """The bytes of a file; ``UserError`` where there is none, or where it cannot be read."""
    held = _held.get()
    place = path if held is None else held.ready.get(path, path)
    try:
        mode = place.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe, say: one would wait for it for ever
            raise UserError(f"{path}: is no regular file; {MEND}")
        return place.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` (or `dvc pull`) to make it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable, or {MEND}") from None
    except MemoryError:
        raise UserError(f"{path}: is larger than the memory that there is; {MEND}") from None


def one_line(reason: object) -> str:
    """What some library says of an error, in one line of bearable length."""
    text = " ".join(str(reason).split())
    return text if len(text) <= 200 else f"{text[:200]}..."

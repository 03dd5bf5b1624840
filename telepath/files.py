"""Files written whole or not at all, and one line that says why where that fails."""

import contextlib
import errno
import os
from pathlib import Path

from telepath.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
MEND = "delete it and run `dvc repro`"


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
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` (or `dvc pull`) to make it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {MEND}") from None


def one_line(reason: object) -> str:
    """What some library says of an error, in one line of bearable length."""
    text = " ".join(str(reason).split())
    return text if len(text) <= 200 else f"{text[:200]}..."

"""What stages took, session by session: minutes differ from run to run, so they are kept apart from all results."""

import contextlib
import csv
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LEDGER = "sessions.csv"
"""Its file, where checkpoints lie."""


class Session(NamedTuple):
    """A stretch of work: seconds by the clock on the wall, MiB at the process's peak, whether it brought the end."""

    seconds: float
    mebibytes: float
    finished: bool


@contextlib.contextmanager
def session(ledger: Path, stage: str, fingerprint: str) -> Iterator[None]:
    """Add a line to the ledger when the block ends, however it does. Only SIGKILL leaves none."""
    begin, finished = time.monotonic(), False
    try:
        yield
        finished = True
    finally:
        line = f"{stage},{fingerprint},{time.monotonic() - begin:.2f},{peak_mebibytes():.1f},{finished:d}\n"
        # No work may fail because its cost could not be noted. A short line is written whole, whoever else writes.
        with contextlib.suppress(OSError):
            ledger.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)


def peak_mebibytes() -> float:
    """The most memory that this process has had at a time."""
    # KiB, but bytes on a Mac.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def last_run(ledger: Path, stage: str, fingerprint: str) -> list[Session]:
    """The sessions of the last run that came to its end, oldest first. Damaged lines are skipped."""
    try:
        lines = ledger.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    run: list[Session] = []
    done: list[Session] = []
    for row in csv.reader(lines):
        if row[:2] != [stage, fingerprint] or len(row) != 5:
            continue
        with contextlib.suppress(ValueError):
            found = Session(float(row[2]), float(row[3]), row[4] == "1")
            if not all(map(math.isfinite, found)):
                continue
            run.append(found)
            if found.finished:
                done, run = run, []
    return done

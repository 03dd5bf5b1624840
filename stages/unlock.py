"""What `make repro` does first: remove lock files of DVC's that a killed DVC left half written. Not a stage.

An unreadable one would stop every further `dvc repro`, or `dvc queue start`. One that can be read is left alone: DVC
itself finds out whether the processes that it names still live.
"""

import json
from pathlib import Path

LOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))
"""The workspace's, and that of queued experiments."""


def unlock(path: Path) -> bool:
    """Remove the lock file if it is not a JSON object; whether it was."""
    try:
        broken = not isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except FileNotFoundError:
        return False
    except ValueError:
        broken = True
    if broken:
        path.unlink(missing_ok=True)
        print(f"telepath: {path}: was left broken by a DVC that was killed; removed")
    return broken


if __name__ == "__main__":
    for lock in LOCKS:
        unlock(lock)

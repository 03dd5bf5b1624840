"""What `make repro` does first: mend the files that a DVC which was killed left half written. Not a stage.

DVC writes them in place, and an unreadable one would stop every further `dvc repro`, or `dvc queue start`. Its lock
files go; one that can be read is left alone: DVC itself finds out whether the processes that it names still live. A
dvc.lock becomes what git last recorded, or goes as well: what was done since is in DVC's run cache, and nothing is done
again. And the tables that no stage makes, costs.csv and seeds.csv, are taken from git where they are missing.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from stages.artefacts import RECORDS
from telepath.errors import UserError
from telepath.files import write_atomically

LOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))
"""The workspace's, and that of queued experiments."""


TABLES = (Path("costs.csv"), Path("seeds.csv"))


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


def restore(path: Path) -> bool:
    """Put the committed dvc.lock in the place of one that DVC would not read, or remove it; whether it was so."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # here, because it takes half a second

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text(encoding="utf-8")))
        return False
    except FileNotFoundError:
        return False
    except Exception:  # whatever yaml and the schema trip over
        pass
    committed = in_git(path)
    if committed is None:
        path.unlink()
    else:
        write_atomically(path, committed)
    done = "removed" if committed is None else "restored from git"
    print(f"telepath: {path}: was left broken by a DVC that was killed; {done}, DVC's cache has what was done")
    return True


def in_git(path: Path) -> bytes | None:
    """The file as it was committed, if it was."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    committed = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)
    return None if committed.returncode else committed.stdout


def bring_back(path: Path) -> bool:
    """Put the committed file where there is none; whether there was none, and one in git."""
    if path.exists() or (committed := in_git(path)) is None:
        return False
    write_atomically(path, committed)
    print(f"telepath: {path}: was missing; restored from git")
    return True


def main() -> None:
    """Mend them all."""
    for lock in LOCKS:
        unlock(lock)
    for record in RECORDS:
        restore(record)
    for table in TABLES:
        bring_back(table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"telepath: unlock: {error}")
    except OSError as error:
        sys.exit(
            f"telepath: unlock: {error.filename}: {error.strerror}; free the name, or make it readable and writable"
        )

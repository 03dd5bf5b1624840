"""A full disk: the file before stays whole, and one line names the path."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.unlock import bring_back, restore, unlock
from telepath.episodes import load_arrays, save_arrays
from telepath.errors import UserError
from telepath.files import write_atomically
from telepath.runtime.resume import Scratch
from telepath.runtime.store import load_state, save_state

Writer = Callable[[Path, int], Any]
WRITERS: dict[str, tuple[Writer, Callable[[Path], int]]] = {
    "state": (
        lambda path, n: save_state(path, {"n": n, "bulk": torch.zeros(300_000)}, kind="test"),
        lambda path: load_state(path, "test")["n"],
    ),
    "arrays": (
        lambda path, n: save_arrays(path, {"n": np.array(n), "bulk": np.zeros(300_000, np.float32)}),
        lambda path: int(load_arrays(path, ["n"])["n"]),
    ),
    "text": (lambda path, n: write_atomically(path, f"{n}\n" + 1_200_000 * "x"), lambda path: int(path.read_text()[0])),
}


def says(path: Path, write: Callable[[], Any]) -> None:
    with pytest.raises(UserError) as raised:
        write()
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{path}: cannot be written (No space left on device)")
    assert "make room" in line


@pytest.mark.parametrize("call", ["fsync", "open"])
@pytest.mark.parametrize("kind", WRITERS)
def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: str) -> None:
    write, read = WRITERS[kind]
    path = tmp_path / "file"
    write(path, 1)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*("os.fsync", full) if call == "fsync" else ("builtins.open", full))
        says(path, lambda: write(path, 2))
    assert read(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_lock_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        says(tmp_path / "s" / "lock", lambda: Scratch(tmp_path / "s").__enter__())
    with Scratch(tmp_path / "s") as scratch:
        assert scratch.load() is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_up(small_disk: Path, kind: str) -> None:
    write, read = WRITERS[kind]
    path = small_disk / "file"
    write(path, 1)  # 1.2 MB: there is no room for a second one beside it
    says(path, lambda: write(path, 2))
    assert read(path) == 1
    assert [p.name for p in small_disk.iterdir()] == ["file"]


def test_a_checkpoint_outlives_a_disk_that_fills_up(small_disk: Path) -> None:
    with Scratch(small_disk / "s") as scratch:
        scratch.save({"updates": 1, "bulk": torch.zeros(300_000)})
        says(small_disk / "s" / "state.safetensors", lambda: scratch.save({"updates": 2, "bulk": torch.zeros(300_000)}))
    with Scratch(small_disk / "s") as scratch:
        state = scratch.load()
    assert state is not None
    assert state["updates"] == 1


LOCKED = """
schema: '2.0'
stages:
  check:
    cmd: python -m stages.check
    deps:
    - path: params.yaml
      hash: md5
      md5: e73d86c679e15d81b501c705826cdcd4
      size: 1297
""".lstrip()


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=folder, check=True)


@pytest.mark.parametrize("committed", [False, True])
def test_a_broken_record_of_dvc_s_is_restored_and_a_whole_one_stays(tmp_path: Path, committed: bool) -> None:
    path = tmp_path / "dvc.lock"
    assert not restore(path)
    git(tmp_path, "init", "-q")
    path.write_text(LOCKED)
    if committed:
        git(tmp_path, "add", "dvc.lock")
        git(tmp_path, "commit", "-qm", "lock")
    newer = LOCKED.replace("1297", "1298")
    path.write_text(newer)
    assert not restore(path)
    assert path.read_text() == newer
    for end in ("schema", "2.0'", "check:", "python", "- path"):
        path.write_text(newer[: newer.index(end)])
        assert restore(path)
        assert path.exists() == committed
        assert not committed or path.read_text() == LOCKED


@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_a_folder_in_the_place_of_one_is_named(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / name).mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ended = subprocess.run(
        [sys.executable, "-m", "stages.unlock"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"telepath: unlock: {name}: Is a directory; free the name")


def test_a_broken_lock_of_dvc_s_goes_and_a_whole_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "rwlock"
    assert not unlock(path)
    path.write_text('{"/data": {"write": {"pid": 1, "cmd": "dvc repro"}}}')
    assert not unlock(path)
    assert path.exists()
    for broken in ("", '{"/data": ', "[]"):
        path.write_text(broken)
        assert unlock(path)
        assert not path.exists()


def test_a_table_that_no_stage_makes_comes_back_from_git(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    assert not bring_back(path)  # there is no repository
    path.write_text("stage\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "costs.csv"], cwd=tmp_path, check=True)
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run(["git", *who, "commit", "-qm", "table"], cwd=tmp_path, check=True)
    path.write_text("mine\n")
    assert not bring_back(path)
    assert path.read_text() == "mine\n"
    path.unlink()
    assert bring_back(path)
    assert path.read_text() == "stage\n"

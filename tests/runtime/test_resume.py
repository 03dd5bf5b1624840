"""Checkpoints: the lock, the interval, and what a damaged one does."""

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from telepath.errors import UserError
from telepath.runtime.resume import Scratch, sweep

HOLDER = """
import sys
import threading
from pathlib import Path
from telepath.runtime.resume import Scratch, sweep
with Scratch(Path(sys.argv[1])) as scratch:
    scratch.save({"held": True})
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock; it lets go when its stdin is closed."""
    program = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_save_load_clear(tmp_path: Path) -> None:
    with Scratch(tmp_path / "a" / "b") as scratch:
        assert scratch.load() is None
        scratch.save({"updates": 3, "weight": torch.ones(2)})
    with Scratch(tmp_path / "a" / "b") as scratch:
        state = scratch.load()
        assert state is not None
        assert state["updates"] == 3
        scratch.clear()
        assert scratch.load() is None
    assert list((tmp_path / "a").iterdir()) == []


def test_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("telepath.runtime.resume.time.monotonic", lambda: now[0])
    calls = []

    def make() -> dict[str, int]:
        calls.append(now[0])
        return {"calls": len(calls)}

    with Scratch(tmp_path / "s") as scratch:
        for now[0] in (100.0, 129.0, 130.0, 131.0, 159.0, 161.0):
            assert scratch.save_if_due(make) == (now[0] in (130.0, 161.0))
        assert scratch.load() == {"calls": 2}
    assert calls == [130.0, 161.0]
    monkeypatch.setenv("TELEPATH_CHECKPOINT_SECONDS", "0")
    with Scratch(tmp_path / "s") as scratch:
        assert scratch.save_if_due(make)
        assert scratch.save_if_due(make)


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_bad_interval_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TELEPATH_CHECKPOINT_SECONDS", value)
    with pytest.raises(UserError, match=r"^TELEPATH_CHECKPOINT_SECONDS: "):
        Scratch(tmp_path)


def test_a_damaged_checkpoint_is_reported_and_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Scratch(tmp_path) as scratch:
        scratch.save({"a": 1})
        path = tmp_path / "state.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert scratch.load() is None
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"telepath: {path}: ")
        assert line.endswith("; starting over")
        scratch.save({"a": 2})
        assert scratch.load() == {"a": 2}


def test_a_second_process_is_told_who_has_it_and_a_dead_one_has_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with holder(folder) as process:
        with pytest.raises(UserError, match=f"process {process.pid} is at work"), Scratch(folder):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Scratch(folder) as scratch:
            assert scratch.load() == {"held": True}
            assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_writing_without_the_lock_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="with"):
        Scratch(tmp_path).save({})


def test_a_scratch_that_is_deleted_in_use_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / ".telepath" / "s"
    with Scratch(folder) as scratch:
        scratch.save({"a": 1})
        shutil.rmtree(tmp_path / ".telepath")
        scratch.save({"a": 2})
        scratch.save_part(0, {"b": 3})
        assert scratch.load() == {"a": 2}
        shutil.rmtree(tmp_path / ".telepath")
        scratch.finish()
        scratch.clear()
    with Scratch(folder) as scratch:
        assert scratch.load() is None
        assert scratch.load_parts() == {}


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), Scratch(tmp_path / "file" / "s"):
        pass


def test_where_a_folder_is_refused_as_if_it_were_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path, **options: bool) -> None:  # as /proc does it
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "mkdir", nowhere)
    monkeypatch.setattr("telepath.runtime.resume.PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"lock: cannot be written \(No such file"), Scratch(tmp_path / "s"):
        pass


def test_blocks_may_be_nested_and_the_last_one_gives_the_lock_back(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    scratch = Scratch(folder)
    with scratch:
        with scratch:
            scratch.save({"a": 1})
        scratch.save({"a": 2})
        # Another process cannot come in between: the inner block has not given the lock away.
        other = subprocess.run([sys.executable, "-c", HOLDER, str(folder)], capture_output=True, text=True)
        assert "is at work" in other.stderr
        scratch.clear()
    assert not folder.exists()


def test_a_lock_is_waited_for_a_little(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        killer = threading.Timer(0.2, process.kill)
        killer.start()
        with Scratch(tmp_path) as scratch:
            assert scratch.load() == {"held": True}
        killer.join()


def test_a_finished_checkpoint_goes_when_somebody_sweeps(tmp_path: Path) -> None:
    for name in ("finished", "interrupted", "mine", "empty", "used"):
        with Scratch(tmp_path / name) as scratch:
            scratch.save({"name": name})
            if name in ("finished", "mine"):
                scratch.finish()
    (tmp_path / "empty" / "state.safetensors").unlink()  # as of somebody who was killed before he had one
    (tmp_path / "used" / "finished").touch()
    with holder(tmp_path / "used"):
        sweep(tmp_path, keep=tmp_path / "mine")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["interrupted", "mine", "used"]
    with Scratch(tmp_path / "mine") as scratch:
        assert scratch.load() == {"name": "mine"}
    sweep(tmp_path / "nowhere", keep=tmp_path)


def test_a_patient_one_waits_says_so_and_goes_on_from_what_it_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path / "s") as other:
        timer = threading.Timer(1.5, other.kill)
        timer.start()
        with Scratch(tmp_path / "s", patience=math.inf) as scratch:
            assert scratch.load() == {"held": True}
        timer.join()
    assert capsys.readouterr().err == (
        f"telepath: {tmp_path / 's'}: process {other.pid} is at work on the same stage with the same inputs; "
        "waiting until it is done\n"
    )

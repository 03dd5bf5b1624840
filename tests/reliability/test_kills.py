"""A stage killed at random moments, each time started again, ends in the bytes of one that was left alone.

A handful, of a stage, of a rival and of a queued experiment; `python -m benchmarks.kills` and
`python -m benchmarks.queued` kill the whole pipeline as often as one likes.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from benchmarks.kills import Tally, digests
from benchmarks.queued import Queued, strike
from benchmarks.tiny import TINY, Project, copy_project

COMMAND = (sys.executable, "-m", "stages.train_source")
SLOWER = {
    "source.training.first_updates": 30,
    "source.training.update_ratio": 0.02,
    "rivals.bco.hidden": 16,
    "rivals.bco.update_ratio": 0.05,
    "evaluate.episodes": 6,
}
ORDERED = """
import os, subprocess, sys
stage = subprocess.Popen(sys.argv[1:], env=os.environ | {"DVC_STAGE": "train_source"})
print(stage.pid, flush=True)
stage.wait()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("killed"))
    project.set(**TINY | SLOWER)
    project.environment |= {"TELEPATH_CHECKPOINT_SECONDS": "0", "TELEPATH_THREADS": "1"}
    (project.folder / "data").mkdir()
    (project.folder / "data" / "checked.txt").touch()
    project.run(sys.executable, "-m", "stages.collect_source")
    project.run(*COMMAND)
    return project


@pytest.fixture
def orders(project: Project) -> Iterator[subprocess.Popen[str]]:
    """Whoever orders a stage, as DVC does."""
    with subprocess.Popen(
        [sys.executable, "-c", ORDERED, *COMMAND],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def checkpoint(folder: Path) -> int:
    """When the last checkpoint was written, in nanoseconds; 0 without one."""
    return max((path.stat().st_mtime_ns for path in folder.glob(".telepath/scratch/*/state.safetensors")), default=0)


def kill_and_go_on(project: Project, command: tuple[str, ...], *numbers: signal.Signals, within: float = 0.1) -> int:
    """Start the stage for each signal, kill it ``within`` so many seconds after its next checkpoint, at last let it be;
    how many it hit.
    """
    rng, hit = random.Random(0), 0
    for number in numbers:
        before = checkpoint(project.folder)
        with subprocess.Popen(
            command, cwd=project.folder, env=project.environment, stderr=subprocess.PIPE, text=True
        ) as stage:
            while stage.poll() is None and checkpoint(project.folder) == before:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, within))
            stage.send_signal(number)
            assert stage.stderr is not None
            said = stage.stderr.read()
        hit += stage.returncode != 0
        if number != signal.SIGKILL and stage.returncode:
            name = command[2].removeprefix("stages.")
            assert said.endswith(
                f"telepath: {name}: interrupted; a rerun with the same settings goes on from the last checkpoint\n"
            )
    project.run(*command)
    return hit


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_bytes(project: Project) -> None:
    whole = digests(project.folder)
    for name in ("agent.safetensors", "episodes.npz", "curve.csv"):
        (project.folder / "data" / "source" / name).unlink()
    assert kill_and_go_on(project, COMMAND, signal.SIGKILL, signal.SIGTERM, signal.SIGINT) >= 2
    assert digests(project.folder) == whole
    assert not list((project.folder / ".telepath" / "scratch").iterdir())


@pytest.mark.slow
def test_so_do_a_rival_and_its_evaluation(project: Project) -> None:
    commands = [(sys.executable, "-m", f"stages.{stage}", "bco") for stage in ("train_rival", "evaluate_rival")]
    for command in ((sys.executable, "-m", "stages.check_rivals"), *commands):
        project.run(*command)
    whole = digests(project.folder)
    shutil.rmtree(project.folder / "data" / "rivals" / "bco")
    for command, number in zip(commands, (signal.SIGKILL, signal.SIGTERM), strict=True):
        assert kill_and_go_on(project, command, number, within=0.02) == 1  # an evaluation is over soon
    assert digests(project.folder) == whole
    assert sum(name.startswith("data/rivals/bco/") for name in whole) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_a_stage_dies_with_who_ordered_it_also_during_its_imports(
    orders: subprocess.Popen[str], seconds: float
) -> None:
    assert orders.stdout is not None
    stage = psutil.Process(int(orders.stdout.readline()))
    time.sleep(seconds)
    os.kill(orders.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([stage], timeout=3)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def begin_and_wait_for_a_checkpoint(victim: Queued) -> None:
    """Queue and start the experiment, and come back with its stage somewhere in the middle."""
    before = checkpoint(victim.project.folder)
    with ThreadPoolExecutor(1) as pool:
        # On a busy machine the stage may end before `dvc queue start` returns, so it is held as soon as it is at work.
        begun = pool.submit(victim.begin)
        while checkpoint(victim.project.folder) == before:
            assert not begun.done() or victim.processes(), f"it ended before it was struck: {victim.why()}"
            time.sleep(0.02)
        _, stage = victim.stage()
        assert stage is not None, f"it ended before it was struck: {victim.why()}"
        stage.suspend()
        begun.result()
    stage.resume()


@pytest.mark.slow
def test_a_queued_experiment_killed_and_queued_again_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    victim, tally = Queued(tmp_path / "project", tmp_path / "log", "train_source"), Tally()
    victim.project.environment["TELEPATH_CHECKPOINT_SECONDS"] = "0"
    victim.project.set(**{"source.training.first_updates": 1000})
    folder = victim.project.folder
    for number, whom in ((signal.SIGKILL, "executor"), (signal.SIGTERM, "stage"), (signal.SIGKILL, "all")):
        begin_and_wait_for_a_checkpoint(victim)
        strike(victim, number, whom, tally)
    assert not tally.troubles
    assert tally.stages["train_source"] >= 2
    # Now two of them at once, that share everything: one waits for what the other is at, and both end.
    for name in ("first", "second"):
        assert victim.dvc("exp", "run", "--queue", "-n", name, "train_source") == 0
    assert victim.dvc("queue", "start", "--jobs", "2") == 0
    assert victim.wait(600), victim.why()
    queued = victim.outputs("first")
    assert victim.outputs("second") == queued
    # All that was ever kept goes, and the stages are run by hand.
    shutil.rmtree(folder / ".telepath", ignore_errors=True)
    for stage in ("check", "collect_source", "train_source"):
        victim.project.run(sys.executable, "-m", f"stages.{stage}")
    assert queued == {path: hashlib.md5((folder / path).read_bytes()).hexdigest() for path in queued}
    assert "data/source/agent.safetensors" in queued

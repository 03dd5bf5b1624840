"""The label stage leaves the same bytes whoever does the work: it alone, processes, a cluster that loses a worker."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.tiny import TINY, Project, copy_project
from stages.artefacts import LABELS
from tests.cluster import running

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "stages.label")
SEGMENTS = 24
"""Each a chunk, and long enough at work that a kill meets somebody."""

LONGER = {"label.segments": SEGMENTS, "label.chunk": 1, "label.cem.iterations": 30, "label.cem.population": 48}
STAGES = """
import importlib, sys
from stages.harness import execute
for name in sys.argv[1:]:
    execute(importlib.import_module(f"stages.{name}").main, name)
"""
"""Several in one process: imports take the longest."""

VARIABLE = "TELEPATH_EXECUTOR"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything is there that the stage reads, and what it leaves when it does all by itself."""
    project = copy_project(tmp_path_factory.mktemp("label"))
    project.set(**TINY | LONGER)
    project.environment |= {"TELEPATH_THREADS": "1"}
    project.environment.pop(VARIABLE, None)
    project.run(
        sys.executable, "-c", STAGES, "check", "collect_source", "train_source", "explore_target", "train_belief"
    )
    project.run(*COMMAND)
    shutil.copy(project.folder / LABELS, project.folder / "alone.npz")
    return project


@contextmanager
def at_work(project: Project, where: str) -> Iterator[subprocess.Popen[str]]:
    """The stage, run by hand, when chunks have come back from there and others are to come."""
    (project.folder / LABELS).unlink(missing_ok=True)
    before = len(chunks(project))
    with subprocess.Popen(
        COMMAND,
        cwd=project.folder,
        env=project.environment | {VARIABLE: where},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as stage:
        try:
            while len(chunks(project)) < before + 2:
                assert stage.poll() is None, stage.stderr and stage.stderr.read()
                time.sleep(0.01)
            yield stage
        finally:
            stage.kill()


def chunks(project: Project) -> list[Path]:
    """What has come back so far."""
    return list(project.folder.glob(".telepath/scratch/label-*/*.state.safetensors"))


@pytest.fixture(autouse=True)
def _afresh(project: Project) -> None:
    """Without chunks that an earlier test has left."""
    shutil.rmtree(project.folder / ".telepath" / "scratch", ignore_errors=True)


def left(project: Project) -> bytes:
    return (project.folder / LABELS).read_bytes()


def alone(project: Project) -> bytes:
    return (project.folder / "alone.npz").read_bytes()


def test_through_dvc_in_processes(project: Project) -> None:
    project.environment[VARIABLE] = "process:2"
    try:
        assert "Running stage 'label'" in project.run("dvc", "repro", "-s", "label")
    finally:
        del project.environment[VARIABLE]
    assert left(project) == alone(project)


def test_a_killed_process_ends_the_stage_in_one_line_and_the_next_run_goes_on(project: Project) -> None:
    with at_work(project, "process:2") as stage:
        workers = [child for child in psutil.Process(stage.pid).children() if "spawn_main" in " ".join(child.cmdline())]
        workers[0].kill()
        _, said = stage.communicate(timeout=60)
    assert stage.returncode == 1
    last = said.splitlines()[-1]
    assert re.match(rf"telepath: label: {VARIABLE}: a worker process was killed, .*; what is done is kept", last), said
    kept = {path.name: path.stat().st_mtime_ns for path in chunks(project)}
    assert 2 <= len(kept) < SEGMENTS
    with at_work(project, "process:1") as stage:
        assert {path.name: path.stat().st_mtime_ns for path in chunks(project)}.items() >= kept.items()
        _, said = stage.communicate(timeout=120)
        assert stage.returncode == 0, said
    assert left(project) == alone(project)


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "one worker killed"])
def test_on_a_cluster(project: Project, tmp_path: Path, killed: bool) -> None:
    pytest.importorskip("distributed")
    with running(tmp_path, workers=2) as cluster, at_work(project, f"dask://{cluster.address}") as stage:
        if killed:
            cluster.workers[0].kill()
            assert len(chunks(project)) < SEGMENTS - 4, "too fast for a kill midway"
        _, said = stage.communicate(timeout=300)
        assert stage.returncode == 0, said
        assert (cluster.workers[0].status() == psutil.STATUS_ZOMBIE) == killed
        assert cluster.workers[1].status() != psutil.STATUS_ZOMBIE
    assert left(project) == alone(project)

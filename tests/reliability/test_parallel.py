"""Two at once, a moved workspace, a read-only cache, a path that is no plain ASCII: works, or says plainly why not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.kills import digests
from benchmarks.tiny import TINY, Project, copy_project

COMMAND = ("dvc", "repro", "collect_source")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("parallel") / "größer, 'mit' Leerzeichen 中"
    folder.mkdir()
    project = copy_project(folder)
    project.set(**TINY)
    return project


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder as on a medium that nobody, root neither, may write to."""
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "--bind", folder, folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run([mount, "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
class TestParallel:
    """In this order: each test leaves the two stages reproduced."""

    def test_of_two_at_once_one_works_and_one_says_why_not(self, project: Project) -> None:
        both = [
            subprocess.Popen(
                COMMAND,
                cwd=project.folder,
                env=project.environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for _ in range(2)
        ]
        said = [process.communicate()[0] for process in both]
        assert sorted(process.returncode == 0 for process in both) in ([False, True], [True, True])
        for process, text in zip(both, said, strict=True):
            assert process.returncode == 0 or "another dvc process" in text.lower() or "is busy" in text, text
        assert set(digests(project.folder)) == {"data/checked.txt", "data/source/seed_episodes.npz"}
        assert project.run(*COMMAND).count("didn't change, skipping") == 2

    def test_a_read_only_cache_serves_and_stops_before_any_long_work(self, project: Project) -> None:
        before = digests(project.folder)
        with read_only(project.folder / ".dvc" / "cache"):
            assert project.run(*COMMAND).count("didn't change, skipping") == 2
            project.set(**{"source.seed_episodes": 3})
            said = project.run(*COMMAND, check=False)
        assert "failed to reproduce 'check'" in said
        assert "Read-only file system" in said
        assert "collect_source" not in said
        assert digests(project.folder) == before
        project.set(**{"source.seed_episodes": TINY["source.seed_episodes"]})

    def test_a_moved_workspace_is_up_to_date(self, project: Project) -> None:
        project.folder.rename(project.folder.with_name("moved"))
        moved = Project(project.folder.with_name("moved"))
        assert moved.run(*COMMAND).count("didn't change, skipping") == 2
        assert os.listdir(moved.folder / ".telepath" / "scratch") == []

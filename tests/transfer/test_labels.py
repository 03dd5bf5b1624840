"""The bytes of the labels are the same wherever they are made, in chunks of any size, whoever dies on the way."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from telepath.alignment.reenact import Alignments
from telepath.config import Params
from telepath.errors import UserError
from telepath.runtime.environment import Executor
from telepath.runtime.resume import Scratch
from telepath.transfer.labels import HERE, align_chunk, label
from tests.cluster import running
from tests.conftest import Counting
from tests.transfer.test_target import Transfer, tiny  # noqa: F401


@pytest.fixture
def many(tiny: Params) -> Params:  # noqa: F811
    """Ten segments, each long enough at work that a kill meets somebody."""
    cem = tiny.label.cem.model_copy(update={"iterations": 25, "population": 32})
    return tiny.model_copy(update={"label": tiny.label.model_copy(update={"segments": 10, "chunk": 1, "cem": cem})})


class Watched(Counting):
    """Calls ``act`` once when the first chunk has come back."""

    def __init__(self, act: Callable[[], None]):
        super().__init__()
        self.act = act

    def advance(self, n: int = 1, /, **figures: float) -> None:
        super().advance(n, **figures)
        if "cost" in figures and self.act is not None:
            act, self.act = self.act, lambda: None
            act()


def made(params: Params, folder: Path, where: Executor, progress: Counting | None = None) -> bytes:
    """The label stage's output."""
    transfer, progress = Transfer(params), progress or Counting()
    with Scratch(folder / "scratch") as scratch:
        labels = label(
            transfer.source,
            transfer.exploration,
            transfer.reenactor,
            transfer.pool,
            params.label,
            transfer.agent.behavior.steady,
            0,
            progress,  # type: ignore[arg-type]
            scratch,
            where,
        )
        scratch.clear()
    assert progress.count == params.label.segments + len(transfer.exploration)
    labels.save(folder / "labels.npz")
    return (folder / "labels.npz").read_bytes()


def chunked(params: Params, size: int) -> Params:
    return params.model_copy(update={"label": params.label.model_copy(update={"chunk": size})})


def test_in_any_chunks_and_processes(many: Params, tmp_path: Path) -> None:
    whole = made(many, tmp_path, HERE)
    assert made(chunked(many, 4), tmp_path, HERE) == whole
    assert made(chunked(many, 10), tmp_path, HERE) == whole
    assert made(chunked(many, 3), tmp_path, Executor(processes=2)) == whole


FOLDER = "TELEPATH_TESTS_FOLDER"
"""Where the processes of ``killed`` leave word for each other."""


def killed(shared: tuple[Any, Any], chunk: tuple[Any, Any]) -> Alignments:
    """Align the first chunk; the process that gets any other is killed over it, once that one is kept."""
    folder = Path(os.environ[FOLDER])
    try:
        (folder / "taken").touch(exist_ok=False)
    except FileExistsError:
        while not kept_in(folder):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return align_chunk(shared, chunk)


def kept_in(folder: Path) -> list[Path]:
    return list((folder / "scratch").glob("*.state.safetensors"))


def test_a_killed_process_costs_no_finished_chunk(
    many: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(many, tmp_path, HERE)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("telepath.transfer.labels.align_chunk", killed)
        with pytest.raises(UserError, match="a worker process was killed"):
            made(many, tmp_path, Executor(processes=2))
    kept = kept_in(tmp_path)
    assert len(kept) == 1
    kept[0].write_bytes(kept[0].read_bytes()[:-5])  # one that the disk has lost is made again
    assert made(many, tmp_path, HERE) == whole


@pytest.mark.slow
def test_on_a_cluster_one_of_whose_workers_is_killed(many: Params, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    whole = made(many, tmp_path, HERE)
    with running(tmp_path, workers=2) as cluster:
        where = Executor(scheduler=cluster.address)
        assert made(chunked(many, 5), tmp_path, where) == whole
        assert made(many, tmp_path, where, Watched(cluster.workers[0].kill)) == whole
        assert cluster.workers[0].status() == psutil.STATUS_ZOMBIE
        assert cluster.workers[1].is_running()

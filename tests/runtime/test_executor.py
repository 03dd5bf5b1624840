"""Work done elsewhere: the same results, and one line for whatever goes wrong there."""

import contextlib
import math
import multiprocessing
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from telepath.errors import Fault, UserError
from telepath.runtime import executor as module
from telepath.runtime.environment import EXECUTOR, Executor
from telepath.runtime.executor import each
from tests.cluster import running

VARIABLE = EXECUTOR.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Executor()),
        (" process:3 ", Executor(processes=3)),
        ("dask://node-7.lab:8786", Executor(scheduler="node-7.lab:8786")),
        ("dask://[::1]:8786", Executor(scheduler="[::1]:8786")),
    ],
)
def test_the_variable(monkeypatch: pytest.MonkeyPatch, text: str, expected: Executor) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert EXECUTOR.read(Executor()) == expected


@pytest.mark.parametrize(
    "text", ["process", "process:0", "process:9999", "process:-1", "dask://host", "ray://h:1", "2"]
)
def test_other_values_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UserError, match=rf"^{VARIABLE}: '{text}' is not process:N"):
        EXECUTOR.read(Executor())


def test_a_cluster_without_dask_is_refused_before_there_is_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "dask://head.lab:8786")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=rf"^{VARIABLE}: dask is not installed; run `pip install -e '.\[dask\]'`$"):
        EXECUTOR.read(Executor())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("distributed")
    with running(tmp_path_factory.mktemp("cluster"), workers=1) as cluster:
        yield cluster.address


@pytest.fixture(params=["here", "processes", "dask"])
def where(request: pytest.FixtureRequest) -> Executor:
    if request.param == "dask":
        return Executor(scheduler=request.getfixturevalue("cluster"))
    return Executor(processes=2 if request.param == "processes" else 0)


def test_every_item_is_done_once(where: Executor) -> None:
    assert sorted(each(operator.sub, 10, {3: 1, 0: 2, 7: 3}, where)) == [(0, 8), (3, 9), (7, 7)]
    assert list(each(operator.sub, 10, {}, where)) == []


def test_what_a_piece_raises_comes_out(where: Executor) -> None:
    with pytest.raises(ZeroDivisionError):
        list(each(operator.floordiv, 1, {0: 1, 1: 0}, where))
    # Not to be taken for trouble with the workers themselves.
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(each(open_in, "/nowhere", {0: "file"}, where))


def open_in(folder: str, name: str) -> None:
    (Path(folder) / name).read_bytes()


def fault(shared: int, item: int) -> None:
    raise Fault("model: not finite", {"item": item})


def test_a_fault_brings_its_evidence_along() -> None:
    with pytest.raises(Fault, match="model: not finite") as caught:
        list(each(fault, 0, {0: 5}, Executor(processes=1)))
    assert caught.value.evidence == {"item": 5}


def test_nothing_goes_on_behind_the_caller_s_back() -> None:
    begin = time.monotonic()
    with contextlib.closing(each(operator.call, time.sleep, {0: 0, 1: 60, 2: 60}, Executor(processes=2))) as results:
        assert next(results) == (0, None)
    assert time.monotonic() - begin < 40
    assert not multiprocessing.active_children()


def test_the_caller_s_own_processes_are_left_alone() -> None:
    own = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    with contextlib.closing(each(operator.add, 1, {0: 1, 1: 2}, Executor(processes=1))) as results:
        next(results)
        own.start()
    try:
        assert own.is_alive()
        assert multiprocessing.active_children() == [own]
    finally:
        own.kill()
        own.join()


def test_a_killed_process_is_told_in_one_line() -> None:
    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.05)
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(UserError, match=rf"^{VARIABLE}: a worker process was killed, .*; what is done is kept"):
        list(each(operator.call, time.sleep, {0: 60}, Executor(processes=1)))


def test_a_cluster_with_other_code_is_refused(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "code_digest", lambda: "other")
    with pytest.raises(UserError, match=f"^{VARIABLE}: a worker has other code"):
        list(each(operator.add, 1, {0: 1}, Executor(scheduler=cluster)))


def test_a_worker_computes_with_our_number_of_threads(cluster: str) -> None:
    threads = dict(each(threads_of, None, {0: None}, Executor(scheduler=cluster)))
    assert threads == {0: 1}, "the tests run with one, and dask's own default is one for each CPU"


def threads_of(shared: None, item: None) -> int:
    import torch

    return torch.get_num_threads()


def test_no_scheduler_and_no_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "PATIENCE", 1)
    with pytest.raises(UserError, match=r"^dask://localhost:1: no scheduler answers there; start one"):
        list(each(math.pow, 1, {0: 1}, Executor(scheduler="localhost:1")))
    with running(tmp_path, workers=0) as empty:
        monkeypatch.setattr(module, "PATIENCE", 3)
        with pytest.raises(UserError, match=rf"^dask://{empty.address}: has no workers; start some with"):
            list(each(math.pow, 1, {0: 1}, Executor(scheduler=empty.address)))


def test_a_scheduler_that_goes_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with running(tmp_path, workers=1) as cluster:
        results = each(operator.call, time.sleep, {0: 0.0, 1: 60.0}, Executor(scheduler=cluster.address))
        assert next(results) == (0, None)
        cluster.scheduler.kill()
        with pytest.raises(UserError, match=rf"^dask://{cluster.address}: the scheduler is gone; what is done is kept"):
            list(results)

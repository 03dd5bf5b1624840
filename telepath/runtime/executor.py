"""Where independent pieces of a stage's work are done: in this process, in several, or on a dask cluster.

A piece is a pure function of what all pieces share and of its own item, so it does not matter who does it, nor when:
the caller gets the results as they come and puts them in order. Every worker computes with as many threads a piece as
this process does, and on a cluster only with the same code: what it sends back becomes an artefact that is trusted.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import multiprocessing
import pickle
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch

from telepath.errors import UserError
from telepath.runtime.device import be_deterministic
from telepath.runtime.environment import EXECUTOR, Executor
from telepath.runtime.interrupt import die_on_signals, end_with_parent

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

Results = Generator[Any, None, None]

PATIENCE = 30
"""Seconds to wait for a scheduler, and for its first worker."""

KEPT = "what is done is kept: run this again and it goes on from there"


def each(
    function: Callable[[Shared, Item], Result], shared: Shared, items: Mapping[int, Item], where: Executor
) -> Generator[tuple[int, Result], None, None]:
    """(number, function(shared, item)) for every numbered item, in the order in which they are done.

    function: defined in a module; it, ``shared`` and the items are pickled if the work is done elsewhere. Close the
    iterator if it is not to be used up: then nothing goes on behind the caller's back. What a piece raises comes out
    here; workers that die or cannot be reached are a ``UserError``.
    """
    if where.scheduler:
        return _on_dask(function, shared, items, where.scheduler)
    if where.processes:
        return _in_processes(function, shared, items, where.processes)
    return ((number, function(shared, item)) for number, item in items.items())


# -- processes ---------------------------------------------------------------------------------------------

_work: Any = None
"""In a worker process: the function and what is shared."""


def _in_processes(function: Callable, shared: Any, items: Mapping[int, Any], processes: int) -> Results:
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    begin = pickle.dumps((function, shared)), torch.get_num_threads()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(max(1, min(processes, len(items))), context, _begin, begin)
    workers: set[Any] = set()
    try:
        running = {pool.submit(_piece, item): number for number, item in items.items()}
        workers = set(multiprocessing.active_children()) - others
        for done in as_completed(running):
            yield running[done], done.result()
    except BrokenProcessPool:
        why = "a worker process was killed, perhaps for lack of memory"
        raise UserError(f"{EXECUTOR.name}: {why}; {KEPT}, perhaps with fewer") from None
    finally:
        # Not asked to leave: one that was killed while it waited for work holds the lock that the others wait for.
        # Whoever is stopped before they were counted has not yet had the time to start processes of another kind.
        for worker in workers or set(multiprocessing.active_children()) - others:
            worker.terminate()
        pool.shutdown(cancel_futures=True)


def _begin(work: bytes, threads: int) -> None:
    """Make a new process a worker."""
    global _work
    end_with_parent()
    die_on_signals()
    be_deterministic()
    torch.set_num_threads(threads)
    _work = pickle.loads(work)


def _piece(item: Any) -> Any:
    function, shared = _work
    return function(shared, item)


# -- dask --------------------------------------------------------------------------------------------------


def _on_dask(function: Callable, shared: Any, items: Mapping[int, Any], scheduler: str) -> Results:
    with contextlib.closing(_from_dask(function, shared, items, scheduler)) as outcomes:
        for number, (result, error) in outcomes:
            if error is not None:  # the piece's own, not the cluster's
                raise error
            yield number, result


def _from_dask(function: Callable, shared: Any, items: Mapping[int, Any], scheduler: str) -> Results:
    """The outcome of each piece, as of ``_task``."""
    import distributed  # whoever names a scheduler in the environment has been asked for the package

    name = f"dask://{scheduler}"
    try:
        client = distributed.Client(f"tcp://{scheduler}", timeout=PATIENCE, set_as_default=False)
    except OSError:
        raise UserError(f"{name}: no scheduler answers there; start one with `dask scheduler`") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
            # A task and not scattered data, so that the scheduler can make it again when whoever has it dies.
            work = client.submit(pickle.loads, pickle.dumps((function, shared)), pure=False)
            how = (code_digest(), torch.get_num_threads())
            running = {client.submit(_task, work, item, *how, pure=False): number for number, item in items.items()}
            for done in distributed.as_completed(running, loop=client.loop):
                yield running[done], done.result()
                done.release()
        except TimeoutError:
            raise UserError(f"{name}: has no workers; start some with `dask worker {scheduler}`") from None
        except distributed.KilledWorker:
            raise UserError(f"{name}: a piece of work killed every worker that tried it; look at their logs") from None
        except (CancelledError, OSError):
            raise UserError(f"{name}: the scheduler is gone; {KEPT}") from None


def _task(work: tuple[Callable, Any], item: Any, code: str, threads: int) -> tuple[Any, Exception | None]:
    """The result, or what the piece raised: to be told from what the cluster raises."""
    if code != code_digest():
        mend = "give it the same and restart it"
        raise UserError(f"{EXECUTOR.name}: a worker has other code or other versions of its libraries; {mend}")
    torch.set_num_threads(threads)  # a setting of each thread, and dask has several
    function, shared = work
    try:
        return function(shared, item), None
    except Exception as error:
        return None, error


@functools.cache
def code_digest() -> str:
    """Hexadecimal SHA-256 of the code that computes results: Telepath's files, and the versions of what they call."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for library in ("numba", "numpy", "torch"):
        digest.update(f"{library} {importlib.metadata.version(library)}\0".encode())
    return digest.hexdigest()

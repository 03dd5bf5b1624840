"""How the arithmetic runs: threads, from an environment variable, its memory, and determinism.

The number of threads is no parameter: it must not change the hash of a stage. Up to 2 threads it does not even change
the bits of a result: the second one does work that is independent of the first one's, not half of every matrix product,
and what is divided between them is divided the same way for one.
"""

import ctypes
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from telepath.errors import UserError
from telepath.runtime.environment import DEVICE, HALF, THREADS

Here = TypeVar("Here")
There = TypeVar("There")
Part = TypeVar("Part")
Result = TypeVar("Result")

_second: ThreadPoolExecutor | None = None


def limit_threads() -> None:
    """Use ``TELEPATH_THREADS`` threads; the default is 2 where there are as many CPUs.

    Networks this small gain nothing from more; larger ones may: an even number is shared out between ``side_by_side``'s
    two.
    """
    global _second
    threads = THREADS.read(min(2, usable_cpus()))
    each = max(1, threads // 2)
    torch.set_num_threads(each)
    # The number of threads that torch splits a matrix product over is a setting of each thread.
    _second = ThreadPoolExecutor(1, "second", torch.set_num_threads, (each,)) if threads > 1 else None


CPU = torch.device("cpu")


def side_by_side(
    here: Callable[[], Here], there: Callable[[], There], device: torch.device = CPU
) -> tuple[Here, There]:
    """Run both, ``there`` in a second thread if there is one, and return both results when both have ended.

    On a GPU they are started one after the other and run on two streams. They must not share anything that one of them
    changes, generators included; then the result is the same either way.
    """
    if device.type == "cuda":
        return _on_two_streams(here, there, device)
    if _second is None:
        return here(), there()
    running = _second.submit(there)
    try:
        mine = here()
    finally:
        # Also after an error or Ctrl-C nothing may go on behind the caller's back.
        theirs = running.result()
    return mine, theirs


def _on_two_streams(here: Callable[[], Here], there: Callable[[], There], device: torch.device) -> tuple[Here, There]:
    if not hasattr(_streams, "second"):
        _streams.second = torch.cuda.Stream(device)
    stream, second = torch.cuda.current_stream(device), _streams.second
    second.wait_stream(stream)
    with torch.cuda.stream(second):
        theirs = there()
    mine = here()
    stream.wait_stream(second)
    return mine, theirs


_streams = threading.local()
"""A second stream for each thread: memory is kept for those that it was made for."""


def stream_of_its_own(device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """What opens a context in which work on a GPU waits for nobody else's; always the same one. Nothing on a CPU."""
    if device.type != "cuda":
        return nullcontext
    return partial(torch.cuda.stream, torch.cuda.Stream(device))


def shared_out(task: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The task's result for each of one or two parts; two of them ``side_by_side``."""
    if len(parts) == 1:
        return [task(parts[0])]
    here, there = parts
    return list(side_by_side(partial(task, here), partial(task, there)))


def keep_memory() -> None:
    """Have freed memory kept for the next update, which asks for arrays of the same sizes.

    glibc gives large ones back to the system at once and then takes them again page by page, some 3,000 pages an update
    or a tenth of its time. Where the C library is another one nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * MIB)  # the most that glibc takes
        mallopt(_TRIM_THRESHOLD, 256 * MIB)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
MIB = 2**20


def be_deterministic() -> None:
    """Have torch refuse operations whose result varies between runs: outputs are cached by their bytes."""
    # cuBLAS reads this when it is first used; without it torch refuses every matrix product on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `use_deterministic_algorithms`: the same switch, but it imports the compiler, which takes a second.
    torch.set_deterministic_debug_mode("error")
    # Otherwise torch fills all memory that it hands out uninitialised: a debugging aid, and it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def half_precision(device: str) -> torch.autocast:
    """A context in which matrix products and convolutions on a device are of bfloat16, if ``TELEPATH_HALF`` is 1.

    It is meant for a GPU; results round otherwise.
    """
    return torch.autocast(device, torch.bfloat16, enabled=HALF.read(False))


def sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A numpy array as a tensor on a device; a GPU takes it when it gets to it, and nobody waits meanwhile."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A source of random numbers on a device: those of a GPU are others than the CPU's."""
    return torch.Generator(device).manual_seed(seed)


def continue_from(generator: torch.Generator, state: torch.Tensor) -> None:
    """Go on from ``get_state()``; from that of a generator on another kind of device, with a seed made of it."""
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
    else:
        generator.manual_seed(zlib.crc32(state.numpy().tobytes()))


def training_device(*, frames: bool) -> torch.device:
    """Where everything is trained and segments are re-enacted: on a GPU if there is one and frames are observed, else
    on the CPU.

    Networks of states are too small for a GPU to pay. ``TELEPATH_DEVICE`` decides otherwise; a ``UserError`` where what
    it asks for is not there.
    """
    wanted = DEVICE.read("")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{DEVICE.name}: this machine has no GPU that torch can use; unset it")
    on_gpu = wanted != "cpu" and (wanted or frames) and torch.cuda.is_available()
    return torch.device("cuda", 0) if on_gpu else CPU


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Work that is recorded once and then started as a whole, as a CUDA graph.

An update of small networks is thousands of kernels of a few microseconds each, and starting one from Python takes
longer than it runs. A recording starts all of them at once. It does the same every time: it reads and writes the same
memory, looks at no value, and only generators on the device draw.
"""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

Given = TypeVar("Given", bound=tuple)
Found = TypeVar("Found")

PRACTICE = 3
"""Calls before the one that is recorded: libraries choose their algorithms and optimisers make their moments."""

_thread = threading.local()
_one_at_a_time = threading.Lock()


class Recorder(Protocol):
    """What records on a device."""

    def practise(self, work: Callable[[], None]) -> None:
        """Do it once, unrecorded."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does it again and again; it is not done yet."""
        ...


class CudaRecorder:
    """CUDA graphs; ``generators`` are all that draw."""

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]):
        self.device, self.generators = device, generators
        self.apart = torch.cuda.Stream(device)

    def practise(self, work: Callable[[], None]) -> None:
        """On a stream of its own, as it will be recorded.

        Waited for to its end: others at work on the device may be given its streams, and its memory with them, next.
        """
        self.apart.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.apart):
            work()
        torch.cuda.synchronize(self.device)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """One graph of it."""
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with _room_of_its_own(self.device):
            try:
                # Other threads may be at work on the same device; what they do is not part of it.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    work()
            except RuntimeError as error:
                # A recording that is broken off half-way is an error of its own, which hides what broke it off.
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise error.__context__ from None
                raise
        return graph.replay


@contextlib.contextmanager
def _room_of_its_own(device: torch.device) -> Iterator[None]:
    """For a recording that shares no memory with others: cuBLAS keeps its room by stream, and all recordings have the
    same one, so two graphs that are replayed side by side would work in it at once.
    """
    gc.collect()  # no graph may go while another is recorded
    gc.disable()
    torch.cuda.synchronize(device)
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()
        gc.enable()


class Recorded(Generic[Given, Found]):
    """A function of tensors, recorded after ``PRACTICE`` calls.

    function: from a (named) tuple, nested or not, whose tensors have the same shapes in every call; whatever else is in
    it is looked at once. What it gives back is good until the next call. It may change tensors in place, never put
    others in their place.
    """

    def __init__(self, function: Callable[[Given], Found], recorder: Recorder):
        self.function, self.recorder = function, recorder
        self.forget()

    def forget(self) -> None:
        """Begin anew: where tensors that it works on were exchanged."""
        self.given: Given | None = None
        self.found: Found | None = None
        self.calls = 0
        self._repeat: Callable[[], None] | None = None

    def __call__(self, given: Given) -> Found:
        """The function's result."""
        if self.given is None:
            self.given = cloned(given)
        else:
            torch._foreach_copy_(tensors_in(self.given), tensors_in(given))
        self.calls += 1
        if self.calls <= PRACTICE:
            self.recorder.practise(self._work)
        else:
            if self._repeat is None:
                self._repeat = self._record()
            self._repeat()
        assert self.found is not None
        return self.found

    def _work(self) -> None:
        assert self.given is not None
        self.found = self.function(self.given)

    def _record(self) -> Callable[[], None]:
        with _one_at_a_time:
            _thread.recording = True
            try:
                return self.recorder.record(self._work)
            finally:
                _thread.recording = False


def recording() -> bool:
    """Whether this thread is recording, so that no value can be looked at."""
    return getattr(_thread, "recording", False)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    return [tensor for part in tree for tensor in tensors_in(part)] if isinstance(tree, tuple) else []


def cloned(tree: Any) -> Any:
    """Nested tuples with tensors of their own."""
    if isinstance(tree, Tensor):
        return tree.clone()
    if not isinstance(tree, tuple):
        return tree
    parts = [cloned(part) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)

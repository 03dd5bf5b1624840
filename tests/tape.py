"""A recorder for the CPU, so that what a GPU records can be tried without one.

What runs under a ``Tape`` is noted operation by operation and done again on the same memory, as a CUDA graph does it:
views stay views, random numbers are drawn anew, and Python takes no part. What a graph could not hold is an error: a
value that is looked at, a shape that depends on values, numbers that come from the host.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from telepath.dreamer.learner import Learner
from telepath.dreamer.replay import Batch

aten = torch.ops.aten
REFUSED = (
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.lift_fresh,
    aten.randperm,
)
INDEXED = (aten.index, aten.index_put, aten.index_put_)
"""Refused with masks: how many values these let through the host must know."""


class NotRecordable(Exception):
    """What a graph cannot hold."""


class Tape(TorchDispatchMode):
    """Notes what is done inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, tuple, dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Do it and note it, unless it only gives another view of what is there."""
        masks = any(isinstance(index, Tensor) and index.dtype == torch.bool for index in flat(args))
        if func.overloadpacket in REFUSED or (func.overloadpacket in INDEXED and masks):
            raise NotRecordable(str(func))
        kwargs = kwargs or {}
        # Their memory is what counts: they may be given another shape in place later.
        taken, named = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        found = func(*args, **kwargs)
        changes = func._schema.is_mutable and torch.Tag.inplace_view not in func.tags
        makes = all(returned.alias_info is None for returned in func._schema.returns)
        if changes or makes:
            self.steps.append((func, taken, named, flat(found) if makes else []))
        return found

    def play(self) -> None:
        """Do it all again."""
        with torch.no_grad():
            for func, args, kwargs, room in self.steps:
                found = flat(func(*args, **kwargs))
                for old, new in zip(room, found, strict=False):
                    old.copy_(new)


def flat(found: Any) -> list[Tensor]:
    """The tensors that an operation takes or returns."""
    if isinstance(found, Tensor):
        return [found.detach()]
    return [tensor for part in found for tensor in flat(part)] if isinstance(found, tuple | list) else []


class TapeRecorder:
    """As ``graphs.CudaRecorder``; ``plays`` counts."""

    def __init__(self) -> None:
        self.plays = 0

    def practise(self, work: Callable[[], None]) -> None:
        """As it is."""
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Unlike on a GPU it is done while it is noted, so the first repetition has nothing left to do."""
        with Tape() as tape:
            work()

        def play() -> None:
            if self.plays > 0:
                tape.play()
            self.plays += 1

        return play


def on_a_gpu(states: Any, count: int, generator: torch.Generator) -> Any:
    """As ``learner.subset`` chooses there; a CPU's permutation is drawn by the host."""
    flat = type(states)(*(part.flatten(0, 1) for part in states))
    return flat.at(torch.rand(len(flat.deter), generator=generator).argsort()[:count])


def doubled(training: Any) -> Any:
    """The same with twice the precision: on the CPU single precision runs in loops that no tape sees."""
    learner, sample = training.learner, training.replay.sample

    def sampled(*arguments: Any) -> Batch:
        batch = sample(*arguments)
        return batch._replace(
            **{k: v.double() for k, v in batch._asdict().items() if isinstance(v, Tensor) and v.is_floating_point()}
        )

    training.replay.sample = sampled
    for module in (training.agent, learner.behavior.live, learner.behavior.copies, learner.behavior.behavior):
        module.double()
    return training


def updated(training: Any, times: int, recorder: TapeRecorder | None) -> list[dict[str, float]]:
    """What ``times`` updates tell, recorded or not."""
    learner = training.learner
    training.learner = Learner(learner.model, learner.behavior, recorder)
    return [{name: float(value) for name, value in training.update().items()} for _ in range(times)]

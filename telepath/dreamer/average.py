"""Running averages of weights: what is judged of networks that are still learning."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class RunningAverage(Generic[Module]):
    """A copy of a module, ``average``, whose weights are running averages of the module's (Polyak and Juditsky 1992).

    Gradient steps of a constant size circle round what they have learnt, and each round of the circle forgets and
    relearns something else. The average stands in the middle.
    """

    def __init__(self, module: Module, rate: float, begin: int):
        """rate: the share (0 to 1) of the way to the module that each update goes; begin: updates that are not worth
        remembering.
        """
        self.module, self.rate, self.begin = module, rate, begin
        self.average: Module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def follow(self, updates: int) -> None:
        """Move every weight and buffer towards the module's, which has had so many ``updates`` by now."""
        if updates <= self.begin or self.rate == 1:
            torch._foreach_copy_(tensors(self.average), tensors(self.module))
        else:
            torch._foreach_lerp_(tensors(self.average), tensors(self.module), self.rate)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the average's weights and buffers as they are now."""
        return {name: value.clone() for name, value in self.average.state_dict().items()}


def tensors(module: nn.Module) -> list[Tensor]:
    """All weights and buffers."""
    return [*module.parameters(), *module.buffers()]

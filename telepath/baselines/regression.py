"""Regression as the rivals use it: a plain network on plain pairs, in units that are chosen once."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from telepath.dreamer.learner import descend

Network = TypeVar("Network", bound=nn.Module)

MIN_SPREAD = 1e-2
"""Smallest unit of an input: a dimension that hardly moves must not turn noise into large numbers."""

MIN_SIZE = 1e-6
"""Smallest unit of an output; below it everything is rounding."""

GRAD_CLIP = 100.0
"""Norm at which a gradient is cut: a guard against a bad batch, out of reach in a healthy run."""


class Regressor(nn.Module):
    """Two hidden layers of ``hidden`` ReLUs, inputs (..., n) -> outputs (..., m), both in their own units.

    The units are fixed by ``fit_units``. Outputs have no centre: a network of zeros says zero.
    """

    center: Tensor
    spread: Tensor
    size: Tensor

    def __init__(self, inputs: int, outputs: int, hidden: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.register_buffer("size", torch.ones(outputs))

    def fit_units(self, inputs: Tensor, outputs: Tensor) -> None:
        """Choose the units once, before training: mean and standard deviation of the inputs (N, n), and the root mean
        square of the outputs (N, m).
        """
        self.center.copy_(inputs.mean(0))
        self.spread.copy_(inputs.std(0).clamp(min=MIN_SPREAD))
        self.size.copy_(outputs.square().mean(0).sqrt().clamp(min=MIN_SIZE))

    def forward(self, inputs: Tensor) -> Tensor:
        """The expected outputs."""
        return self.net((inputs - self.center) / self.spread) * self.size

    @torch.no_grad()
    def with_first(self, first: Tensor, unit: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The expected outputs in ``unit`` (m,) where many inputs begin alike, with ``first`` (R, k).

        Returned is a function of the other inputs (r, P, n - k) and of the rows (r,) of ``first`` that they go with, to
        (r, P, m). The same but for rounding as the whole inputs would give, for less: units and first inputs are taken
        into the weights.
        """
        enter, middle, leave = (layer for layer in self.net if isinstance(layer, nn.Linear))
        known = first.shape[1]
        weight = enter.weight / self.spread
        begun = (
            F.linear(first - self.center[:known], weight[:, :known], enter.bias)
            - weight[:, known:] @ self.center[known:]
        )
        begun, weight = begun.unsqueeze(1), weight[:, known:]
        scale = self.size / unit
        last_weight, last_bias = leave.weight * scale[:, None], leave.bias * scale

        def outputs(last: Tensor, rows: Tensor) -> Tensor:
            hidden = F.linear(last, weight).add_(begun[rows]).relu_()
            hidden = F.linear(hidden, middle.weight, middle.bias).relu_()
            return F.linear(hidden, last_weight, last_bias)

        return outputs

    def loss(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Mean squared error in units of the outputs: all dimensions weigh the same, and 1 means nothing learnt."""
        return ((self(inputs) - outputs) / self.size).square().mean()


def built(make: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
    """The network that ``make`` builds, with stored weights; ValueError where they are another's.

    Shapes are compared first, without room for any: sizes in a file may be anything.
    """
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in make().state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("its weights do not fit its settings")
    network = make()
    network.load_state_dict(weights)
    return network


class Fit:
    """Fits a ``Regressor`` by Adam on random minibatches."""

    def __init__(self, name: str, regressor: Regressor, lr: float, batch: int, seed: int):
        """``name``: what an error calls it."""
        self.name, self.regressor, self.batch = name, regressor, batch
        self.parameters = dict(regressor.named_parameters())
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr, eps=1e-6, fused=True)
        self.generator = torch.Generator().manual_seed(seed)

    def update(self, inputs: Tensor, outputs: Tensor) -> float:
        """One step on pairs drawn from all of inputs (N, n) and outputs (N, m); returns the loss before it."""
        chosen = torch.randint(len(inputs), (self.batch,), generator=self.generator)
        pairs = {"inputs": inputs[chosen], "outputs": outputs[chosen]}
        loss = self.regressor.loss(**pairs)
        descend(self.optimizer, self.parameters, loss, GRAD_CLIP, self.name, pairs)
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs, the network included."""
        return {
            "regressor": dict(self.regressor.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.regressor.load_state_dict(state["regressor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


class Pairs:
    """A table of inputs (N, n) and outputs (N, m) that grows by rows; room for ``capacity`` is taken at once."""

    def __init__(self, capacity: int, inputs: int, outputs: int):
        self._inputs, self._outputs = torch.zeros(capacity, inputs), torch.zeros(capacity, outputs)
        self.count = 0

    def __len__(self) -> int:
        return self.count

    @property
    def inputs(self) -> Tensor:
        """The rows so far."""
        return self._inputs[: self.count]

    @property
    def outputs(self) -> Tensor:
        """The rows so far."""
        return self._outputs[: self.count]

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Append rows (k, n) and (k, m)."""
        rows = slice(self.count, self.count + len(inputs))
        self._inputs[rows], self._outputs[rows] = inputs, outputs
        self.count = rows.stop

    def state(self) -> dict[str, Any]:
        """The rows so far."""
        return {"inputs": self.inputs, "outputs": self.outputs}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.count = 0
        self.add(state["inputs"], state["outputs"])

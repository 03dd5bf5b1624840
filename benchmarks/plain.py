"""Re-enactment as it is written down, in torch's own operations: what is measured against, and what labels are held to.

The same world model, module by module and step by step; warping by a double loop over the table's cells.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from telepath.alignment import reenact
from telepath.alignment.dtw import band
from telepath.dreamer.networks import symexp
from telepath.dreamer.rssm import Latent, WorldModel

Warping = Callable[..., Tensor]
"""Arguments of ``dtw_tensors`` -> costs (S, B)."""


def imagine(model: WorldModel, start: Latent, actions: Tensor) -> Iterator[Tensor]:
    """``WorldModel.imagine``: the features (B, F) after each of the actions (M, B, A), along the prior means."""
    latent = start
    for action in actions:
        deter = model.recur(latent, action)
        mean, _ = model.prior_net(deter).chunk(2, -1)
        latent = Latent(deter, mean)
        yield latent.feature


def decoding(model: WorldModel, batch: int) -> Callable[[Tensor], Tensor]:
    """``WorldModel.decoding`` of states: features (B, F) -> (B, D)."""
    return lambda feature: symexp(model.decoder(feature)) * model.spread + model.center


def torch_loop(x: Tensor, y: Tensor, window: int | None, *, open_end: bool, slope: float) -> Tensor:
    """Costs (S, B) of x (S, N, D) and y (S, B, M, D), cell by cell."""
    rows, columns = x.shape[1], y.shape[2]
    first, last = band(rows, columns, window, slope, open_end)
    nowhere = torch.full(y.shape[:2], torch.inf)
    above = [torch.zeros(y.shape[:2])] + [nowhere] * columns
    for i in range(rows):
        row = [nowhere]
        for j in range(columns):
            if first[i] <= j <= last[i]:
                local = (x[:, None, i] - y[:, :, j]).square().sum(-1)
                row.append(local + torch.minimum(torch.minimum(above[j], above[j + 1]), row[j]))
            else:
                row.append(nowhere)
        above = row
    return torch.stack(above[1:]).amin(0) if open_end else above[-1]


class Way(NamedTuple):
    """How re-enactment imagines, decodes and warps: what stands where ``dtw_tensors`` and the model's methods do."""

    warp: Warping
    imagine: Callable[[WorldModel, Latent, Tensor], Iterator[Tensor]] = imagine
    decoding: Callable[[WorldModel, int], Callable[[Tensor], Tensor]] = decoding


OURS = Way(reenact.dtw_tensors, WorldModel.imagine, WorldModel.decoding)


@contextmanager
def going(way: Way) -> Iterator[None]:
    """Have re-enactment go this way."""
    with (
        patch.object(reenact, "dtw_tensors", way.warp),
        patch.object(WorldModel, "imagine", way.imagine),
        patch.object(WorldModel, "decoding", way.decoding),
    ):
        yield

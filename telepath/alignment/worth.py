"""What the source would have paid for a frame: a feature that says which differences between frames matter.

Squared distances weigh all dimensions alike, but a reward hangs on few of them: a walker on its knees moves its legs
nearly like one that walks. Matched by states alone, its frames are paid what walking was paid, and a policy that is
trained on such labels learns to kneel. So what a network, fitted to the source's observations and rewards, expects a
frame to be paid joins the frame as one number more. It decides nothing alone: where it errs, far from what the source
has seen, the other dimensions find the match, and the match says what was really paid.
"""

import math

import numpy as np
import torch
from torch import nn

from telepath.dreamer.learner import descend
from telepath.dreamer.networks import mlp
from telepath.episodes import Array

UPDATES = 2000
BATCH = 256
HIDDEN = 128
LEARNING_RATE = 1e-3

FAR = 5.0
"""Standard deviations at which an input is cut off: beyond, a network is asked for what it has never seen."""

NOTHING = 1e-6
"""A spread of the rate, in reward a frame, that is none."""

RANGE = (0.05, 0.95)
"""Quantiles of the source's rewards between which lie two units of worth, as with a state's spread."""


class Worth:
    """Scaled frames (..., E) -> (..., E + 1): with what the source is expected to have paid for each."""

    def __init__(self, frames: Array, rate: Array, weight: float):
        """Fit to scaled frames (n, E) and the reward rate (n,) that came with each.

        ``weight``: what a difference of a spread in worth counts, where a squared distance of 1 is a difference of a
        spread in all other dimensions.
        """
        self.center, self.spread = frames.mean(0), frames.std(0) + 1e-6
        low, high = np.quantile(rate, RANGE)
        # Where good frames are rare the quantiles may coincide; where nothing differs there is nothing to tell.
        spread = max((high - low) / 2, float(rate.std()))
        self.unit = np.float32(np.sqrt(weight) / spread if spread > NOTHING else 0.0)
        self.network = regression(self._inputs(frames), torch.from_numpy(rate))

    @torch.no_grad()
    def __call__(self, frames: Array) -> Array:
        """The frames with their worth."""
        worth = self.network(self._inputs(frames)).numpy() * self.unit
        return np.concatenate([frames, worth], -1)

    def _inputs(self, frames: Array) -> torch.Tensor:
        return torch.from_numpy((frames - self.center) / self.spread).clamp(-FAR, FAR)


def regression(inputs: torch.Tensor, target: torch.Tensor) -> nn.Module:
    """A network fitted to inputs (n, E) and targets (n,) by least squares; it leaves the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = mlp(inputs.shape[-1], HIDDEN, 2, 1)
        parameters = dict(network.named_parameters())
        optimizer = torch.optim.Adam(parameters.values(), LEARNING_RATE, fused=True)
        for _ in range(UPDATES):
            chosen = torch.randint(len(inputs), (BATCH,))
            batch = {"frames": inputs[chosen], "rate": target[chosen]}
            loss = (network(batch["frames"]).squeeze(-1) - batch["rate"]).square().mean()
            # No gradient of so plain a fit is too large.
            descend(optimizer, parameters, loss, math.inf, "worth", batch)
    return network.requires_grad_(False)

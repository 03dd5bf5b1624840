"""The target's reward head: a part of the world model, as at the source, but learned from inferred labels alone."""

from typing import NamedTuple

import torch
from torch import Tensor

from telepath.dreamer.behavior import RewardHead


class Labelled(NamedTuple):
    """Latents and what was inferred of them: feature (..., F), rate (...) in reward a frame, and how far to trust it,
    weight (...) in [0, 1].
    """

    feature: Tensor
    rate: Tensor
    weight: Tensor

    def take(self, index: Tensor) -> "Labelled":
        """Some of them, where there is one leading dimension."""
        return Labelled(self.feature[index], self.rate[index], self.weight[index])

    def to(self, device: torch.device) -> "Labelled":
        """The same on a device."""
        return Labelled(self.feature.to(device), self.rate.to(device), self.weight.to(device))


def label_loss(reward: RewardHead, labels: Labelled) -> Tensor:
    """Weighted mean squared error of the head on labels, a scalar; 0 where none has a weight."""
    squared = (reward(labels.feature) - labels.rate).square()
    return (labels.weight * squared).sum() / labels.weight.sum().clamp(min=1.0)

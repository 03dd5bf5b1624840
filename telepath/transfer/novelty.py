"""What a world model does not know yet: sought by exploration."""

import torch
from torch import Tensor, nn

from telepath.dreamer.learner import Figures
from telepath.dreamer.networks import EnsembleMLP
from telepath.dreamer.replay import Lesson
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.settings import DreamerSettings

USUAL = 0.95
"""Share of the replayed states whose novelty counts as usual."""

MEMORY = 100
"""Batches over which that is averaged."""


class Disagreement(nn.Module):
    """An ensemble that predicts stoch_t from deter_t, which holds all of the past and the action: its spread is
    novelty (Sekar et al. 2020, "Plan2Explore").

    As a reward, feature (..., F) -> (...): the variance over the members, mean over dimensions, in units of what
    nearly all replayed states stay below (``USUAL``, a running quantile), so that it neither fades as the model learns
    nor depends on the latents' scale. Not in units of the mean: where a task is mostly standing still, all that leads
    there would count as new.
    """

    usual: Tensor
    batches: Tensor

    def __init__(self, model: WorldModel, settings: DreamerSettings, members: int):
        super().__init__()
        self.deter = model.deter
        self.ensemble = EnsembleMLP(members, model.deter, settings.hidden, model.stoch)
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, feature: Tensor) -> Tensor:
        """Novelty of the states."""
        return variance_of(self.ensemble(feature[..., : self.deter])) / self.usual

    def loss(self, latent: Latent, _lesson: Lesson) -> tuple[Tensor, Figures]:
        """Mean squared error over members, a scalar, which does not train the world model; notes the usual variance."""
        predicted = self.ensemble(latent.deter.detach())
        self.batches.add_(1).clamp_(max=MEMORY)
        self.usual.lerp_(variance_of(predicted.detach()).quantile(USUAL), 1 / self.batches)
        loss = (predicted - latent.stoch.detach()).square().mean()
        return loss, {"head": loss.detach()}


def variance_of(predicted: Tensor) -> Tensor:
    """Variance over the members (E, ..., n), mean over the n dimensions: (...)."""
    return predicted.var(0).mean(-1)

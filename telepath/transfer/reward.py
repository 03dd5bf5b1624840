"""The target's reward model: learned from inferred labels alone, on latents that it cannot bend."""

import math

import torch
from torch import Tensor, nn

from telepath.dreamer.learner import descend
from telepath.dreamer.networks import EnsembleMLP
from telepath.settings import DreamerSettings, TargetSettings


class RewardEnsemble(nn.Module):
    """feature (..., F) -> reward rate (...): the members' mean less ``pessimism`` standard deviations, within ``span``.

    Where the members disagree no label was near, and an actor would be drawn to whatever they happen to overrate. Nor
    does any rate lie outside of what the source ever paid, ``span`` = (lowest, highest).
    """

    span: Tensor

    def __init__(
        self,
        feature_dim: int,
        dreamer: DreamerSettings,
        settings: TargetSettings,
        span: tuple[float, float] = (-math.inf, math.inf),
    ):
        super().__init__()
        self.members = EnsembleMLP(settings.members, feature_dim, dreamer.hidden, 1)
        self.pessimism = settings.pessimism
        self.register_buffer("span", torch.tensor(span))

    def forward(self, feature: Tensor) -> Tensor:
        """The cautious rate."""
        rates = self.members(feature).squeeze(-1)
        return (rates.mean(0) - self.pessimism * rates.std(0)).clamp(self.span[0], self.span[1])

    def error(self, feature: Tensor, rate: Tensor, weight: Tensor) -> Tensor:
        """Weighted mean squared error of the members on labels, (..., F), (...), (...); a scalar."""
        squared = (self.members(feature).squeeze(-1) - rate).square().mean(0)
        return (weight * squared).sum() / weight.sum().clamp(min=1.0)


class RewardLearner:
    """Fits the ensemble to labels on real records and on imagined re-enactments."""

    def __init__(self, reward: RewardEnsemble, settings: TargetSettings):
        self.reward, self.imagined_weight = reward, settings.imagined_weight
        self.parameters = dict(reward.named_parameters())
        self.optimizer = torch.optim.Adam(self.parameters.values(), settings.reward_lr, eps=1e-6, fused=True)

    def update(self, real: tuple[Tensor, Tensor, Tensor], imagined: tuple[Tensor, Tensor, Tensor]) -> float:
        """One step on (feature, rate, weight) of both kinds. Returns the loss on the real ones."""
        error = self.reward.error(*real)
        loss = error + self.imagined_weight * self.reward.error(*imagined)
        fields = ("feature", "rate", "weight")
        inputs = {
            f"{kind} {field}": tensor
            for kind, lot in (("real", real), ("imagined", imagined))
            for field, tensor in zip(fields, lot, strict=True)
        }
        descend(self.optimizer, self.parameters, loss, 10.0, "reward ensemble", inputs)
        return float(error.detach())

"""Imagination's written-out backward pass against autograd's, one operation after the other."""

import pytest
import torch
from torch import Tensor

from telepath.dreamer.behavior import Actor, Behavior
from telepath.dreamer.imagining import Limits, Noise, imagine_along
from telepath.dreamer.networks import MIN_STD
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.settings import DreamerSettings

STEPS, BATCH, ACTIONS = 5, 4, 2


def by_autograd(model: WorldModel, actor: Actor, start: Latent, noise: Noise) -> tuple[Tensor, Tensor]:
    latent, features, entropies = start, [start.feature], []
    for a_noise, s_noise in zip(*noise, strict=True):
        policy = actor(features[-1].detach())
        action = policy.mean + policy.std * a_noise
        action = action + (action.clamp(-1, 1) - action).detach()
        deter = model.recur(latent, action)
        prior = model.prior(deter)
        latent = Latent(deter, prior.mean + prior.std * s_noise)
        features.append(latent.feature)
        entropies.append(policy.entropy())
    return torch.stack(features), torch.stack(entropies)


def world(small: DreamerSettings, dtype: torch.dtype) -> tuple[WorldModel, Actor, Latent, Noise]:
    torch.manual_seed(0)
    model = WorldModel(3, ACTIONS, small).to(dtype).requires_grad_(False)
    actor = Behavior(model.feature_dim, ACTIONS, small).actor.to(dtype)
    with torch.no_grad():
        for parameter in (*model.parameters(), *actor.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))  # norms and biases that begin at 1 and 0 show no mistake
        actor.net[-1].bias[:ACTIONS] = torch.tensor([1.2, -0.9])  # so that means lie beyond their bounds, too
    start = Latent(torch.randn(BATCH, model.deter, dtype=dtype), torch.randn(BATCH, model.stoch, dtype=dtype))
    noise = (torch.randn(STEPS, BATCH, size, dtype=dtype) for size in (ACTIONS, model.stoch))
    return model, actor, start, Noise(*noise)


def along(model: WorldModel, actor: Actor, start: Latent, noise: Noise) -> tuple[Tensor, Tensor]:
    limits = Limits(actor.min_std, actor.max_std, MIN_STD)
    return imagine_along(start.feature, noise, limits, list(actor.net.parameters()), model.dynamics())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_imagination_and_its_gradients_are_what_the_equations_say(
    small: DreamerSettings, dtype: torch.dtype, tolerance: float
) -> None:
    model, actor, start, noise = world(small, dtype)
    pulls = torch.randn(STEPS + 1, BATCH, model.feature_dim, dtype=dtype), torch.randn(STEPS, BATCH, dtype=dtype)
    found = []
    for way in (along, by_autograd):
        outcome = way(model, actor, start, noise)
        loss = sum((pull * part).sum() for pull, part in zip(pulls, outcome, strict=True))
        found.append((*outcome, *torch.autograd.grad(loss, list(actor.parameters()))))
    mean = actor(found[1][0]).mean.abs()
    assert 0.1 < (mean == 1).to(dtype).mean() < 0.9, "no mean lies beyond its bounds, or all do"
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max()))
        assert theirs.abs().sum() > 0

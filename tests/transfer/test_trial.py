import pytest
import torch
from torch import Tensor, nn

from telepath.dreamer.agent import Agent
from telepath.settings import DreamerSettings
from telepath.transfer.trial import imagined_rates


class FirstFeature(nn.Module):
    """Pays what the first number of the state says."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature[..., 0]


class Wage(nn.Module):
    """Pays the same everywhere."""

    def forward(self, feature: Tensor) -> Tensor:
        return torch.full(feature.shape[:-1], 0.25)


@pytest.fixture
def agent(small: DreamerSettings) -> Agent:
    torch.manual_seed(0)
    return Agent("point", 2, 1, small)


def test_every_episode_is_paid_for_each_of_its_steps(agent: Agent) -> None:
    rates = imagined_rates(agent, Wage(), torch.randn(5, 2), 70, seed=0)  # type: ignore[arg-type]
    torch.testing.assert_close(rates, torch.full((5,), 0.25))


def test_it_goes_as_far_in_stretches_as_at_once_and_leaves_nothing_to_differentiate(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for stretch in (1, 7, 100):
        monkeypatch.setattr("telepath.transfer.trial.STRETCH", stretch)
        found.append(imagined_rates(agent, FirstFeature(), torch.ones(4, 2), 20, seed=3))  # type: ignore[arg-type]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    assert not found[0].requires_grad
    other = imagined_rates(agent, FirstFeature(), torch.ones(4, 2), 20, seed=4)  # type: ignore[arg-type]
    assert not torch.equal(found[2], other), "another seed, other noise"


def test_it_is_the_prior_that_is_followed_with_the_share_of_noise_that_a_judged_agent_has(agent: Agent) -> None:
    first, steps = torch.randn(3, 2), 6
    model, actor, share = agent.model, agent.behavior.steady, agent.settings.exploit_noise
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(3, model.stoch, generator=generator)
    acting = torch.randn(steps, 3, 1, generator=generator)
    moving = torch.randn(steps, 3, model.stoch, generator=generator)
    total = torch.zeros(3)
    with torch.no_grad():
        deter = model.recur(model.initial(3), torch.zeros(3, 1))
        mean, std = model.posterior(deter, model.embed(first))
        latent = model.as_latent(torch.cat([deter, mean + std * start], -1))
        for t in range(steps):
            policy = actor(latent.feature)
            deter = model.recur(latent, (policy.mean + share * policy.std * acting[t]).clamp(-1, 1))
            mean, std = model.prior(deter)
            latent = model.as_latent(torch.cat([deter, mean + std * moving[t]], -1))
            total += latent.feature[:, 0]
    rates = imagined_rates(agent, FirstFeature(), first, steps, seed=1)  # type: ignore[arg-type]
    torch.testing.assert_close(rates, total / steps, rtol=1e-4, atol=1e-5)

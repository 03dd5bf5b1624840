import numpy as np
import pytest
import torch

from telepath.dreamer.agent import Agent
from telepath.dreamer.replay import Batch
from telepath.settings import DreamerSettings
from telepath.transfer.anchor import BURN_IN, Anchor, trailing_mean


@pytest.fixture
def agent(small: DreamerSettings) -> Agent:
    torch.manual_seed(0)
    agent = Agent("point", 2, 1, small)
    for parameter in agent.parameters():  # an untrained actor would do nothing anywhere
        parameter.data += 0.3 * torch.randn_like(parameter)
    return agent


def window(length: int, width: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    observation = torch.randn(length, width, 2, generator=generator)
    action = torch.rand(length, width, 1, generator=generator) * 2 - 1
    flags = torch.zeros(length, width)
    return Batch(observation, action, None, flags, flags, np.zeros(width), np.zeros(width))


def asked(agent: Agent, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """What the agent would do after the last of the records (T, B, ...)."""
    with torch.no_grad():
        latent = agent.model.observe(observation, action, None).latent
        mean: torch.Tensor = agent.behavior.steady(latent.feature[-1]).mean
    return mean


def test_an_anchor_does_what_its_agent_would_do_after_each_record(agent: Agent) -> None:
    batch = window(12)
    wanted = Anchor(agent).actions(batch)
    assert wanted.shape == (12 - BURN_IN, 3, 1)
    assert wanted.std() > 0.01
    for back in (1, 2, 5):
        end = 12 - back + 1
        torch.testing.assert_close(wanted[-back], asked(agent, batch.observation[:end], batch.action[:end]))


@pytest.mark.parametrize("length", [16, 17])
def test_an_agent_of_a_slower_rate_is_asked_at_its_own_pace(agent: Agent, length: int) -> None:
    batch = window(length)
    agent.pace = 2
    wanted = Anchor(agent).actions(batch)
    assert wanted.shape == (16 - 2 * BURN_IN, 3, 1)
    since = (batch.action + torch.cat([batch.action[:1] * 0, batch.action[:-1]])) / 2
    since[0] = batch.action[0]
    for back in (1, 2, 3):
        # Every second record, up to the one that is asked about; the window's surplus first record is left out.
        index = torch.arange(length - back, length - 17, -2).flip(0)
        torch.testing.assert_close(wanted[-back], asked(agent, batch.observation[index], since[index]))


def test_a_window_too_short_for_the_pace_still_says_something(agent: Agent) -> None:
    agent.pace = 10
    wanted = Anchor(agent).actions(window(16))
    assert len(wanted) > 0
    assert torch.isfinite(wanted).all()


def test_the_trailing_mean_takes_what_there_is() -> None:
    action = torch.arange(1.0, 6).reshape(5, 1, 1)
    assert trailing_mean(action, 2).flatten().tolist() == [1, 1.5, 2.5, 3.5, 4.5]
    assert torch.equal(trailing_mean(action, 1), action)

"""The policy that a refinement stays near: what a policy known to be good would do on replayed windows.

An actor that follows a young model's gradient freely loses what it could do before the model has learned better. So it
is drawn to what is known to work, as Fujimoto and Gu (2021, "TD3+BC") draw an offline policy to its data.
"""

import torch
from torch import Tensor

from telepath.dreamer.agent import Agent
from telepath.dreamer.replay import Batch

BURN_IN = 4
"""Steps after which a filter that begins in the middle of an episode knows about where it is."""


class Anchor:
    """An agent, asked for its actions in its own world model and at its own pace."""

    def __init__(self, agent: Agent):
        self.agent = agent

    @torch.no_grad()
    def actions(self, batch: Batch) -> Tensor:
        """The mean actions (n, B, A) after each of the window's last n records.

        Where one of the agent's steps takes k here, k filters run interleaved, each on every k-th record with the mean
        action since: the agent sees the pace that it knows, and is asked at every record all the same.
        """
        length, width = batch.action.shape[:2]
        # A window too short for that pace is read at a faster one.
        hold = max(1, min(self.agent.pace, length // (2 * BURN_IN)))
        steps = length // hold
        observation = batch.observation[-steps * hold :].reshape(steps, hold * width, *batch.observation.shape[2:])
        action = trailing_mean(batch.action, hold)[-steps * hold :].reshape(steps, hold * width, -1)
        latent = self.agent.model.observe(observation, action, None).latent
        wanted: Tensor = self.agent.behavior.steady(latent.feature).mean
        known = wanted[min(BURN_IN, steps // 2) :]
        return known.reshape(len(known) * hold, width, -1)


def trailing_mean(action: Tensor, count: int) -> Tensor:
    """The mean of each action (T, B, A) and those before it, ``count`` in all or as many as there are."""
    total = torch.cat([torch.zeros_like(action[:1]), action.cumsum(0)])
    last = torch.arange(1, len(total), device=action.device)
    first = (last - count).clamp(min=0)
    return (total[last] - total[first]) / (last - first)[:, None, None]

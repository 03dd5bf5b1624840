"""A policy tried out in its own model of the target: whole episodes of imagination, which cost no step there.

From one update to the next a policy forgets and relearns, and so do averages of it, a little later. How it does from an
episode's beginning to its end shows which of a round's is to be kept.
"""

import torch
from torch import Tensor

from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead, imagine
from telepath.dreamer.imagining import Noise

CLOSE = 0.95
"""What imagines this share of the best of a round is as good: of those the latest has learnt the most."""

STRETCH = 64
"""Steps imagined at a time: bounds the memory."""


@torch.no_grad()
def imagined_rates(agent: Agent, reward: RewardHead, first: Tensor, steps: int, seed: int) -> Tensor:
    """The mean reward rate (B,) of imagined episodes of so many ``steps``, each from a first observation (B, *shape).

    The agent acts as it is judged, with ``exploit_noise`` of its noise. The same ``seed`` gives the same noise on every
    device, so that agents differ by what they do. An end that the model foresees is not reckoned with.
    """
    model, batch = agent.model, len(first)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(model.device)

    deter = model.recur(model.initial(batch), torch.zeros(batch, model.action_dim, device=model.device))
    posterior = model.posterior(deter, model.embed(first.to(model.device)))
    feature = torch.cat([deter, posterior.mean + posterior.std * noise(batch, model.stoch)], -1)
    actions = agent.settings.exploit_noise * noise(steps, batch, model.action_dim)
    stoch = noise(steps, batch, model.stoch)
    total = torch.zeros(batch, device=model.device)
    for stretch in zip(actions.split(STRETCH), stoch.split(STRETCH), strict=True):
        way = imagine(model, agent.behavior.steady, model.as_latent(feature), Noise(*stretch)).feature
        feature = way[-1]
        total += reward(way[1:]).sum(0)
    return total / steps

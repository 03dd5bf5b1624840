"""Actor and critic, trained in the world model's imagination (Hafner et al. 2020, "Dreamer").

Rewards here are *rates*: reward per simulator frame, so a task that pays at most 1 a frame stays within [0, 1] at any
control rate. Values are normalised returns, (1 - discount) * sum_k discount^k rate_k: the discounted mean rate, in
the units of the rate whatever the discount.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from telepath.dreamer.imagining import Limits, Noise, imagine_along
from telepath.dreamer.networks import MIN_STD, Bounded, Gaussian, mlp, noise_like
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.settings import DreamerSettings


class RewardHead(nn.Module):
    """feature (..., F) -> reward rate (...), the mean reward a simulator frame."""

    def __init__(self, feature_dim: int, settings: DreamerSettings):
        super().__init__()
        self.net = mlp(feature_dim, settings.hidden, settings.layers, 1, zero=True)

    def forward(self, feature: Tensor) -> Tensor:
        """The expected rate."""
        return self.net(feature).squeeze(-1)


class Actor(nn.Module):
    """feature (..., F) -> Gaussian over actions whose mean lies in [-1, 1] and whose std in [min_std, max_std]."""

    def __init__(self, feature_dim: int, action_dim: int, settings: DreamerSettings):
        super().__init__()
        self.net = mlp(feature_dim, settings.hidden, settings.layers, 2 * action_dim)
        self.min_std, self.max_std = settings.actor_min_std, settings.actor_max_std

    def forward(self, feature: Tensor) -> Gaussian:
        """The policy at these states."""
        mean, std = self.net(feature).chunk(2, -1)
        return Gaussian(Bounded.apply(mean), self.min_std + (self.max_std - self.min_std) * torch.sigmoid(std))

    def sample(self, policy: Gaussian, generator: torch.Generator) -> Tensor:
        """A clipped sample; the gradient passes the clip as if it were not there."""
        action = policy.sample(generator)
        return action + (action.clamp(-1, 1) - action).detach()


class Critic(nn.Module):
    """feature (..., F) -> normalised return (...), with a slowly following copy for the bootstrap.

    Bootstrapped from itself the value swings, and an actor that follows its gradient through the dynamics ends with
    actions pressed against their bounds.
    """

    def __init__(self, feature_dim: int, settings: DreamerSettings):
        super().__init__()
        self.net = mlp(feature_dim, settings.hidden, settings.layers, 1, zero=True)
        self.slow = copy.deepcopy(self.net).requires_grad_(False)

    def forward(self, feature: Tensor) -> Tensor:
        """The value under the current weights."""
        return self.net(feature).squeeze(-1)

    def bootstrap(self, feature: Tensor) -> Tensor:
        """The value under the slow weights."""
        return self.slow(feature).squeeze(-1)


class Behavior(nn.Module):
    """An actor, its critic, the running scale of the returns that they see, and the widest it has been.

    ``steady`` is the actor with running averages of its weights (Polyak and Juditsky 1992). From one update to the next
    an actor's skill swings; that of its average does not, so it is the one that is judged.
    """

    scale: Tensor
    widest: Tensor
    ends: Tensor

    def __init__(self, feature_dim: int, action_dim: int, settings: DreamerSettings):
        super().__init__()
        self.actor = Actor(feature_dim, action_dim, settings)
        self.steady = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = Critic(feature_dim, settings)
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("widest", torch.zeros(()))
        self.register_buffer("ends", torch.tensor(RETURN_RANGE), persistent=False)
        self.steady_rate, self.slow_rate = settings.steady_actor_rate, settings.slow_critic_rate
        self.scale_rate, self.floor = settings.return_scale_rate, settings.return_floor

    @torch.no_grad()
    def follow(self) -> None:
        """Move the steady actor and the critic's slow copy towards the current weights."""
        for slow, net, rate in (
            (self.steady, self.actor, self.steady_rate),
            (self.critic.slow, self.critic.net, self.slow_rate),
        ):
            torch._foreach_lerp_(list(slow.parameters()), list(net.parameters()), rate)

    @torch.no_grad()
    def measure(self, returns: Tensor) -> "Scale":
        """Let the scale follow the 5-95 % range of returns (...): what to scale by.

        Nothing is blown up by more than 1 / ``return_floor`` (Hafner et al. 2023, eq. 11-12).
        """
        low, high = torch.quantile(returns, self.ends)
        self.scale.lerp_(high - low, self.scale_rate)
        torch.maximum(self.widest, self.scale, out=self.widest)
        return Scale(self.scale.clamp(min=self.floor), self.widest.clamp(min=self.floor))

    @torch.no_grad()
    def settle(self) -> None:
        """Let the actor itself become the steady one: where a training ends and another begins."""
        self.actor.load_state_dict(self.steady.state_dict())


class Horizon(NamedTuple):
    """How far a behavior looks ahead: imagined steps, from how many states, discount gamma and lambda, each for one
    step, and what share of a source step that is.
    """

    steps: int
    starts: int
    gamma: float
    lam: float
    share: float = 1.0

    @staticmethod
    def at(settings: DreamerSettings, source_steps: int, rate_ratio: float = 1.0) -> "Horizon":
        """A horizon of so many source steps where ``rate_ratio`` steps last as long as one of them: as long in seconds.

        The longer, the fewer are the starts: an update costs the same.
        """
        steps = math.ceil(source_steps * rate_ratio)
        return Horizon(
            steps,
            max(1, settings.imagined // steps),
            settings.discount ** (1 / rate_ratio),
            settings.return_lambda ** (1 / rate_ratio),
            1 / rate_ratio,
        )


class Outset(NamedTuple):
    """Where trajectories set out: detached states (B, ...), the noise on the H steps of their way, and what share they
    are of all trajectories of the update.
    """

    start: Latent
    noise: Noise
    share: float = 1.0

    def halves(self) -> "list[Outset]":
        """The first half of the trajectories and the second one."""
        parts = zip(*(part.tensor_split(2, -2) for part in (*self.start, *self.noise)), strict=True)
        count = len(self.start.deter)
        return [
            Outset(Latent(deter, stoch), Noise(*noise), self.share * len(deter) / count)
            for deter, stoch, *noise in parts
        ]


class Imagined(NamedTuple):
    """Imagined trajectories, time-major: feature (H+1, B, F) with the start at 0; entropy (H, B) of the policy."""

    feature: Tensor
    entropy: Tensor


class Dream(NamedTuple):
    """Imagined trajectories and what they are worth: the lambda-returns (H, B) of the states 0..H-1, and the weight of
    each (H, B), the chance that the task has not ended before. ``share``: of all trajectories of the update.
    """

    imagined: Imagined
    returns: Tensor
    weight: Tensor
    share: float


class Scale(NamedTuple):
    """What returns and entropy are measured by: the returns' range and the widest that it has been; scalars."""

    returns: Tensor
    widest: Tensor


class Experience(NamedTuple):
    """What really happened: filtered states (T, B, ...), the rate (T, B) received with each (None: nothing is paid)
    and terminal (T, B) in {0, 1}.
    """

    states: Latent
    rate: Tensor | None
    terminal: Tensor

    def to(self, device: torch.device) -> "Experience":
        """The same on a device."""
        parts = self._asdict().items()
        return self._replace(**{name: part.to(device) for name, part in parts if part is not None})


def set_out(model: WorldModel, start: Latent, steps: int, generator: torch.Generator) -> Outset:
    """All trajectories of an update, from the states ``start`` (B, ...), with all the noise of their ``steps`` H.

    It is drawn here, before anything is divided: who works on a part draws nothing.
    """
    shape = steps, len(start.stoch)
    action = noise_like(start.stoch.new_empty(*shape, model.action_dim), generator)
    return Outset(start, Noise(action, noise_like(start.stoch.new_empty(*shape, model.stoch), generator)))


def imagine(model: WorldModel, actor: Actor, start: Latent, noise: Noise) -> Imagined:
    """Follow the actor in the model from the states ``start`` (B, ...), for as many steps H as there is noise.

    The gradient runs through dynamics and actions (Hafner et al. 2020, section 3).
    """
    limits = Limits(actor.min_std, actor.max_std, MIN_STD)
    return Imagined(*imagine_along(start.feature, noise, limits, list(actor.net.parameters()), model.dynamics()))


def lambda_returns(rate: Tensor, value: Tensor, discount: Tensor, lam: float, gamma: float) -> Tensor:
    """Normalised lambda-returns, (H, B), of the states 0..H-1.

        R_t = (1 - gamma) r_{t+1} + d_{t+1} ((1 - lam) v_{t+1} + lam R_{t+1}),    R_H = v_H

    rate, value and discount d (gamma, or 0 after an end) belong to the states 1..H: (H, B) each
    (Hafner et al. 2021, eq. 4, with returns normalised by 1 - gamma).
    """
    rate = (1 - gamma) * rate
    last, returns = value[-1], []
    for t in reversed(range(len(rate))):
        last = rate[t] + discount[t] * ((1 - lam) * value[t] + lam * last)
        returns.append(last)
    return torch.stack(returns[::-1])


def dream_from(model: WorldModel, behavior: Behavior, reward: nn.Module, horizon: Horizon, outset: Outset) -> Dream:
    """Imagine trajectories and reckon what they are worth; ``reward`` maps features to rates."""
    imagined = imagine(model, behavior.actor, outset.start, outset.noise)
    future = imagined.feature[1:]
    with torch.no_grad():  # an end is a fact to reckon with; bending its prediction would be no way to avoid it
        discount = horizon.gamma * model.continuation(future)
    bootstrap = behavior.critic.bootstrap(future)
    returns = lambda_returns(reward(future), bootstrap, discount, horizon.lam, horizon.gamma)
    # A state behind a predicted end counts for nothing: weight = product of the continuations before it.
    weight = torch.cat([torch.ones_like(discount[:1]), discount[:-1] / horizon.gamma]).cumprod(0)
    return Dream(imagined, returns, weight, outset.share)


def actor_loss(dream: Dream, scale: Scale, entropy: float) -> Tensor:
    """The negative of the return and of the entropy at a price, ``entropy`` a nat: their mean, times the dream's share.

    Returns are scaled by their running 5-95 % range (Hafner et al. 2023, eq. 11-12). Unlike there the entropy bonus is
    scaled too, by the widest range so far: its price is in units of the rate. So where returns hardly differ yet, the
    policy explores, and a task that pays little a frame is explored longer; but one that is solved, so that returns
    hardly differ any more, is not made noisy again.
    """
    worth = dream.returns / scale.returns + entropy * dream.imagined.entropy / scale.widest
    return -(dream.weight * worth).mean() * dream.share


def critic_loss(critic: Critic, dream: Dream, scale: Scale) -> tuple[Tensor, Tensor]:
    """The critic's regression on the returns, and its value: means, times the dream's share. The losses of all parts of
    an update add up to that of the whole, as those of the actor do.
    """
    value = critic(dream.imagined.feature[:-1].detach())
    loss = 0.5 * (dream.weight * (value - dream.returns.detach()).square()).mean() / scale.returns.square()
    return loss * dream.share, value.detach().mean() * dream.share


def replayed_value_loss(
    behavior: Behavior, feature: Tensor, rate: Tensor, terminal: Tensor, horizon: Horizon
) -> Tensor:
    """The critic's regression on what really followed: feature (T, B, F), rate and terminal (T, B); a scalar.

    In imagination a critic is judged by itself alone, and where the model dreams it believes the dream. Here the
    lambda-return is taken along replayed rewards (Hafner et al. 2025, "Mastering diverse control tasks through world
    models").
    """
    with torch.no_grad():
        discount = horizon.gamma * (1 - terminal[1:])
        returns = lambda_returns(rate[1:], behavior.critic.bootstrap(feature[1:]), discount, horizon.lam, horizon.gamma)
    return 0.5 * (behavior.critic(feature[:-1]) - returns).square().mean()


RETURN_RANGE = (0.05, 0.95)
"""Quantiles between which lies what returns are scaled by."""

"""BCO: behaviour cloning from observation (Torabi, Warnell and Stone, IJCAI 2018), in its form BCO(alpha).

Two regressions. The *inverse model* learns on the target's own transitions which action leads from one observation to
the next, and so guesses what the target would have to do to move as the source was seen to move. A *clone* learns those
guesses, beside the observations at which they were made (the paper states both as maximum likelihood),

    max_theta  sum_{(o, a, o') of the target} log p_theta(a | o, o'),
    max_phi    sum_{(o, o') of the source}    log pi_phi(a~ | o),        a~ = argmax_a p_theta(a | o, o').

First the target moves at random, then as the clone does, with noise, and every episode improves both networks: only
where the clone goes does the inverse model meet what the source shows.

Of the source it sees observations, and returns, by which the best episodes are chosen. Where the control rates differ,
the source's observations are interpolated at the target's rate, straight lines in between: in a faster target the
inverse model is then asked for transitions that no body makes exactly, and more so the larger the ratio.

Both networks are Gaussians of fixed width, so that maximum likelihood is least squares and the label is the mean.
Different from the paper: the clone sees the last few observations instead of one, because velocities of what an
observation leaves out show only then; updates follow every episode instead of two long phases.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from telepath.baselines.regression import Fit, Pairs, Regressor, built
from telepath.baselines.rival import Allowed, Figures, episode_budget, noisy, resample
from telepath.envs.rollout import Policy, RandomPolicy, State, rollout
from telepath.episodes import Array
from telepath.rival_settings import BcoSettings


def transitions(track: Tensor) -> Tensor:
    """What the inverse model sees of observations (T, D): each and the change to the next, (T - 1, 2D)."""
    return torch.cat([track[:-1], track[1:] - track[:-1]], 1)


def histories(track: Tensor, length: int) -> Tensor:
    """The last ``length`` of observations (T, D) at every time, oldest first, (T, length * D).

    Before the beginning stands the first observation.
    """
    padded = torch.cat([track[:1].expand(length - 1, -1), track])
    return torch.cat([padded[lag : lag + len(track)] for lag in range(length)], 1)


class ClonedPolicy:
    """A network on the last few observations."""

    def __init__(self, clone: Regressor, history: int):
        self.clone, self.history = clone, history

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def act(self, observation: Array) -> Array:
        """Observations (B, D) -> actions (B, A) in [-1, 1]."""
        now = torch.from_numpy(observation)
        self.seen = [*(self.seen or [now] * self.history)[1:], now]
        return self.clone(torch.cat(self.seen, 1)).clamp(-1, 1).numpy()

    def state(self) -> State:
        """What it has in view."""
        return {"seen": self.seen}

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        self.seen = state["seen"]


class NoisyClone(ClonedPolicy):
    """The clone while it collects data."""

    def __init__(self, clone: Regressor, history: int, std: float, rng: np.random.Generator):
        super().__init__(clone, history)
        self.std, self.rng = std, rng

    def act(self, observation: Array) -> Array:
        """Observations (B, D) -> actions (B, A) in [-1, 1]."""
        return noisy(super().act(observation), self.std, self.rng)

    def state(self) -> State:
        """What it has in view, and where the noise is."""
        return super().state() | {"rng": self.rng.bit_generator.state}

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        super().restore(state)
        self.rng.bit_generator.state = state["rng"]


class Bco:
    """Clones the source's best episodes in a target."""

    def __init__(self, allowed: Allowed, settings: BcoSettings):
        torch.manual_seed(allowed.seed)
        self.target, self.settings, self.seed = allowed.target, settings, allowed.seed
        best = sorted(allowed.episodes, key=lambda episode: -episode.ret)[: settings.demonstrations]
        # An episode's last step may be shorter than the others, so nothing is learnt from it, here or in the target.
        tracks = [torch.from_numpy(resample(episode.observation[:-1], allowed.rates)) for episode in best]
        # The last observation has no action of its own: nothing is seen to follow.
        self.moves = torch.cat([transitions(track) for track in tracks])
        self.moments = torch.cat([histories(track, settings.history)[:-1] for track in tracks])
        observation_dim, self.action_dim = self.target.observation_dim, self.target.action_dim
        self.inverse = Regressor(2 * observation_dim, self.action_dim, settings.hidden)
        self.clone = Regressor(settings.history * observation_dim, self.action_dim, settings.hidden)
        # In units of what the source shows: that is where both have to be right. Actions have theirs already.
        for regressor, inputs in ((self.inverse, self.moves), (self.clone, self.moments)):
            regressor.fit_units(inputs, torch.ones(len(inputs), self.action_dim))
        self.inverse_fit = Fit("inverse model", self.inverse, settings.lr, settings.batch, allowed.seed)
        self.clone_fit = Fit("clone", self.clone, settings.lr, settings.batch, allowed.seed)
        self.random_episodes = max(1, round(settings.random * episode_budget(self.target, allowed.steps)))
        self.pairs = Pairs(allowed.steps, 2 * observation_dim, self.action_dim)
        self.rng = np.random.default_rng(allowed.seed)

    def episode(self, number: int) -> tuple[int, Figures]:
        """Act through an episode, then improve both networks.

        Figures: the mean losses of the two, squared errors of actions.
        """
        self.target.reseed(self.seed, number)
        (episode,) = rollout([self.target], self.policy(number))
        self.pairs.add(transitions(torch.from_numpy(episode.observation[:-1])), torch.from_numpy(episode.action[1:-1]))
        updates = round(self.settings.update_ratio * episode.steps)
        inverse = [self.inverse_fit.update(self.pairs.inputs, self.pairs.outputs) for _ in range(updates)]
        labels = self.labels()
        clone = [self.clone_fit.update(self.moments, labels) for _ in range(updates)]
        return episode.steps, {"inverse": float(np.mean(inverse)), "clone": float(np.mean(clone))}

    def policy(self, number: int) -> Policy:
        """What acts in episode ``number``. Random actions are held for 1, 2 and 4 steps in turn, as in exploration."""
        if number < self.random_episodes:
            return RandomPolicy(self.action_dim, self.rng, 2 ** (number % 3))
        return NoisyClone(self.clone, self.settings.history, self.settings.noise, self.rng)

    @torch.no_grad()
    def labels(self) -> Tensor:
        """The actions (N, A) that the inverse model sees behind the source's moves."""
        return self.inverse(self.moves).clamp(-1, 1)

    def artefact(self) -> dict[str, Any]:
        """The clone."""
        return {
            "observation_dim": self.target.observation_dim,
            "action_dim": self.action_dim,
            "history": self.settings.history,
            "hidden": self.settings.hidden,
            "clone": dict(self.clone.state_dict()),
        }

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs, between two episodes."""
        return {
            "inverse": self.inverse_fit.state(),
            "clone": self.clone_fit.state(),
            "pairs": self.pairs.state(),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.inverse_fit.restore(state["inverse"])
        self.clone_fit.restore(state["clone"])
        self.pairs.restore(state["pairs"])
        self.rng.bit_generator.state = state["rng"]


def cloned_policy(stored: dict[str, Any]) -> ClonedPolicy:
    """The policy that ``Bco.artefact()`` describes."""
    inputs = stored["history"] * stored["observation_dim"]
    clone = built(lambda: Regressor(inputs, stored["action_dim"], stored["hidden"]), stored["clone"])
    return ClonedPolicy(clone, stored["history"])

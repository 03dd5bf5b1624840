"""What the source would do next: its simulator, reset to the target's state, or a model of its transitions.

One half of PADA (``pada``), which is about where the target goes instead.
"""

from typing import Protocol

import numpy as np
import torch

from telepath.alignment.rates import Rates
from telepath.baselines.regression import Fit, Regressor
from telepath.baselines.rival import resample
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.rival_settings import PlainPadaSettings


class SourceDynamics(Protocol):
    """f_source: where the source would be one target step later."""

    def begin(self, seed: int, episode: int) -> None:
        """The target begins this episode."""
        ...

    def next(self, state: Array, observation: Array, action: Array) -> Array | None:
        """The source's next observation (D,), from the physics state or from the observation (D,) of it; None where
        its simulator diverges.
        """
        ...


class SimulatedSource:
    """The source's simulator, reset to the target's state (the published form)."""

    def __init__(self, simulator: Environment):
        """``simulator``: the source's physics at the target's action repeat."""
        self.simulator = simulator

    def begin(self, seed: int, episode: int) -> None:
        """The target begins this episode."""
        self.start = (seed, episode)

    def next(self, state: Array, observation: Array, action: Array) -> Array | None:
        """One step from the physics state, as ``Environment.physics_state`` gives it."""
        # The same draw as in the target: what a task randomises beside the state, such as a goal, must agree as well.
        self.simulator.reseed(*self.start)
        self.simulator.reset(state)
        before = self.simulator.divergences
        found = self.simulator.step(action).observation
        return found if self.simulator.divergences == before else None


class LearnedSource:
    """A model of the source, fitted to its transitions: for when there is no simulator that can be reset.

    The transitions, but the last of an episode, which may be shorter than the others, are those of the source's
    observations at the target's rate, which lie on straight lines between the true ones where the target is faster,
    with the action that was in force when they began.
    """

    def __init__(self, episodes: list[Episode], rates: Rates, settings: PlainPadaSettings, seed: int):
        tracks = [resample(episode.observation[:-1], rates) for episode in episodes]
        actions = [
            episode.action[1 + begins_in(len(track) - 1, rates)]
            for episode, track in zip(episodes, tracks, strict=True)
        ]
        before = torch.from_numpy(np.concatenate([track[:-1] for track in tracks]))
        after = torch.from_numpy(np.concatenate([track[1:] for track in tracks]))
        inputs = torch.cat([before, torch.from_numpy(np.concatenate(actions))], 1)
        self.model = Regressor(inputs.shape[1], before.shape[1], settings.hidden)
        self.model.fit_units(inputs, after - before)
        fit = Fit("source model", self.model, settings.lr, settings.batch, seed)
        for _ in range(settings.source_updates):
            fit.update(inputs, after - before)

    def begin(self, seed: int, episode: int) -> None:
        """Which episode it is makes no difference."""

    @torch.no_grad()
    def next(self, state: Array, observation: Array, action: Array) -> Array:
        """One step from the observation."""
        return observation + self.model(torch.from_numpy(np.concatenate([observation, action]))).numpy()


def begins_in(count: int, rates: Rates) -> Array:
    """(count,): the source step, from 0, in which each of so many target steps begins."""
    return np.floor(np.arange(count) / rates.ratio + 1e-9).astype(np.int64)

"""Poses from observations: where the bodies would be if this were observed.

What is stored of a source is what was observed there, and what a world model imagines is an observation too. Neither is
a physics state, but a picture of one says more than its numbers, so positions are fitted: those whose observation comes
nearest. What is not observed (how far a walker has come, say) stays where an episode begins.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from telepath.envs.suite import Environment
from telepath.episodes import Array

TRIES = 6
"""Initial states that the fit of a first frame is begun from; the next frames begin from the one before."""

GOOD = 0.05
"""Root mean square misfit, in spreads, at which a frame does not need a fresh start."""

TIE = 1e-3
"""Weight of staying near the start: it settles what the observation leaves open."""


class Poses(NamedTuple):
    """position (N, Q): of the joints; misfit (N,): root mean square over what tells of poses, in spreads."""

    position: Array
    misfit: Array


class PoseFinder:
    """Fits joint positions of an environment's simulator to observations of states."""

    def __init__(self, environment: Environment, inverse: Array, seed: int = 0):
        """``inverse`` (D,): the scale of states, as alignments have it.

        Initial states come from ``seed``. The environment's own episode is lost.
        """
        self._environment, self._physics = environment, environment.physics
        self.starts = []
        for episode in range(TRIES):
            environment.reseed(seed, episode)
            environment.reset()
            self.starts.append(self._physics.data.qpos.copy())
        self.telling = self._find_telling(np.random.default_rng(seed))
        # The scale of frames also divides by the root of D: a mean over dimensions.
        self._weight = np.sqrt(len(inverse)) * np.asarray(inverse, np.float64)[self.telling]

    def _find_telling(self, rng: np.random.Generator) -> Array:
        """Indices of what depends on positions and not on velocities."""
        start = self.starts[0]
        still = self._observe(start)
        moving = self._observe(start, rng.normal(size=self._physics.data.qvel.shape))
        moved = [self._observe(start + 0.1 * rng.normal(size=start.shape)) for _ in range(3)]
        depends = np.any([other != still for other in moved], axis=0)
        return np.flatnonzero(depends & (moving == still))

    def _observe(self, position: Array, velocity: Array | float = 0.0) -> Array:
        # Straight from the task: noise and delay are the environment's, and no part of a pose.
        with self._physics.reset_context():
            self._physics.data.qpos[:] = position
            self._physics.data.qvel[:] = velocity
        entries = self._environment.simulator.task.get_observation(self._physics).values()
        return np.concatenate([np.ravel(entry) for entry in entries], dtype=np.float64)

    def show(self, position: Array) -> None:
        """Put the simulator's bodies there, at rest, for a camera to see."""
        self._observe(position)

    def fit(self, observations: Array) -> Poses:
        """Poses of a motion (N, D), each fitted from the one before; ValueError where nothing tells of poses."""
        if not len(self.telling):
            raise ValueError("no dimension of the observation tells of the pose")
        positions: list[Array] = []
        misfits: list[float] = []
        for observation in np.asarray(observations, np.float64):
            tried = [self._nearest(observation, positions[-1])] if positions else []
            if not tried or tried[0][1] > GOOD:
                tried += [self._nearest(observation, start) for start in self.starts]
            position, misfit = min(tried, key=lambda found: found[1])
            positions.append(position)
            misfits.append(misfit)
        return Poses(np.stack(positions), np.array(misfits))

    def _nearest(self, observation: Array, start: Array) -> tuple[Array, float]:
        wanted = observation[self.telling]

        def off(position: Array) -> Array:
            return self._weight * (self._observe(position)[self.telling] - wanted)

        def objective(position: Array) -> Array:
            return np.append(off(position), TIE * (position - start))

        found = least_squares(objective, start, max_nfev=40).x
        return found, float(np.sqrt(np.mean(np.square(off(found)))))

"""Frames as a few numbers: what real replay is matched with the source on, where frames are observed.

A frame is shrunk to 16 x 16 (means of 4 x 4 pixels, which also lets a small thing that has moved by its own width
overlap with where it was) and projected on the principal components of all frames that both sides have seen. Nothing is
learned by gradients, so labels on real replay still cannot go stale with a model; and a window of a whole replay takes
the memory of a state's.
"""

from typing import NamedTuple

import numpy as np

from telepath.alignment.segments import FrameScale, Scale
from telepath.episodes import Array, Episode
from telepath.observations import SIDE, Observation, frames_of

CELL = 4
"""Pixels of a frame's side that become one."""

INPUTS = (SIDE // CELL) ** 2 * 3
"""Numbers of a shrunk frame."""

COMPONENTS = 32
"""Principal components that are kept."""

AT_ONCE = 2048
"""Frames that are shrunk at a time: 25 MB of bytes, 6 MB of numbers."""


class Projection(NamedTuple):
    """Frames -> (..., E): mean (768,) and basis (768, E) float32, scaled so that squared distances are mean squared
    spreads of a frame's numbers, as a ``FrameScale``'s are; spread: root mean variance of a whole frame's numbers,
    which lie in [0, 1].
    """

    mean: Array
    basis: Array
    spread: float

    @staticmethod
    def fit(episodes: list[Episode]) -> "Projection":
        """Principal components of all frames of the episodes."""
        small = np.concatenate([shrunk(episode.observation) for episode in episodes])
        mean = small.mean(0, dtype=np.float64)
        centred = small - mean
        variance, directions = np.linalg.eigh(centred.T @ centred / len(small))
        kept = directions[:, ::-1][:, :COMPONENTS]
        unit = np.sqrt(max(variance.sum(), 1e-12))
        return Projection(mean.astype(np.float32), (kept / unit).astype(np.float32), spread_of(episodes))

    def __call__(self, observation: Array) -> Array:
        """Observations (..., *shape) that hold frames -> (..., E) float32."""
        small = shrunk(observation.reshape(-1, *observation.shape[-3:]))
        return ((small - self.mean) @ self.basis).reshape(*observation.shape[:-3], -1)

    def arrays(self) -> dict[str, Array]:
        """Its parts."""
        return {"mean": self.mean, "basis": self.basis, "spread": np.array(self.spread)}


def shrunk(observation: Array) -> Array:
    """Observations (n, *shape) -> (n, 768) float32 in [0, 1]."""
    side = SIDE // CELL
    lots = [
        frames_of(observation[begin : begin + AT_ONCE])
        .reshape(-1, side, CELL, side, CELL, 3)
        .mean((2, 4), dtype=np.float32)
        .reshape(-1, INPUTS)
        for begin in range(0, len(observation), AT_ONCE)
    ]
    return np.concatenate(lots) / np.float32(255)


def spread_of(episodes: list[Episode]) -> float:
    """Root of the mean variance of a frame's numbers over the episodes, in [0, 1]."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for episode in episodes:
        frames = frames_of(episode.observation)
        count += len(frames)
        total = total + frames.sum(0, dtype=np.float64)
        squares = squares + np.square(frames, dtype=np.float32).sum(0, dtype=np.float64)
    variance = np.maximum(squares / count - np.square(total / count), 0)
    return float(max(np.sqrt(variance.mean()) / 255, 1e-6))


def scale_for(observation: Observation, episodes: list[Episode]) -> Scale:
    """What fits what is observed: spreads of the states, or the frames' principal components."""
    return Projection.fit(episodes) if observation.has_frames else FrameScale.fit(episodes)

"""Segments: pieces of source episodes, cut into prefix and reference, and the scale on which frames are compared."""

from typing import NamedTuple, Protocol

import numpy as np

from telepath.episodes import Array, Episode


class Segments(NamedTuple):
    """S pieces of source episodes.

    prefix (S, K, D): observations up to the moment where the re-enactment begins (its last frame is that moment);
    reference (S, N, D): the observations after it; rate (S, N): reward a simulator frame received with each reference
    frame; origin (S, 2): episode and record index of the last prefix frame.
    """

    prefix: Array
    reference: Array
    rate: Array
    origin: Array

    def __len__(self) -> int:
        return len(self.origin)

    def take(self, index: Array) -> "Segments":
        """Some of the segments."""
        return Segments(*(part[index] for part in self))


def chunk_indices(count: int, size: int) -> list[Array]:
    """0..count-1 in runs of ``size``; the last may be shorter."""
    return [np.arange(begin, min(begin + size, count)) for begin in range(0, count, size)]


def cut_segments(episodes: list[Episode], origin: Array, prefix: int, reference: int, action_repeat: int) -> Segments:
    """Cut segments at ``origin`` (S, 2): (episode, index of the last prefix frame)."""
    observation = [episodes[e].observation for e, _ in origin]
    reward = [episodes[e].reward for e, _ in origin]
    starts = origin[:, 1]
    return Segments(
        np.stack([o[t - prefix + 1 : t + 1] for o, t in zip(observation, starts, strict=True)]),
        np.stack([o[t + 1 : t + 1 + reference] for o, t in zip(observation, starts, strict=True)]),
        np.stack([r[t + 1 : t + 1 + reference] for r, t in zip(reward, starts, strict=True)])
        / np.float32(action_repeat),
        origin,
    )


def resample(track: Array, places: Array) -> Array:
    """Values of a track (T, ...) at fractional record numbers (n,), linear in between; (n, ...) float32.

    Of frames, uint8, the nearest ones: two pictures laid over each other are none.
    """
    if track.dtype == np.uint8:
        return track[np.floor(places + 0.5).astype(np.int64)]
    before = np.minimum(places.astype(np.int64), len(track) - 2)
    part = (places - before).astype(np.float32).reshape(-1, *[1] * (track.ndim - 1))
    return np.asarray(track[before] * (1 - part) + track[before + 1] * part, np.float32)


def all_origins(episodes: list[Episode], prefix: int, reference: int, stride: int) -> Array:
    """Every place where a segment fits, ``stride`` records apart: (S, 2)."""
    return np.array(
        [(e, t) for e, episode in enumerate(episodes) for t in range(prefix - 1, len(episode) - reference, stride)],
        np.int64,
    ).reshape(-1, 2)


def choose_origins(episodes: list[Episode], count: int, prefix: int, reference: int, rng: np.random.Generator) -> Array:
    """``count`` origins spread evenly over how much the segments were paid, so that good and bad ones both appear.

    All places are sorted by the segment's reward; one is drawn from each of ``count`` equal slices of the order.
    """
    places = all_origins(episodes, prefix, reference, 1)
    paid = np.concatenate([_paid(episode, prefix, reference) for episode in episodes])
    order = np.argsort(paid + rng.uniform(0, 1e-6, len(paid)), kind="stable")
    slices = np.array_split(order, min(count, len(order)))
    return places[np.array([rng.choice(s) for s in slices])]


class Frames(NamedTuple):
    """S frames of source episodes with what led to them: prefix (S, K, D), whose last one is the frame itself, and the
    reward a simulator frame (S,) that was received with it.
    """

    prefix: Array
    rate: Array


def choose_frames(
    episodes: list[Episode], count: int, prefix: int, action_repeat: int, rng: np.random.Generator
) -> Frames:
    """``count`` frames spread evenly over what they were paid."""
    # A segment's reference begins after its origin; here the frame that was paid is to be the last of the prefix.
    cut = cut_segments(episodes, choose_origins(episodes, count, prefix, 1, rng), prefix, 1, action_repeat)
    return Frames(np.concatenate([cut.prefix[:, 1:], cut.reference], 1), cut.rate[:, 0])


def _paid(episode: Episode, prefix: int, reference: int) -> Array:
    """Reward of every segment of an episode, in the order of ``all_origins``."""
    assert episode.reward is not None
    total = np.concatenate([[0.0], np.cumsum(episode.reward, dtype=np.float64)])
    ends = np.arange(prefix - 1, len(episode) - reference) + reference + 1
    return total[ends] - total[ends - reference]


class Scale(Protocol):
    """Makes vectors of observations whose squared distance is worth something."""

    def __call__(self, observation: Array) -> Array:
        """Observations (..., *shape) -> (..., E) float32."""
        ...

    def arrays(self) -> dict[str, Array]:
        """What it consists of, for a file."""
        ...


class FrameScale(NamedTuple):
    """How much each dimension of a state weighs in a distance: (D,) float32 inverse spreads."""

    inverse: Array

    @staticmethod
    def fit(episodes: list[Episode]) -> "FrameScale":
        """The spread of a dimension is half its 5-95 % range over the episodes: robust against rare jumps.

        Without it velocities, which hold nearly all of the variance, would decide every alignment alone. Dividing by
        sqrt(D) makes a squared distance the *mean* squared difference in spreads, comparable over tasks.
        """
        frames = np.concatenate([e.observation for e in episodes])
        low, high = np.quantile(frames, [0.05, 0.95], axis=0)
        spread = np.maximum((high - low) / 2, 0.05 * frames.std(0) + 1e-3)
        return FrameScale((1 / (spread * np.sqrt(frames.shape[1]))).astype(np.float32))

    def __call__(self, observation: Array) -> Array:
        """Observations (..., D) in units of the spread, float32."""
        return (observation * self.inverse).astype(np.float32)

    def arrays(self) -> dict[str, Array]:
        """The inverse spreads."""
        return {"scale": self.inverse}

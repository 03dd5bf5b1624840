"""Labels from a measure of how like the source's best episodes a target episode is, brought on the scale of rates.

What the rewards of the imitation literature have in common: demonstrations without actions or rewards, a measure of
every frame of an episode against them, and no unit. Here the demonstrations are the source's ``count`` best episodes,
at the target's rate (straight lines in between), in the frame units of the alignment, so that all measures and DTW look
at the same numbers. Of several demonstrations the one that an episode resembles most counts (Haldar et al. 2022).

The refinement wants reward *rates*: its entropy bonus has a price in them. A measure m is mapped by the straight line
through two points that the source itself gives, without a look at the target:

    the best episodes, each measured against the others   ->   the mean rate that they were paid
    the source's worst episodes                           ->   the mean rate that those were paid

and what lies outside of the lowest and highest rate ever paid is cut off. A straight line changes no preference between
policies; the cut does, far from anything that the source did.
"""

from collections.abc import Callable, Sequence

import numpy as np

from telepath.alignment.labeller import ReplayLabels
from telepath.alignment.rates import Rates
from telepath.alignment.segments import Scale
from telepath.baselines.rival import resample
from telepath.episodes import Array, Episode

Likeness = Callable[[Array, Array], Array]
"""Frames of an episode (T, D) and of a demonstration (N, D), both scaled -> a measure (T,), higher where more alike."""


class Standing:
    """What the source was paid: ``low`` and ``high``, the mean rates of its worst and best episodes, and every rate."""

    def __init__(self, source: list[Episode], rates: Rates, count: int):
        """``count``: how many episodes are the best, and how many the worst."""
        ranked = sorted(source, key=lambda episode: -episode.ret)
        self.best, self.worst = ranked[:count], ranked[-count:]
        rewards = [episode.reward[1:] for episode in source if episode.reward is not None]
        self.rate = np.concatenate(rewards) / np.float32(rates.source_repeat)
        self.high, self.low = (
            float(np.mean([episode.ret / episode.steps for episode in some])) / rates.source_repeat
            for some in (self.best, self.worst)
        )

    def labels(self, part: Array) -> ReplayLabels:
        """Labels where ``part`` (T,) says how far a record is on the way from the worst (0) to the best (1)."""
        rate = np.clip(self.low + (self.high - self.low) * part, self.rate.min(), self.rate.max())
        return ReplayLabels(rate.astype(np.float32), np.clip(part, 0, 1).astype(np.float32))


class LikenessLabels:
    """A labeller made from a measure. It does not learn from the target, so its labels never change."""

    def __init__(self, standing: Standing, scale: Scale, rates: Rates, likeness: Likeness):
        self.standing, self.rate = standing, standing.rate
        self.scale, self.likeness = scale, likeness
        self.demonstrations = scaled_tracks(standing.best, scale, rates)
        self.good = float(np.mean(measured_at_home(self.demonstrations, likeness)))
        worst = scaled_tracks(standing.worst, scale, rates)
        self.bad = float(np.mean([self.measure(frames).mean() for frames in worst]))

    @property
    def blind(self) -> bool:
        """Whether the measure finds the source's worst episodes as good as its best, so that it cannot be scaled."""
        return not self.good > self.bad

    def measure(self, frames: Array) -> Array:
        """The measure (T,) of scaled frames (T, D) against the demonstration that they are most like."""
        return nearest_of(frames, self.demonstrations, self.likeness)

    def label(self, episode: Episode) -> ReplayLabels:
        """Label every record by where its measure lies between those of the source's worst and best.

        Where the measure is blind all records are worth what the worst are, with no confidence.
        """
        if self.blind:
            return self.standing.labels(np.zeros(len(episode)))
        measure = self.measure(self.scale(episode.observation))
        return self.standing.labels((measure - self.bad) / (self.good - self.bad))

    def revise(self, episodes: list[Episode], labels: list[Array]) -> list[Array]:
        """``labels`` as they are."""
        return labels


def scaled_tracks(episodes: Sequence[Episode], scale: Scale, rates: Rates) -> list[Array]:
    """The observations of source episodes at the target's rate, in frame units: (N, D) each."""
    return [scale(resample(episode.observation, rates)) for episode in episodes]


def nearest_of(frames: Array, demonstrations: Sequence[Array], likeness: Likeness) -> Array:
    """The measure (T,) against the demonstration with the highest mean."""
    return max((likeness(frames, shown) for shown in demonstrations), key=lambda measure: float(measure.mean()))


def measured_at_home(demonstrations: Sequence[Array], likeness: Likeness) -> list[float]:
    """The mean measure of each demonstration against the others; a single one is measured against itself."""
    means = []
    for number, frames in enumerate(demonstrations):
        others = [*demonstrations[:number], *demonstrations[number + 1 :]] or [frames]
        means.append(float(nearest_of(frames, others, likeness).mean()))
    return means


def squared_distances(frames: Array, shown: Array) -> Array:
    """|o_i - d_j|^2 for scaled frames (T, D) and (N, D): (T, N) float64, the mean over dimensions in squared spreads.

    The local cost of the alignment as well.
    """
    o, d = frames.astype(np.float64), shown.astype(np.float64)
    squares = np.square(o).sum(1)[:, None] + np.square(d).sum(1)[None] - 2 * o @ d.T
    return np.maximum(squares, 0)

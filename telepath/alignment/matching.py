"""Labels on real target replay: which source segments does what really happened look like?

Every window of a target trajectory is matched with source windows by subsequence DTW (Mueller 2007): the target
window is consumed whole, the source window may begin late and end early. The rewards of the best matches, split along
their paths, are averaged with weights exp(-cost / tau) and shrunk towards zero where nothing matches well. These
labels belong to real records, so they cannot go stale with the world model.
"""

from typing import NamedTuple

import numpy as np

from telepath.alignment.dtw import dtw_pairs, dtw_path, nearest, window_of
from telepath.alignment.labeller import ReplayLabels
from telepath.alignment.rates import Rates
from telepath.alignment.rewards import split_rewards
from telepath.alignment.segments import Scale, all_origins, resample
from telepath.alignment.worth import Worth
from telepath.episodes import Array, Episode
from telepath.errors import UserError
from telepath.settings import MatchSettings


class Matches(NamedTuple):
    """What W target windows are most like: best (W, C), pool indices, and cost (W, C) a path cell, ascending."""

    best: Array
    cost: Array


class SourcePool:
    """All source windows that a target window may be matched with, on a common frame scale.

    ``tau`` is the cost at which a match counts 1/e: ``tolerance`` times what matches between source episodes cost.
    """

    def __init__(self, episodes: list[Episode], scale: Scale, rates: Rates, settings: MatchSettings):
        self.scale, self.rates, self.settings = scale, rates, settings
        self.length = max(3, rates.source_steps(settings.window, settings.slack))
        self.radius = window_of(settings.band, self.length)
        # Record 0 of an episode takes no part: it was paid nothing because nothing led to it.
        origin = all_origins(episodes, 2, self.length, settings.pool_stride)
        self.episode = origin[:, 0]
        rate = [np.asarray(episode.reward) / np.float32(rates.source_repeat) for episode in episodes]
        self.rate = np.stack([rate[e][t : t + self.length] for e, t in origin])
        self.worth = None
        if settings.worth > 0:
            known = np.concatenate([scale(episode.observation[1:]) for episode in episodes])
            self.worth = Worth(known, np.concatenate([part[1:] for part in rate]), settings.worth)
        frames = [self._vectors(episode) for episode in episodes]
        self.frames = np.stack([frames[e][t : t + self.length] for e, t in origin])
        self.tau = settings.tolerance * self._null_cost()

    def match(self, windows: Array, foreign: Array | None = None) -> Matches:
        """Match scaled windows (W, n, D); ``foreign`` (W,): a source episode that each one must not meet."""
        n = windows.shape[1]
        spots = np.array([0, n // 2, n - 1])
        begin = (self.length - n / self.rates.ratio) / 2
        places = np.clip(np.round(begin + spots / self.rates.ratio), 0, self.length - 1).astype(np.int64)
        pairs = nearest(windows[:, spots], self.frames[:, places], min(self.settings.candidates, len(self.frames)))
        cost = dtw_pairs(windows, self.frames, pairs, self.radius, open_begin=True, open_end=True, slope=self._slope())
        # A path along the expected slope has one cell for each step of the faster side.
        cost = cost / (n * max(1.0, 1 / self.rates.ratio))
        if foreign is not None:
            cost = np.where(self.episode[pairs] == foreign[:, None], np.inf, cost)
        order = np.argsort(cost, axis=1, kind="stable")[:, : self.settings.matches]
        return Matches(np.take_along_axis(pairs, order, 1), np.take_along_axis(cost, order, 1))

    def label(self, episode: Episode) -> ReplayLabels:
        """Label every record of a target episode from the windows that cover it.

        An episode shorter than a window (a diverging simulator cut it short) matches nothing.
        """
        n, last = self.settings.window, len(episode) - self.settings.window
        if last < 0:
            return ReplayLabels(np.zeros(len(episode), np.float32), np.zeros(len(episode), np.float32))
        starts = np.unique(np.append(np.arange(0, last, self.settings.stride), last))
        frames = self._vectors(episode)
        windows = np.stack([frames[s : s + n] for s in starts])
        matches = self.match(windows)
        weight = np.exp(-matches.cost / self.tau)
        total = np.zeros((2, len(episode)))
        count = np.zeros(len(episode))
        for w, start in enumerate(starts):
            estimate = np.zeros(n)
            for c, pool_index in enumerate(matches.best[w]):
                estimate += weight[w, c] * self._split(windows[w], pool_index)
            mass = weight[w].sum() + self.settings.prior * len(weight[w])
            if mass > 0:  # or else nothing is like it, and nothing is what it counts
                total[:, start : start + n] += np.stack([estimate / mass, np.full(n, weight[w].sum() / mass)])
            count[start : start + n] += 1
        rate, confidence = (total / count).astype(np.float32)
        return ReplayLabels(rate, confidence)

    def revise(self, episodes: list[Episode], labels: list[Array]) -> list[Array]:
        """``labels`` as they are: what matches an episode does not depend on the others."""
        return labels

    def _vectors(self, episode: Episode) -> Array:
        """What is compared of an episode's frames, (T, E)."""
        frames = self.scale(episode.observation)
        return frames if self.worth is None else self.worth(frames)

    def _split(self, window: Array, pool_index: int) -> Array:
        path, _ = dtw_path(
            window, self.frames[pool_index], self.radius, open_begin=True, open_end=True, slope=self._slope()
        )
        rate, _ = split_rewards(
            path[:, ::-1], self.rate[pool_index], len(window), self.rates.ratio, self.settings.split
        )
        return rate

    def _slope(self) -> float:
        """Source frames per target frame."""
        return 1 / self.rates.ratio

    def _null_cost(self) -> float:
        """What a good match costs: the median over source windows matched with *other* source episodes.

        The windows are resampled linearly to the target's rate, so the null also holds what another rate costs.
        """
        chosen = np.unique(np.linspace(0, len(self.frames) - 1, self.settings.null_windows).astype(np.int64))
        places = np.arange(self.settings.window) / self.rates.ratio
        windows = np.stack([resample(frames, places) for frames in self.frames[chosen]])
        best = self.match(windows, foreign=self.episode[chosen]).cost[:, 0]
        best = best[np.isfinite(best)]
        if len(best) == 0:
            raise UserError(
                f"params.yaml: label.match.candidates: among {self.settings.candidates} no source window has a match "
                "in another source episode; choose more of them, or more source steps"
            )
        return float(np.median(best))

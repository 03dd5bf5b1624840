"""TemporalOT: optimal transport that keeps to the time of the demonstration (Fu, Zhang, Wu, Xu and Boulet, NeurIPS
2024).

Two changes to the reward of ``transport``. A pair of frames costs what the next few cost as well,

    C'_ij = 1/k_c sum_{h < k_c} C_{i+h, j+h},

and mass may pass only between about the same times, |i - j| <= k_m. So order counts, and so does pace: a target that
does the right thing later than the demonstration is paid nothing for it.

Published: k_c = 3, k_m = 10, the demonstration at the rate of the episode. Where the pairs i+h, j+h end with one of the
two tracks, the mean is over those there are. An episode that was cut short is held against the whole demonstration: the
band follows the diagonal.
"""

import numpy as np

from telepath.baselines.likeness import Likeness, squared_distances
from telepath.baselines.transport import transport_reward
from telepath.episodes import Array
from telepath.rival_settings import TemporalTransportSettings


def context_cost(cost: Array, context: int) -> Array:
    """C' (T, N): the mean of the cost (T, N) along ``context`` cells of the diagonal, as many as there are."""
    total, count = np.zeros_like(cost), np.zeros_like(cost)
    for h in range(min(context, *cost.shape)):
        rest = slice(0, cost.shape[0] - h), slice(0, cost.shape[1] - h)
        total[rest] += cost[h:, h:]
        count[rest] += 1
    return total / count


def banded(cost: Array, reach: int) -> Array:
    """``cost`` (T, N), infinite further than ``reach`` columns from the diagonal.

    Wide enough for every row and column to have a way, however different T and N are.
    """
    length, width = cost.shape
    diagonal = np.arange(length)[:, None] * ((width - 1) / max(1, length - 1))
    room = max(reach, int(np.ceil(width / length)))
    return np.where(np.abs(np.arange(width)[None] - diagonal) <= room, cost, np.inf)


def temporal_likeness(settings: TemporalTransportSettings) -> Likeness:
    """The measure of TemporalOT."""

    def likeness(frames: Array, shown: Array) -> Array:
        cost = context_cost(squared_distances(frames, shown), settings.context)
        return transport_reward(banded(cost, settings.reach), settings.epsilon, settings.iterations)

    return likeness

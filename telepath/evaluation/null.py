"""The null of the alignment costs: what target trajectories cost that are re-enacted with their own actions."""

import numpy as np

from telepath.alignment.reenact import Reenactor
from telepath.episodes import Array, Episode


def null_costs(reenactor: Reenactor, episodes: list[Episode], count: int, seed: int) -> Array:
    """Alignment costs a path cell (count,) of pieces cut at random from target episodes, sorted.

    The median of many is what the label stage measures as its null cost.
    """
    rng = np.random.default_rng(seed)
    return np.sort([reenactor.null_cost(episodes, 1, rng) for _ in range(count)])

"""From a warping path to rewards: what each source transition was paid, split over the target transitions it is
matched with.

All rewards are rates (reward a simulator frame). ``ratio`` is target steps per source step: a source step lasts
``ratio`` times as many frames as a target step, so a rate of r on one source step is worth ``ratio`` target steps at
r.
"""

from typing import Literal

import numpy as np

from telepath.episodes import Array

Split = Literal["proportional", "mean"]


def split_rewards(path: Array, rate: Array, length: int, ratio: float, split: Split) -> tuple[Array, Array]:
    """Rewards along a warping path (L, 2) of (source index, target index): rates (length,) and coverage (length,).

    rate: (N,), what each source transition was paid, a frame; ratio: target steps a source step.

    *proportional* (Telepath's definition): source transition i, matched with n_i target transitions, gives each of them
    1/n_i of its reward. In rates: label_j = ratio * sum over matched i of rate_i / n_i; the total reward of the matched
    source transitions is conserved. *mean*: label_j = the mean rate of the matched source transitions, which conserves
    the rate and not the total. Coverage is 1 where a target transition is matched, 0 beyond an open end.
    """
    source, target = path[:, 0], path[:, 1]
    matches = np.bincount(target, minlength=length)
    if split == "proportional":
        share = ratio * rate[source] / np.bincount(source)[source]
    else:
        share = rate[source] / matches[target]
    label: Array = np.bincount(target, weights=share, minlength=length)
    return label.astype(np.float32), (matches > 0).astype(np.float32)

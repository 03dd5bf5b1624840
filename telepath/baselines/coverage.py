"""ORCA: ordered coverage (Huey, Wang, Wu, Artzi and Choudhury, ICML 2025).

A demonstration is a list of subgoals d_1..d_J. The probability that frame i of the episode is at subgoal j is
P_ij = exp(-C_ij / tau), and the one that by time i all subgoals up to j have been met, in order,

    K_ij = max(K_{i-1, j}, K_{i, j-1} P_ij),    K_{i, 0} = 1,  K_{0, j} = 0.

A frame is paid for having everything behind it and being at the last subgoal, r_i = K_{i, J-1} P_iJ. One frame may meet
several subgoals that look alike.

The subgoals are ``subgoals`` frames of the demonstration, evenly spaced to its end: a product over the hundreds of
frames of an episode of ours would be 0; the published demonstrations have a few dozen. For the same reason tau has a
unit: such that a demonstration whose subgoals are met only as nearly as another good episode meets them is covered with
probability exp(-1 / ``tolerance``). The paper begins with a policy trained on TemporalOT; here the target agent begins
where every other one does.

A task that goes on and on, such as walking, has no last subgoal to stay at: it is paid where an episode looks like
the end of the demonstration.
"""

from collections.abc import Sequence

import numpy as np

from telepath.baselines.likeness import Likeness, squared_distances
from telepath.episodes import Array
from telepath.rival_settings import CoverageSettings


def ordered_coverage(met: Array) -> Array:
    """The reward (T,) for probabilities ``met`` (T, J) that a frame is at a subgoal."""
    covered = np.ones(len(met))
    for j in range(met.shape[1] - 1):
        # K_ij over all i at once: the running maximum of K_{i, j-1} P_ij.
        covered = np.maximum.accumulate(covered * met[:, j])
    return covered * met[:, -1]


def subgoals(shown: Array, count: int) -> Array:
    """``count`` frames of a demonstration (N, D), evenly spaced, the last one included."""
    places = np.round(np.linspace(0, len(shown) - 1, count + 1)[1:]).astype(np.int64)
    return shown[places]


def temperature(demonstrations: Sequence[Array], count: int, tolerance: float) -> float:
    """tau: ``tolerance`` times what all subgoals of a demonstration cost at their nearest frames of another one.

    Of a single demonstration, at the nearest frames of its own that are no subgoals.
    """
    costs = []
    for number, shown in enumerate(demonstrations):
        goals = subgoals(shown, count)
        for other in [*demonstrations[:number], *demonstrations[number + 1 :]] or [shown]:
            distance = squared_distances(other, goals)
            if other is shown:
                distance = np.where(distance > 1e-9, distance, np.inf)
            costs.append(distance.min(0).sum())
    return tolerance * max(float(np.mean(costs)), 1e-12)


def coverage_likeness(demonstrations: Sequence[Array], settings: CoverageSettings) -> Likeness:
    """The measure of ORCA; the scaled ``demonstrations`` say what tau is."""
    tau = temperature(demonstrations, settings.subgoals, settings.tolerance)

    def likeness(frames: Array, shown: Array) -> Array:
        return ordered_coverage(np.exp(-squared_distances(frames, subgoals(shown, settings.subgoals)) / tau))

    return likeness

"""Optimal transport as a reward: the imitation reward of ROT (Haldar, Mathur, Yarats and Pinto, CoRL 2022).

An episode o_1..o_T and a demonstration d_1..d_N are two heaps of frames, each of mass 1. The plan that carries one to
the other at the least cost,

    mu* = argmin_mu sum_ij mu_ij C_ij - epsilon H(mu),    sum_j mu_ij = 1/T,  sum_i mu_ij = 1/N,

is found by Sinkhorn's iterations (Cuturi 2013), and a frame is paid what its share of the transport costs,

    r_i = -sum_j C_ij mu*_ij,

here times T, so that it does not depend on the length of the episode. The plan knows no order of time: a frame may be
carried to any moment of the demonstration, but every moment has to be served by as much.

Different from the paper: C is the squared distance of scaled observations, the cost of our alignment, where the paper
has the cosine of learnt features, and epsilon is in units of its mean; the policy is not regularised towards a clone.

A hundred iterations, as in the published code, leave the columns' sums somewhat off where two tracks are alike: epsilon
is small there with the cost.
"""

import numpy as np
from scipy.special import logsumexp

from telepath.baselines.likeness import Likeness, squared_distances
from telepath.episodes import Array
from telepath.rival_settings import TransportSettings

PLAIN = 16
"""Iterations in plain numbers after each one in logarithms."""


def sinkhorn(cost: Array, epsilon: float, iterations: int) -> Array:
    """The entropic plan (T, N) between uniform heaps for a cost (T, N), which may be infinite where nothing may pass.

    Scalings of exp(-C / epsilon) would underflow, so their logarithms are kept, and the plan that they make so far is
    scaled for a while in plain numbers, at a tenth of the time. The rows' sums are exact, those of the columns as near
    as the iterations bring them. Every row and column needs a finite entry.
    """
    log_kernel = -cost / epsilon
    rows, columns = (1 / size for size in cost.shape)
    left, due = np.zeros(len(cost)), iterations
    while True:
        right = np.log(columns) - logsumexp(log_kernel + left[:, None], axis=0)
        left = np.log(rows) - logsumexp(log_kernel + right, axis=1)
        plan = np.exp(log_kernel + left[:, None] + right)
        due -= 1
        if due <= 0:
            return plan
        count = min(PLAIN, due - 1)
        gain = log_gain(plan, rows, columns, count)
        # A column whose mass underflows waits for the logarithms.
        if np.isfinite(gain).all():
            left, due = left + gain, due - count


def log_gain(plan: Array, rows: float, columns: float, iterations: int) -> Array:
    """Logarithms of the factors (T,) by which the iterations scale the rows of a positive ``plan`` (T, N)."""
    row = np.ones(len(plan))
    with np.errstate(all="ignore"):
        for _ in range(iterations):
            row = rows / (plan @ (columns / (row @ plan)))
        return np.log(row)


def transport_reward(cost: Array, epsilon: float, iterations: int) -> Array:
    """-T sum_j C_ij mu*_ij, (T,), for a cost (T, N); ``epsilon`` in units of its mean where it is finite."""
    passable = np.isfinite(cost)
    plan = sinkhorn(cost, epsilon * max(float(cost[passable].mean()), 1e-12), iterations)
    return -len(cost) * (np.where(passable, cost, 0) * plan).sum(1)


def transport_likeness(settings: TransportSettings) -> Likeness:
    """The measure of ROT."""

    def likeness(frames: Array, shown: Array) -> Array:
        return transport_reward(squared_distances(frames, shown), settings.epsilon, settings.iterations)

    return likeness

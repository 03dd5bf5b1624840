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
"""

import numpy as np
import torch

from telepath.baselines.likeness import Likeness, squared_distances
from telepath.episodes import Array
from telepath.rival_settings import TransportSettings


def sinkhorn(cost: Array, epsilon: float, iterations: int) -> Array:
    """The entropic plan (T, N) between uniform heaps for a cost (T, N), which may be infinite where nothing may pass.

    In the log domain: scalings of exp(-C / epsilon) would underflow. The rows' sums are exact, those of the columns as
    near as the iterations bring them. Every row and column needs a finite entry.
    """
    log_kernel = torch.from_numpy(-cost / epsilon)
    rows, columns = (-float(np.log(size)) for size in cost.shape)
    left, right = log_kernel.new_zeros(cost.shape[0]), log_kernel.new_zeros(cost.shape[1])
    for _ in range(iterations):
        right = columns - torch.logsumexp(log_kernel + left[:, None], 0)
        left = rows - torch.logsumexp(log_kernel + right[None], 1)
    return torch.exp(log_kernel + left[:, None] + right[None]).numpy()


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

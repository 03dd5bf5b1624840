"""The cross-entropy method over action sequences: a planner for any cost (Rubinstein 1999; De Boer et al. 2005).

Batched over segments: every segment has its own Gaussian over action sequences, its own random stream, elites and
result, and all candidates of all segments are imagined in one call.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from telepath.config import CemSettings

Cost = Callable[[Tensor], Tensor]
"""actions (S, P, M, A) -> cost (S, P); +inf where a candidate cannot be judged."""


class Plan(NamedTuple):
    """actions (S, M, A) and cost (S,) of the best candidate ever seen; history (iterations, S): best cost so far."""

    actions: Tensor
    cost: Tensor
    history: Tensor


@torch.no_grad()
def search(
    cost: Cost,
    mean: Tensor,
    settings: CemSettings,
    generators: Sequence[torch.Generator],
    proposals: Tensor | None = None,
) -> Plan:
    """Minimise ``cost`` over action sequences in [-1, 1].

    mean (S, M, A): where each segment's search begins; generators: one a segment; proposals (S, Q, M, A): candidates
    that join the first population. Sampling is antithetic around the mean; the mean itself is always a candidate. The
    new mean and standard deviation are the elites', blended with the old ones by ``momentum``; the standard deviation
    never falls below ``min_std``.
    """
    segments, length, actions = mean.shape
    std = torch.full_like(mean, settings.initial_std)
    best_cost = mean.new_full((segments,), torch.inf)
    best = mean.clone()
    history = []
    elites = max(1, round(settings.elite_fraction * settings.population))
    for iteration in range(settings.iterations):
        half = (settings.population + 1) // 2
        noise = colored(white_noise(generators, (half, length, actions)), settings.noise_correlation)
        noise = torch.cat([noise, -noise], 1)[:, : settings.population]
        candidates = (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1, 1)
        candidates[:, 0] = mean
        if iteration:
            candidates[:, 1] = best
        elif proposals is not None:
            candidates = torch.cat([candidates, proposals.clamp(-1, 1)], 1)
        costs = cost(candidates)
        lowest, order = costs.topk(elites, dim=1, largest=False)
        improved = lowest[:, 0] < best_cost
        best_cost = torch.where(improved, lowest[:, 0], best_cost)
        rows = torch.arange(segments)
        best = torch.where(improved[:, None, None], candidates[rows, order[:, 0]], best)
        chosen = candidates[rows[:, None], order]
        mean = settings.momentum * mean + (1 - settings.momentum) * chosen.mean(1)
        std = settings.momentum * std + (1 - settings.momentum) * chosen.std(1, correction=0)
        std = std.clamp(min=settings.min_std)
        history.append(best_cost)
    return Plan(best, best_cost, torch.stack(history))


def white_noise(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Unit Gaussian noise (S, *shape), row s from generator s: a segment's noise does not depend on its neighbours."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def colored(white: Tensor, correlation: float) -> Tensor:
    """Correlate unit noise (S, P, M, A) along time, as a first-order autoregression that keeps its variance.

    Neighbouring actions of a limb move together, so smooth candidates reach further than white noise does.
    """
    if correlation == 0:
        return white
    fresh = (1 - correlation**2) ** 0.5
    steps = [white[:, :, 0]]
    for t in range(1, white.shape[2]):
        steps.append(correlation * steps[-1] + fresh * white[:, :, t])
    return torch.stack(steps, 2)

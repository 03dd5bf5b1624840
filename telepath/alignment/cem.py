"""The cross-entropy method over action sequences: a planner for any cost (Rubinstein 1999; De Boer et al. 2005).

Batched over segments: every segment has its own Gaussian over action sequences, its own random stream, elites and
result, and all candidates of all segments are imagined in one call.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from telepath.settings import CemSettings

Cost = Callable[[Tensor, Tensor], Tensor]
"""actions (R, P, M, A) of the segments ``rows`` (R,) -> cost (R, P); +inf where a candidate cannot be judged."""


class Plan(NamedTuple):
    """What a search found.

    actions (S, M, A) and cost (S,) of the best candidate ever seen; history (iterations, S): best cost so far; elites
    (S, E, M, A) of the last iteration, cheapest first, and their cost (S, E).
    """

    actions: Tensor
    cost: Tensor
    history: Tensor
    elites: Tensor
    elite_cost: Tensor


@torch.no_grad()
def search(
    cost: Cost,
    mean: Tensor,
    settings: CemSettings,
    generators: Sequence[torch.Generator],
    proposals: Tensor | None = None,
) -> Plan:
    """Minimise ``cost`` over action sequences in [-1, 1], on the device of ``mean``.

    mean (S, M, A): where each segment's search begins; generators: one a segment, on the CPU, so that a search draws
    the same noise on every device; proposals (S, Q, M, A): candidates that join the first population. Sampling is
    antithetic around the mean; the mean itself is always a candidate. The new mean and standard deviation are the
    elites', weighted as ``temperature`` says and blended with the old ones by ``momentum``; the standard deviation
    never falls below ``min_std``. A segment whose elites agree (``tolerance``, in units of the best one's cost) is not
    imagined any more; a single elite cannot agree with anybody, so then every iteration is made.

    Raises ``ValueError`` unless there is a generator for every segment.
    """
    segments, length, actions = mean.shape
    if len(generators) != segments:
        raise ValueError(f"generators: expected one for each of {segments} segments, got {len(generators)}")
    count = max(1, round(settings.elite_fraction * settings.population))
    mean, best, std = mean.clone(), mean.clone(), torch.full_like(mean, settings.initial_std)
    best_cost = mean.new_full((segments,), torch.inf)
    elites, elite_cost = mean.new_zeros(segments, count, length, actions), mean.new_full((segments, count), torch.inf)
    history = mean.new_zeros(settings.iterations, segments)
    rows, drawing = torch.arange(segments, device=mean.device), list(generators)
    for iteration in range(settings.iterations):
        half = (settings.population + 1) // 2
        white = white_noise(drawing, (half, length, actions)).to(mean.device)
        noise = colored(white, settings.noise_correlation)
        noise = torch.cat([noise, -noise], 1)[:, : settings.population]
        candidates = (mean[rows].unsqueeze(1) + std[rows].unsqueeze(1) * noise).clamp(-1, 1)
        candidates[:, 0] = mean[rows]
        if iteration:
            candidates[:, 1] = best[rows]
        elif proposals is not None:
            candidates = torch.cat([candidates, proposals.clamp(-1, 1)], 1)
        lowest, order = cost(candidates, rows).topk(count, dim=1, largest=False)
        chosen = torch.take_along_dim(candidates, order[:, :, None, None], 1)
        elites[rows], elite_cost[rows] = chosen, lowest
        improved = lowest[:, 0] < best_cost[rows]
        best_cost[rows] = torch.where(improved, lowest[:, 0], best_cost[rows])
        best[rows] = torch.where(improved[:, None, None], chosen[:, 0], best[rows])
        history[iteration] = best_cost
        center, spread = moments(chosen, lowest, settings.temperature)
        mean[rows] = settings.momentum * mean[rows] + (1 - settings.momentum) * center
        std[rows] = (settings.momentum * std[rows] + (1 - settings.momentum) * spread).clamp(min=settings.min_std)
        if settings.tolerance and count > 1:
            going = lowest[:, -1] - lowest[:, 0] > settings.tolerance * lowest[:, 0].abs()
            going |= ~torch.isfinite(lowest[:, -1])  # some of them are not even judged
            rows, drawing = rows[going], [drawing[r] for r in going.nonzero().flatten().tolist()]
            if not drawing:
                history[iteration + 1 :] = best_cost
                break
    return Plan(best, best_cost, history, elites, elite_cost)


def moments(elites: Tensor, cost: Tensor, temperature: float | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (S, M, A) of elites (S, E, M, A), weighted by their cost (S, E), ascending.

    The weights are those of path-integral control (Williams et al. 2017) on the elites, the temperature in units
    of their mean excess: so it means the same for every cost.
    """
    if temperature is None:
        return elites.mean(1), elites.std(1, correction=0)
    excess = cost - cost[:, :1]
    excess[:, 0] = 0  # not inf - inf
    judged = torch.isfinite(excess)
    unit = torch.where(judged, excess, 0.0).sum(1, keepdim=True) / judged.sum(1, keepdim=True)
    excess = torch.where(judged, excess / unit.clamp(min=1e-30), torch.inf)
    weight = torch.softmax(-excess / temperature, 1)[:, :, None, None]
    mean = (weight * elites).sum(1)
    return mean, (weight * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt()


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

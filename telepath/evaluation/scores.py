"""Scores: pure functions from returns and rewards to the numbers of the report.

``None`` stands for a score that is not defined, never NaN, so that it can go into JSON as it is.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from telepath.episodes import Array

CLOSURE_MARGIN = 0.05
"""Gap closure needs an oracle that beats zero-shot by more than this share of the larger of the two, and that is not
beaten by more than this share itself.
"""

FEW = 20
"""So many values are too few to be resampled: of five that are 0 or 1 a 95 % bootstrap interval holds the mean in two
cases out of five.
"""

RESAMPLES = 2000
"""Bootstrap samples of an interval."""


class Interval(NamedTuple):
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


def mean_interval(sample: Sequence[float] | Array, confidence: float) -> Interval:
    """Mean of a sample with its interval; always the same for the same sample.

    Student's t where there are fewer than ``FEW`` values, else the percentile bootstrap (rather than BCa: it is defined
    for every sample, and returns pile up at 0 and at the best that is possible). One value, or values that are all
    equal, tell nothing of their spread: an interval of width 0.
    """
    values = finite(sample)
    if len(values) == 0:
        raise ValueError("no values to average")
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    if len(values) < FEW:
        low, high = stats.t.interval(confidence, len(values) - 1, mean, stats.sem(values))
        return Interval(mean, float(low), float(high))
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def stratified_interval(strata: Sequence[Sequence[float] | Array], confidence: float) -> Interval:
    """Mean over strata of their means, with the percentile bootstrap interval that resamples within each stratum.

    As in Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice", section 4):
    strata are tasks, values are runs. A stratum of one value does not vary. ValueError without a value.
    """
    values = [finite(stratum) for stratum in strata]
    if not values or any(len(stratum) == 0 for stratum in values):
        raise ValueError("no values to average")
    rng = np.random.default_rng(0)
    drawn = [stratum[rng.integers(0, len(stratum), (RESAMPLES, len(stratum)))].mean(1) for stratum in values]
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.mean([stratum.mean() for stratum in values])), float(low), float(high))


def iqm(sample: Sequence[float] | Array) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter (rounded down)."""
    values = finite(sample)
    if len(values) == 0:
        raise ValueError("no values to average")
    return float(stats.trim_mean(values, 0.25))


def finite(sample: Sequence[float] | Array) -> Array:
    """The sample as float64 (n,); ValueError if a value is NaN or infinite, because a score would hide it."""
    values = np.asarray(sample, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} values are not finite")
    return values


def gap_closure(j: float, zero_shot: float, oracle: float) -> float | None:
    """(J - J_zero_shot) / (J_oracle - J_zero_shot): 0 is the source policy unchanged, 1 is the oracle.

    Not defined (None) unless the oracle beats zero-shot by more than ``CLOSURE_MARGIN`` of the larger of the
    two: there is no gap to close, and noise would be divided by noise. Nor where it is beaten by more than that: an
    oracle that has not converged is no ceiling.
    """
    gap = oracle - zero_shot
    if not gap > CLOSURE_MARGIN * max(abs(oracle), abs(zero_shot)) or j - oracle > CLOSURE_MARGIN * abs(oracle):
        return None
    return (j - zero_shot) / gap


def ratio(j: float, reference: float) -> float | None:
    """J / J_reference, or None where the reference is not positive: a share of nothing says nothing."""
    return j / reference if reference > 0 else None


def correlation(true: Sequence[float] | Array, inferred: Sequence[float] | Array) -> float | None:
    """Pearson correlation of pairs, those with a NaN or infinity left out.

    None with fewer than three pairs, or where one side is constant (to float32 rounding).
    """
    pairs = np.stack([np.asarray(true, np.float64), np.asarray(inferred, np.float64)])
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    if pairs.shape[1] < 3:
        return None
    centred = pairs - pairs.mean(1, keepdims=True)
    size = np.sqrt(np.square(centred).sum(1))
    rounding = np.finfo(np.float32).eps * np.abs(pairs).max(1) * math.sqrt(pairs.shape[1])
    if (size <= rounding).any():
        return None
    return float(np.clip(centred[0] @ centred[1] / size.prod(), -1, 1))


def significant(value: float | int | None, digits: int = 4) -> float | int | None:
    """A float rounded to significant digits; whole numbers stay; NaN, infinity and None give None."""
    if value is None or not math.isfinite(value):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    return float(f"{value:.{digits}g}") + 0.0

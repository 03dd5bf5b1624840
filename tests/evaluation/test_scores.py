import math

import numpy as np
import pytest

from telepath.evaluation.scores import (
    CLOSURE_MARGIN,
    FEW,
    Interval,
    correlation,
    gap_closure,
    iqm,
    mean_interval,
    ratio,
    significant,
)


def test_interval_of_few_values_is_student_s() -> None:
    # With one degree of freedom Student's t is Cauchy's: the quantile at 3/4 is 1.
    assert mean_interval([0.0, 1.0], 0.5) == pytest.approx((0.5, 0.0, 1.0), abs=1e-9)
    assert mean_interval([1.0, 2.0, 3.0], 0.95) == pytest.approx(
        (2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4
    )


@pytest.mark.parametrize("count", [3, 5, FEW])
def test_intervals_hold_the_mean_about_as_often_as_they_say(count: int) -> None:
    rng = np.random.default_rng(0)
    held = [interval.low <= 0 <= interval.high for interval in intervals(rng.normal(0, 1, (400, count)), 0.9)]
    assert 0.84 <= np.mean(held) <= 0.96


def intervals(samples: np.ndarray, confidence: float) -> list[Interval]:
    return [mean_interval(sample, confidence) for sample in samples]


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    sample = np.random.default_rng(1).normal(5, 2, 2500)
    mean, low, high = mean_interval(sample, 0.95)
    error = 1.96 * sample.std() / math.sqrt(len(sample))
    assert (mean, low, high) == pytest.approx((sample.mean(), mean - error, mean + error), abs=0.005)


@pytest.mark.parametrize("sample", [[7.0], [7.0] * 20])
def test_interval_of_equal_values_has_no_width(sample: list[float]) -> None:
    assert mean_interval(sample, 0.95) == (7.0, 7.0, 7.0)


def test_interval_is_the_same_every_time_and_nested_in_confidence() -> None:
    sample = [0.0] * 3 + [900.0] * 17
    wide, narrow = mean_interval(sample, 0.99), mean_interval(sample, 0.8)
    assert wide == mean_interval(sample, 0.99)
    assert wide.low <= narrow.low <= narrow.mean == 765 <= narrow.high <= wide.high


def test_a_score_does_not_hide_broken_values() -> None:
    for score in (lambda s: mean_interval(s, 0.9), iqm):
        with pytest.raises(ValueError, match="1 of 2 values are not finite"):
            score([1.0, math.nan])
        with pytest.raises(ValueError, match="no values"):
            score([])


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert iqm([-1000, 1, 2, 3, 4, 5, 6, 99999]) == 3.5
    assert iqm([4.0]) == 4.0


def test_gap_closure() -> None:
    assert gap_closure(100, 100, 900) == 0
    assert gap_closure(900, 100, 900) == 1
    assert gap_closure(500, 100, 900) == 0.5
    assert gap_closure(20, 100, 900) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("zero_shot", "oracle"),
    [(900, 900), (900, 500), (100 * (1 - CLOSURE_MARGIN), 100), (0, 0), (math.nan, 10), (3, math.nan)],
)
def test_gap_closure_is_undefined_without_a_gap(zero_shot: float, oracle: float) -> None:
    assert gap_closure(100, zero_shot, oracle) is None


def test_an_oracle_that_is_clearly_beaten_is_no_ceiling() -> None:
    assert gap_closure(947, 268, 343) is None
    assert gap_closure(910, 100, 900) == pytest.approx(810 / 800)


def test_ratio() -> None:
    assert ratio(450, 900) == 0.5
    assert ratio(450, 0) is None


def test_correlation_in_closed_form() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert correlation(x, 3 * x - 7) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation([0, 1, 0, 1], [0, 0, 1, 1]) == 0
    assert correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)


def test_correlation_leaves_out_broken_pairs() -> None:
    assert correlation([1, 2, 3, math.nan, 5], [1, 3, 2, 4, math.inf]) == pytest.approx(0.5)


def test_correlation_is_undefined_for_a_constant_and_for_too_few() -> None:
    x = np.random.default_rng(0).random(50)
    assert correlation(x, np.full(50, 0.1, np.float32)) is None
    assert correlation(np.zeros(50), x) is None
    assert correlation([1, 2], [1, 2]) is None


def test_significant_digits() -> None:
    assert significant(867.4449) == 867.4
    assert significant(0.000123456) == 0.0001235
    assert significant(20123) == 20123
    assert significant(np.int64(20123)) == 20123
    assert str(significant(-0.0)) == "0.0"
    assert significant(math.nan) is significant(math.inf) is significant(None) is None

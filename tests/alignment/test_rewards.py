import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepath.alignment.rates import Rates
from telepath.alignment.rewards import split_rewards
from telepath.episodes import Array


@st.composite
def warping_paths(draw: st.DrawFn) -> tuple[Array, int]:
    """A path that consumes the source whole and may end early on the target, and the target's length."""
    moves = draw(st.lists(st.sampled_from([(1, 1), (1, 0), (0, 1)]), max_size=40))
    start = draw(st.integers(0, 3))
    path = np.cumsum(np.array([(0, start), *moves]), axis=0)
    return path, int(path[-1, 1]) + 1 + draw(st.integers(0, 4))


@given(warping_paths(), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.randoms())
def test_the_proportional_split_conserves_the_total_reward(
    drawn: tuple[Array, int], ratio: float, random: object
) -> None:
    path, length = drawn
    rate = np.random.default_rng(random.randrange(2**32)).random(path[-1, 0] + 1)  # type: ignore[attr-defined]
    label, coverage = split_rewards(path, rate, length, ratio, "proportional")
    # Totals in reward a source step's frames: a target step has 1 / ratio as many frames as a source step.
    assert label.sum() / ratio == pytest.approx(rate.sum(), rel=1e-5)
    assert set(np.flatnonzero(coverage)) == set(path[:, 1])
    assert (label[coverage == 0] == 0).all()


def test_a_steady_match_at_another_rate_keeps_the_rate() -> None:
    # Every source step matched with two target steps, as at twice the control rate.
    path = np.array([(j // 2, j) for j in range(8)])
    rate = np.array([0.0, 1.0, 0.5, 1.0], np.float32)
    for split in ("proportional", "mean"):
        label, _ = split_rewards(path, rate, 8, 2.0, split)  # type: ignore[arg-type]
        assert label.tolist() == [0, 0, 1, 1, 0.5, 0.5, 1, 1]


def test_each_source_reward_is_divided_equally_over_its_matches() -> None:
    path = np.array([(0, 0), (0, 1), (0, 2), (1, 2), (2, 3)])
    label, _ = split_rewards(path, np.array([3.0, 1.0, 5.0]), 5, 1.0, "proportional")
    assert label.tolist() == [1, 1, 2, 5, 0]
    label, coverage = split_rewards(path, np.array([3.0, 1.0, 5.0]), 5, 1.0, "mean")
    assert label.tolist() == [3, 3, 2, 5, 0]
    assert coverage.tolist() == [1, 1, 1, 1, 0]


def test_rates_convert_steps_and_seconds() -> None:
    rates = Rates(6, 3, 0.02)
    assert rates.ratio == 2
    assert rates.source_step_seconds == pytest.approx(0.12)
    assert rates.target_step_seconds == pytest.approx(0.06)
    assert rates.target_steps(12, 0.25) == 30
    assert rates.source_steps(24, 0.25) == 15
    assert Rates(1, 3, 0.02).target_steps(12) == 4

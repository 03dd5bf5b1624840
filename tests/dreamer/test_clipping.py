import math

import pytest
import torch

from telepath.dreamer.clipping import LEAST, UsualNorm, cut
from telepath.dreamer.learner import step

CPU = torch.device("cpu")


def norms(*values: float, usual: UsualNorm) -> list[float]:
    return [float(usual.bound(torch.tensor(value))) for value in values]


def test_the_first_gradient_is_not_cut_and_says_what_is_usual() -> None:
    usual = UsualNorm(3.0, CPU)
    assert norms(5.0, 1.0, usual=usual) == pytest.approx([5.0, 15.0], rel=1e-4)


def test_equal_gradients_are_never_cut() -> None:
    assert norms(*[0.2] * 50, usual=UsualNorm(3.0, CPU))[1:] == pytest.approx([0.6] * 49, rel=1e-4)


def test_a_single_spike_is_cut_and_hardly_changes_what_is_usual() -> None:
    usual = UsualNorm(3.0, CPU)
    *_, at_the_spike, after = norms(*[1.0] * 300, 500.0, 1.0, usual=usual)
    assert at_the_spike == pytest.approx(3, rel=1e-3)
    assert after == pytest.approx(3 * 3**0.02, rel=1e-2)


def test_what_stays_long_becomes_usual() -> None:
    usual = UsualNorm(3.0, CPU)
    bounds = norms(*[1.0] * 300, *[20.0] * 300, usual=usual)
    assert bounds[301] < 20 < bounds[-1]
    assert bounds[-1] == pytest.approx(60, rel=0.05)


def test_after_a_time_without_gradients_they_are_soon_let_through() -> None:
    usual = UsualNorm(3.0, CPU)
    bounds = norms(*[0.0] * 1000, *[1.0] * 600, usual=usual)
    assert bounds[1000] == pytest.approx(3 * LEAST, rel=1e-3)
    assert bounds[-1] > 1


def test_gradients_are_cut_together_and_short_ones_left_alone() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    cut(gradients, torch.tensor(5.0), 1e3)
    assert [each.flatten().tolist() for each in gradients] == [[3, 0], [4]]
    cut(gradients, torch.tensor(5.0), torch.tensor(1.0))
    assert math.hypot(*torch.cat([each.flatten() for each in gradients]).tolist()) == pytest.approx(1, rel=1e-5)


def test_one_taken_up_goes_on_as_before() -> None:
    usual, other = UsualNorm(3.0, CPU), UsualNorm(3.0, CPU)
    norms(1.0, 4.0, 2.0, usual=usual)
    other.restore({name: value.clone() for name, value in usual.state().items()})
    assert norms(9.0, 1.0, usual=usual) == norms(9.0, 1.0, usual=other)


def test_a_spike_moves_the_weights_as_far_as_a_usual_gradient_and_twice_more() -> None:
    weight, usual = torch.nn.Parameter(torch.zeros(2)), UsualNorm(3.0, CPU)
    optimizer = torch.optim.SGD([weight], 1.0)

    def moved_by(norm: float) -> float:
        before = weight.detach().clone()
        step(optimizer, {"w": weight}, torch.zeros(()), {"w": torch.tensor([norm, 0.0])}, usual, "actor", {})
        return float((weight.detach() - before).norm())

    assert [moved_by(1.0) for _ in range(100)] == pytest.approx([1.0] * 100, rel=1e-4)
    assert moved_by(500.0) == pytest.approx(3, rel=1e-3)

import pytest
import torch

from telepath.baselines.regression import Fit, Pairs, Regressor


def linear_data(count: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0, 0.01]) + 5
    return x, torch.stack([x[:, 0] * 1e-3, x[:, 1] - 2 * x[:, 0]], 1)


def test_a_linear_map_is_learnt_whatever_its_units() -> None:
    torch.manual_seed(0)
    regressor = Regressor(3, 2, 32)
    x, y = linear_data()
    regressor.fit_units(x, y)
    fit = Fit("toy", regressor, 3e-3, 64, 0)
    losses = [fit.update(x, y) for _ in range(600)]
    assert losses[0] > 0.1
    assert max(losses[-50:]) < 1e-3


def test_dimensions_that_do_not_move_leave_everything_finite() -> None:
    regressor = Regressor(2, 2, 8)
    regressor.fit_units(torch.ones(10, 2), torch.zeros(10, 2))
    assert torch.isfinite(regressor.loss(torch.ones(10, 2), torch.zeros(10, 2)))
    assert regressor(torch.ones(1, 2)).abs().max() < 1e-5


def test_a_diverging_fit_names_its_model() -> None:
    fit = Fit("toy", Regressor(1, 1, 8), 1e-3, 4, 0)
    with pytest.raises(FloatingPointError, match="toy"):
        fit.update(torch.full((8, 1), torch.nan), torch.zeros(8, 1))


def test_pairs_grow_and_come_back() -> None:
    pairs = Pairs(5, 2, 1)
    pairs.add(torch.ones(2, 2), torch.zeros(2, 1))
    pairs.add(torch.full((1, 2), 3.0), torch.full((1, 1), 4.0))
    again = Pairs(5, 2, 1)
    again.restore(pairs.state())
    assert len(again) == 3
    assert again.inputs.tolist() == [[1, 1], [1, 1], [3, 3]]
    assert again.outputs.tolist() == [[0], [0], [4]]

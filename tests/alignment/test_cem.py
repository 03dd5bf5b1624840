import pytest
import torch
from torch import Tensor

from telepath.alignment.cem import colored, moments, search, white_noise
from telepath.config import Params


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in range(count)]


def test_the_search_finds_the_minimum_of_every_segment(params: Params) -> None:
    goal = torch.linspace(-0.8, 0.8, 3).reshape(3, 1, 1, 1).expand(3, 1, 5, 2)

    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        return (actions - goal[rows]).square().sum((2, 3))

    settings = params.label.cem.model_copy(update={"iterations": 30, "population": 128, "min_std": 0.01})
    plan = search(cost, torch.zeros(3, 5, 2), settings, generators(3))
    assert plan.cost.max() < 0.02
    torch.testing.assert_close(plan.cost, cost(plan.actions.unsqueeze(1), torch.arange(3)).squeeze(1))


def test_the_best_cost_never_rises_and_a_perfect_proposal_is_kept(params: Params) -> None:
    goal = torch.full((2, 4, 1), 0.37)

    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        return (actions - goal[rows].unsqueeze(1)).square().sum((2, 3))

    plan = search(cost, torch.zeros(2, 4, 1), params.label.cem, generators(2), goal.unsqueeze(1))
    assert (plan.history.diff(dim=0) <= 0).all()
    assert plan.cost.max() == 0
    torch.testing.assert_close(plan.actions, goal)


def test_a_segment_does_not_depend_on_its_neighbours(params: Params) -> None:
    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        return actions.square().sum((2, 3))

    together = search(cost, torch.ones(3, 4, 1), params.label.cem, generators(3))
    alone = search(cost, torch.ones(1, 4, 1), params.label.cem, generators(2)[1:])
    assert torch.equal(together.actions[1], alone.actions[0])


def test_candidates_that_cannot_be_judged_are_never_chosen(params: Params) -> None:
    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        return torch.where(actions[:, :, 0, 0] > 0, torch.inf, actions[:, :, 0, 0].abs())

    plan = search(cost, torch.zeros(1, 3, 1), params.label.cem, generators(1))
    assert torch.isfinite(plan.cost).all()


def test_a_search_ends_when_its_elites_agree_whatever_the_sign_of_the_cost(params: Params) -> None:
    def searched(offset: float, **changed: float) -> int:
        calls = []

        def cost(actions: Tensor, rows: Tensor) -> Tensor:
            calls.append(rows)
            return offset + actions.square().mean((2, 3))

        settings = params.label.cem.model_copy(update={"iterations": 20, "tolerance": 0.01} | changed)
        search(cost, torch.ones(1, 4, 1), settings, generators(1))
        return len(calls)

    assert searched(100) == searched(-100) < 5
    assert searched(100, tolerance=0.0) == 20
    # One elite always agrees with itself; that says nothing.
    assert searched(100, elite_fraction=0.01) == 20


def test_every_segment_needs_a_random_stream_of_its_own(params: Params) -> None:
    with pytest.raises(ValueError, match="expected one for each of 3 segments, got 1"):
        search(lambda actions, rows: actions.sum((2, 3)), torch.zeros(3, 4, 1), params.label.cem, generators(1))


def test_colored_noise_has_unit_variance_and_the_stated_correlation() -> None:
    noise = colored(white_noise(generators(1), (4000, 20, 2)), 0.6)[0]
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise[:, 10] * noise[:, 11]).mean()) - 0.6) < 0.03


def test_the_elites_are_the_cheapest_of_the_last_population(params: Params) -> None:
    seen = []

    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        seen.append((actions, actions.square().sum((2, 3))))
        return seen[-1][1]

    settings = params.label.cem.model_copy(update={"population": 20, "elite_fraction": 0.2})
    plan = search(cost, torch.zeros(2, 4, 1), settings, generators(2))
    actions, costs = seen[-1]
    assert plan.elites.shape == (2, 4, 4, 1)
    for s in range(2):
        order = costs[s].argsort()[:4]
        assert torch.equal(plan.elite_cost[s], costs[s, order])
        assert torch.equal(plan.elites[s], actions[s, order])


def test_temperature_weighs_elites_by_their_excess() -> None:
    elites = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1, 1)
    cost = torch.tensor([[2.0, 3.0, 7.0]])  # excess 0, 1, 5: mean 2
    weight = torch.exp(-torch.tensor([0.0, 0.5, 2.5]) / 0.7)
    weight /= weight.sum()
    mean, std = moments(elites, cost, 0.7)
    expected = weight[1] + 4 * weight[2]
    torch.testing.assert_close(mean.squeeze(), expected)
    torch.testing.assert_close(std.squeeze().square(), weight[1] + 16 * weight[2] - expected**2)
    for scaled in (1e-6 * cost, 1e6 * cost):
        torch.testing.assert_close(moments(elites, scaled, 0.7)[0], mean)
    hot, plain = moments(elites, cost, 1e6), moments(elites, cost, None)
    torch.testing.assert_close(hot[0], plain[0])
    torch.testing.assert_close(hot[1], plain[1])


def test_temperature_leaves_out_what_cannot_be_judged() -> None:
    elites = torch.tensor([0.5, 1.0, 4.0]).reshape(1, 3, 1, 1).repeat(2, 1, 1, 1)
    cost = torch.tensor([[1.0, 1.0, torch.inf], [torch.inf] * 3])
    mean, std = moments(elites, cost, 1.0)
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(std.flatten(), torch.tensor([0.25, 0.0]))


def test_a_converged_segment_is_left_alone_and_the_others_do_not_notice(params: Params) -> None:
    imagined = []

    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        imagined.append(rows.tolist())
        flat = torch.tensor([100.0, 0.0])[rows]  # segment 0 has converged as soon as it looks flat
        return flat[:, None] + (actions - 0.3).square().sum((2, 3))

    settings = params.label.cem.model_copy(update={"iterations": 5, "tolerance": 0.02})
    plan = search(cost, torch.zeros(2, 4, 1), settings, generators(2))
    stopped = imagined.index([1])
    assert imagined == [[0, 1]] * stopped + [[1]] * (5 - stopped)
    assert plan.history.shape == (5, 2)
    assert (plan.history[stopped - 1 :, 0] == plan.cost[0]).all()
    assert plan.history[-1, 1] < plan.history[0, 1]
    never = search(cost, torch.zeros(2, 4, 1), settings.model_copy(update={"tolerance": 0.0}), generators(2))
    assert torch.equal(never.actions[1], plan.actions[1])


def test_a_search_ends_when_all_have_converged(params: Params) -> None:
    calls = []

    def cost(actions: Tensor, rows: Tensor) -> Tensor:
        calls.append(rows)
        return 1 + 1e-3 * actions.square().sum((2, 3))

    settings = params.label.cem.model_copy(update={"iterations": 5, "tolerance": 0.5})
    plan = search(cost, torch.zeros(3, 4, 1), settings, generators(3))
    assert len(calls) == 1
    assert torch.equal(plan.history, plan.cost.expand(5, 3))

import torch
from torch import Tensor

from telepath.alignment.cem import colored, search, white_noise
from telepath.config import Params


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in range(count)]


def test_the_search_finds_the_minimum_of_every_segment(params: Params) -> None:
    goal = torch.linspace(-0.8, 0.8, 3).reshape(3, 1, 1, 1).expand(3, 1, 5, 2)

    def cost(actions: Tensor) -> Tensor:
        return (actions - goal).square().sum((2, 3))

    settings = params.label.cem.model_copy(update={"iterations": 30, "population": 128, "min_std": 0.01})
    plan = search(cost, torch.zeros(3, 5, 2), settings, generators(3))
    assert plan.cost.max() < 0.02
    torch.testing.assert_close(plan.cost, cost(plan.actions.unsqueeze(1)).squeeze(1))


def test_the_best_cost_never_rises_and_a_perfect_proposal_is_kept(params: Params) -> None:
    goal = torch.full((2, 4, 1), 0.37)

    def cost(actions: Tensor) -> Tensor:
        return (actions - goal.unsqueeze(1)).square().sum((2, 3))

    plan = search(cost, torch.zeros(2, 4, 1), params.label.cem, generators(2), goal.unsqueeze(1))
    assert (plan.history.diff(dim=0) <= 0).all()
    assert plan.cost.max() == 0
    torch.testing.assert_close(plan.actions, goal)


def test_a_segment_does_not_depend_on_its_neighbours(params: Params) -> None:
    def cost(actions: Tensor) -> Tensor:
        return actions.square().sum((2, 3))

    together = search(cost, torch.ones(3, 4, 1), params.label.cem, generators(3))
    alone = search(cost, torch.ones(1, 4, 1), params.label.cem, generators(2)[1:])
    assert torch.equal(together.actions[1], alone.actions[0])


def test_candidates_that_cannot_be_judged_are_never_chosen(params: Params) -> None:
    def cost(actions: Tensor) -> Tensor:
        return torch.where(actions[:, :, 0, 0] > 0, torch.inf, actions[:, :, 0, 0].abs())

    plan = search(cost, torch.zeros(1, 3, 1), params.label.cem, generators(1))
    assert torch.isfinite(plan.cost).all()


def test_colored_noise_has_unit_variance_and_the_stated_correlation() -> None:
    noise = colored(white_noise(generators(1), (4000, 20, 2)), 0.6)[0]
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise[:, 10] * noise[:, 11]).mean()) - 0.6) < 0.03

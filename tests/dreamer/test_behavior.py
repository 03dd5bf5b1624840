import pytest
import torch
from torch import Tensor, nn

from telepath.dreamer.behavior import (
    Behavior,
    Experience,
    Horizon,
    behavior_loss,
    imagine,
    lambda_returns,
    replayed_value_loss,
)
from telepath.dreamer.learner import BehaviorLearner
from telepath.dreamer.rssm import WorldModel
from telepath.settings import DreamerSettings


def test_lambda_returns_with_lambda_one_are_the_discounted_sum() -> None:
    rate = torch.tensor([[1.0], [2.0], [3.0]])
    value = torch.tensor([[10.0], [20.0], [30.0]])
    gamma = 0.9
    got = lambda_returns(rate, value, torch.full_like(rate, gamma), 1.0, gamma)
    expected = 0.1 * (1 + 0.9 * 2 + 0.81 * 3) + 0.729 * 30
    assert float(got[0]) == pytest.approx(expected)


def test_lambda_returns_with_lambda_zero_bootstrap_at_once() -> None:
    rate, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0]])
    got = lambda_returns(rate, value, torch.full_like(rate, 0.5), 0.0, 0.5)
    assert got.flatten().tolist() == pytest.approx([0.5 * 1 + 0.5 * 10, 0.5 * 2 + 0.5 * 20])


def test_lambda_returns_follow_the_recursion_and_stop_at_an_end() -> None:
    generator = torch.Generator().manual_seed(0)
    rate, value = torch.rand(7, 3, generator=generator), torch.rand(7, 3, generator=generator)
    discount = torch.full((7, 3), 0.97)
    discount[4] = 0
    got = lambda_returns(rate, value, discount, 0.8, 0.97)
    last = value[-1]
    for t in reversed(range(7)):
        last = 0.03 * rate[t] + discount[t] * (0.2 * value[t] + 0.8 * last)
        torch.testing.assert_close(got[t], last)
    torch.testing.assert_close(got[4], 0.03 * rate[4])


def test_normalised_return_of_a_constant_rate_is_that_rate_at_any_discount() -> None:
    for gamma in (0.9, 0.99, 0.99**0.5):
        ones = torch.ones(40, 2)
        torch.testing.assert_close(lambda_returns(0.7 * ones, 0.7 * ones, gamma * ones, 0.95, gamma), 0.7 * ones)


def test_the_replayed_value_loss_bootstraps_where_an_episode_goes_on_and_not_where_it_ended(
    small: DreamerSettings,
) -> None:
    behavior = Behavior(5, 2, small)
    nn.init.constant_(behavior.critic.slow[-1].bias, 2.0)  # the slow critic says 2 everywhere, the other one 0
    horizon = Horizon(3, 0.9, 1.0)
    feature, rate, terminal = (
        torch.randn(3, 2, 5),
        torch.tensor([[9.0, 9.0], [1.0, 1.0], [3.0, 3.0]]),
        torch.zeros(3, 2),
    )
    terminal[2, 1] = 1
    loss = replayed_value_loss(behavior, feature, rate, terminal, horizon)
    # What came with record 0 led to it, so it is no part of any return.
    goes_on = [0.1 * (1 + 0.9 * 3) + 0.81 * 2, 0.1 * 3 + 0.9 * 2]
    ended = [0.1 * (1 + 0.9 * 3), 0.1 * 3]
    assert float(loss.detach()) == pytest.approx(0.5 * sum(value**2 for value in goes_on + ended) / 4, rel=1e-5)
    loss.backward()
    assert behavior.critic.net[-1].bias.grad is not None
    assert behavior.critic.slow[-1].bias.grad is None


class FirstFeature(nn.Module):
    def forward(self, feature: Tensor) -> Tensor:
        return feature[..., 0]


def test_imagination_begins_at_the_start_and_has_one_action_a_step(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    start = model.initial(5)
    imagined = imagine(model, behavior.actor, start, 4, torch.Generator().manual_seed(0))
    assert imagined.feature.shape == (5, 5, model.feature_dim)
    assert imagined.entropy.shape == (4, 5)
    torch.testing.assert_close(imagined.feature[0], start.feature)


def test_actor_gradient_comes_through_the_dynamics_and_leaves_the_model_alone(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    learner = BehaviorLearner(model, behavior, FirstFeature(), small, seed=0)
    before = [p.clone() for p in model.parameters()]
    actor = [p.clone() for p in behavior.actor.parameters()]
    states = model.observe(torch.randn(8, 4, 3), torch.randn(8, 4, 2), None).latent.detach()
    learner.update(Experience(states, None, torch.zeros(8, 4)))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is None for p in behavior.critic.parameters()), "the actor's loss must not train the critic"
    assert all(p.requires_grad for p in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(actor, behavior.actor.parameters(), strict=True))


def test_the_actor_learns_to_raise_what_is_paid(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    settings = small.model_copy(update={"actor_lr": 3e-3})
    learner = BehaviorLearner(model, behavior, FirstFeature(), settings, seed=0)
    states = model.observe(torch.randn(8, 4, 3), torch.randn(8, 4, 2), None).latent.detach()

    def paid() -> float:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return float(imagine(model, behavior.actor, states.at(0), 3, generator).feature[1:, :, 0].mean())

    before = paid()
    for _ in range(60):
        learner.update(Experience(states, None, torch.zeros(8, 4)))
    assert paid() > before + 0.02


def test_noise_costs_the_same_a_second_at_any_rate(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    states = model.initial(4)

    def price(ratio: float) -> float:
        losses = []
        for entropy in (0.0, 1.0):
            behavior.scale.fill_(1.0)
            behavior.widest.fill_(1.0)
            settings = small.model_copy(update={"entropy": entropy})
            horizon = Horizon.at(settings, ratio)._replace(steps=3)
            generator = torch.Generator().manual_seed(0)
            loss = behavior_loss(model, behavior, states, FirstFeature(), horizon, settings, generator)
            losses.append(float(loss.actor.detach()))
        return losses[1] - losses[0]

    assert price(2.0) == pytest.approx(price(1.0) / 2, rel=0.02)


def test_discount_and_horizon_keep_their_seconds_at_another_rate(small: DreamerSettings) -> None:
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    for ratio in (0.5, 1.0, 2.0):
        learner = BehaviorLearner(model, behavior, FirstFeature(), small, 0, ratio)
        assert learner.horizon.gamma**ratio == pytest.approx(small.discount)
        assert learner.horizon.lam**ratio == pytest.approx(small.return_lambda)
    assert learner.horizon.steps == 2 * small.horizon
    assert learner.starts == small.starts / 2, "as many imagined steps an update at any rate"


def test_the_steady_actor_follows_the_actor_and_settles_into_it(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    behavior = Behavior(16, 2, small.model_copy(update={"steady_actor_rate": 0.25}))
    steady, actor = behavior.steady.net[0], behavior.actor.net[0]
    assert torch.equal(steady.weight, actor.weight)
    before = steady.weight.clone()
    with torch.no_grad():
        actor.weight.add_(1.0)
    behavior.follow()
    torch.testing.assert_close(steady.weight, before + 0.25)
    assert not any(p.requires_grad for p in behavior.steady.parameters())
    behavior.settle()
    assert torch.equal(steady.weight, actor.weight)
    assert all(p.requires_grad for p in behavior.actor.parameters())


def test_the_value_is_bootstrapped_where_the_task_goes_on_and_cut_where_it_ends(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    with torch.no_grad():
        for net in (behavior.critic.net, behavior.critic.slow):
            net[-1].weight.zero_()
            net[-1].bias.fill_(5.0)
        model.continuation_net[-1].weight.zero_()

    class Nothing(nn.Module):
        def forward(self, feature: Tensor) -> Tensor:
            return torch.zeros_like(feature[..., 0])

    def critic_loss(logit: float) -> float:
        model.continuation_net[-1].bias.data.fill_(logit)
        loss = behavior_loss(
            model, behavior, model.initial(6), Nothing(), Horizon(1, 0.9, 0.95), small, torch.Generator().manual_seed(0)
        )
        return float(loss.critic.detach()) * float(behavior.scale.clamp(min=small.return_floor)) ** 2

    assert critic_loss(50.0) == pytest.approx(0.5 * (5 - 0.9 * 5) ** 2, rel=1e-3)
    assert critic_loss(-50.0) == pytest.approx(0.5 * 5**2, rel=1e-3)

import pytest
import torch
from torch import Tensor, nn

from telepath.dreamer.behavior import (
    Behavior,
    Dream,
    Experience,
    Horizon,
    Imagined,
    Scale,
    actor_loss,
    critic_loss,
    dream_from,
    imagine,
    lambda_returns,
    replayed_value_loss,
    set_out,
)
from telepath.dreamer.learner import HALVED_FROM, BehaviorLearner, slope_of, total
from telepath.dreamer.rssm import Latent, WorldModel
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
    horizon = Horizon(3, 8, 0.9, 1.0)
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
    start, noise, _ = set_out(model, model.initial(5), 4, torch.Generator().manual_seed(0))
    imagined = imagine(model, behavior.actor, start, noise)
    assert imagined.feature.shape == (5, 5, model.feature_dim)
    assert imagined.entropy.shape == (4, 5)
    torch.testing.assert_close(imagined.feature[0], start.feature)


def test_actor_gradient_comes_through_the_dynamics_and_leaves_the_model_alone(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    learner = BehaviorLearner(model, behavior, FirstFeature(), small, 0, Horizon.at(small, 3))
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
    learner = BehaviorLearner(model, behavior, FirstFeature(), settings, 0, Horizon.at(settings, 3))
    states = model.observe(torch.randn(8, 4, 3), torch.randn(8, 4, 2), None).latent.detach()

    def paid() -> float:
        start, noise, _ = set_out(model, states.at(0), 3, torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float(imagine(model, behavior.actor, start, noise).feature[1:, :, 0].mean())

    before = paid()
    for _ in range(60):
        learner.update(Experience(states, None, torch.zeros(8, 4)))
    assert paid() > before + 0.02


def test_noise_costs_the_same_a_second_at_any_rate(small: DreamerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def watched(dream: Dream, scale: Scale, entropy: float) -> Tensor:
        asked.append(entropy)
        return actor_loss(dream, scale, entropy)

    monkeypatch.setattr("telepath.dreamer.learner.actor_loss", watched)
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    states = model.observe(torch.randn(8, 4, 3), torch.randn(8, 4, 2), None).latent.detach()
    for ratio in (1.0, 2.0):
        learner = BehaviorLearner(model, behavior, FirstFeature(), small, 0, Horizon.at(small, 3, ratio))
        learner.update(Experience(states, None, torch.zeros(8, 4)))
    assert asked == [small.entropy, small.entropy / 2]


def test_a_nat_of_entropy_costs_its_price_by_the_widest_range() -> None:
    dream = Dream(Imagined(torch.zeros(4, 2, 5), torch.full((3, 2), 7.0)), torch.zeros(3, 2), torch.ones(3, 2), 1.0)
    scale = Scale(torch.tensor(0.5), torch.tensor(2.0))
    assert float(actor_loss(dream, scale, 0.1)) == pytest.approx(-0.1 * 7 / 2)


class SquaredNorm(nn.Module):
    def forward(self, feature: Tensor) -> Tensor:
        return feature.square().sum(-1)


@pytest.mark.parametrize("starts", [8, 7])
def test_the_halves_of_an_update_have_the_slope_of_the_whole(small: DreamerSettings, starts: int) -> None:
    torch.manual_seed(0)
    model, behavior = WorldModel(3, 2, small).double(), Behavior(16, 2, small).double()
    with torch.no_grad():
        for parameter in behavior.critic.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    start = Latent(torch.randn(starts, 12).double(), torch.randn(starts, 4).double())
    whole = set_out(model, start, 5, torch.Generator().manual_seed(0))
    found = []
    for outsets in ([whole], whole.halves()):
        assert sum(outset.share for outset in outsets) == pytest.approx(1.0)
        dreams = [dream_from(model, behavior, SquaredNorm(), Horizon(5, 8, 0.9, 0.8), outset) for outset in outsets]
        behavior.scale.zero_()
        behavior.widest.zero_()
        scale = behavior.measure(torch.cat([dream.returns.detach() for dream in dreams], 1))
        actor = [actor_loss(dream, scale, 0.3) for dream in dreams]
        critic = [critic_loss(behavior.critic, dream, scale)[0] for dream in dreams]
        found.append(total([slope_of(loss, dict(behavior.actor.named_parameters())) for loss in actor]))
        found.append(total([slope_of(loss, dict(behavior.critic.net.named_parameters())) for loss in critic]))
    for (loss, gradients), (other, others) in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(loss, other, rtol=1e-12, atol=0.0)
        assert gradients.keys() == others.keys()
        for name, gradient in gradients.items():
            assert gradient.abs().sum() > 0, name
            torch.testing.assert_close(gradient, others[name], rtol=1e-9, atol=1e-12)


def test_a_gradient_lies_as_its_parameter_does_and_is_nobody_elses() -> None:
    weights = {"kernel": torch.randn(4, 3, 2, 2), "one": torch.zeros(3), "other": torch.zeros(3), "idle": torch.ones(1)}
    for weight in weights.values():
        weight.requires_grad_()
    frames = torch.randn(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    response = nn.functional.conv2d(frames, weights["kernel"]).square().mean()
    loss, gradients = slope_of(response + (weights["one"] + weights["other"]).sum(), weights)
    assert gradients.keys() == {"kernel", "one", "other"}
    assert all(gradient.stride() == weights[name].stride() for name, gradient in gradients.items())
    assert gradients["one"].data_ptr() != gradients["other"].data_ptr()
    torch.testing.assert_close(loss, response.detach())
    assert all(weight.grad is None for weight in weights.values())


def test_whether_an_update_is_halved_is_a_matter_of_its_starts(small: DreamerSettings) -> None:
    model = WorldModel(3, 2, small)
    horizon = Horizon.at(small.model_copy(update={"imagined": 12 * HALVED_FROM}), 6, 2.0)
    learner = BehaviorLearner(model, Behavior(model.feature_dim, 2, small), FirstFeature(), small, 0, horizon)
    states = Latent(torch.zeros(1), torch.zeros(1))
    for records, halved in ((HALVED_FROM - 1, False), (HALVED_FROM, True), (9 * HALVED_FROM, True)):
        assert learner.in_halves(Experience(states, None, torch.zeros(records, 1))) == halved
    learner.horizon = horizon._replace(starts=HALVED_FROM - 1)
    assert not learner.in_halves(Experience(states, None, torch.zeros(9 * HALVED_FROM, 1)))


def test_discount_and_horizon_keep_their_seconds_at_another_rate(small: DreamerSettings) -> None:
    model = WorldModel(3, 2, small)
    behavior = Behavior(model.feature_dim, 2, small)
    for ratio in (0.5, 1.0, 2.0):
        learner = BehaviorLearner(model, behavior, FirstFeature(), small, 0, Horizon.at(small, 3, ratio))
        assert learner.horizon.gamma**ratio == pytest.approx(small.discount)
        assert learner.horizon.lam**ratio == pytest.approx(small.return_lambda)
    assert learner.horizon.steps == 6
    assert learner.horizon.starts == 4, "as many imagined steps an update at any rate"


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

    def squares(logit: float) -> float:
        model.continuation_net[-1].bias.data.fill_(logit)
        outset = set_out(model, model.initial(6), 1, torch.Generator().manual_seed(0))
        dream = dream_from(model, behavior, Nothing(), Horizon(1, 8, 0.9, 0.95), outset)
        scale = behavior.measure(dream.returns.detach())
        return float(critic_loss(behavior.critic, dream, scale)[0].detach() * scale.returns.square())

    assert squares(50.0) == pytest.approx(0.5 * (5 - 0.9 * 5) ** 2, rel=1e-3)
    assert squares(-50.0) == pytest.approx(0.5 * 5**2, rel=1e-3)

"""The rules that Dreamers get wrong without falling over: which action belongs to which observation, where an episode
begins, what an end is, which state a target belongs to, how often is updated, and what a second is worth.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import (
    Behavior,
    Experience,
    Horizon,
    Imagined,
    Outset,
    actor_loss,
    critic_loss,
    dream_from,
    lambda_returns,
)
from telepath.dreamer.imagining import Noise
from telepath.dreamer.learner import Learner, filtered_features
from telepath.dreamer.networks import Gaussian
from telepath.dreamer.replay import Batch, Lesson, Replay
from telepath.dreamer.rssm import Latent, WorldModel, world_model_loss
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import rollout, seed_episodes
from telepath.envs.suite import Step
from telepath.runtime.graphs import cloned
from telepath.settings import DreamerSettings, OnlineSettings
from tests.conftest import Counting, NoScratch, PointEnvironment

HORIZON = 3


class EndingPoint(PointEnvironment):
    """The point, but its episodes end for good where they are cut off by the clock otherwise."""

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        return Step(step.observation, step.paid, terminal=step.last, last=step.last)


def online(small: DreamerSettings, environment: PointEnvironment, **changes: Any) -> OnlineTraining:
    given: dict[str, Any] = {"steps": 9 * environment.episode_steps, "ratio": 0.2, "rate_ratio": 1.0} | changes
    return OnlineTraining(
        "point",
        environment,  # type: ignore[arg-type]
        seed_episodes(environment, 2, 0),  # type: ignore[arg-type]
        small,
        OnlineSettings(first_updates=5, update_ratio=given["ratio"], finalists=1, final_episodes=1),
        steps=given["steps"],
        seed=0,
        horizon=HORIZON,
        rate_ratio=given["rate_ratio"],
    )


# -- which action and which reward belong to which observation --------------------------------------------------------


def test_a_replayed_action_led_to_its_observation_and_a_reward_came_with_it() -> None:
    replay = Replay(seed_episodes(PointEnvironment(), 5, 0))  # type: ignore[arg-type]
    batch = replay.sample(64, 9, np.random.default_rng(0))
    assert batch.reward is not None
    position, velocity = batch.observation.unbind(-1)
    # The laws of the point hold between neighbours only if action t stands beside the observation that it led to.
    torch.testing.assert_close(velocity[1:], 0.9 * velocity[:-1] + 0.3 * batch.action[1:, :, 0])
    torch.testing.assert_close(position[1:], position[:-1] + 0.2 * velocity[:-1])
    paid = torch.exp(-((position - 1) ** 2))
    torch.testing.assert_close(batch.reward, torch.where(batch.is_first == 1, 0.0, paid))


def test_what_the_policy_believed_when_it_acted_is_what_training_makes_of_the_record(
    small: DreamerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gaussian, "sample", lambda self, generator: self.mean)  # both without their own noise
    torch.manual_seed(0)
    agent = Agent("point", 2, 1, small)
    policy, believed = agent.policy(), []
    act = policy.act

    def watched(observation: np.ndarray) -> np.ndarray:
        action = act(observation)
        believed.append(policy.latent.feature)
        return action

    monkeypatch.setattr(policy, "act", watched)
    for _ in range(2):  # the second episode begins as blank as the first one
        believed.clear()
        (episode,) = rollout([PointEnvironment()], policy)  # type: ignore[list-item]
        torch.testing.assert_close(torch.cat(believed), filtered_features(agent.model, episode)[:-1])
    assert np.abs(episode.action[1:]).min() > 0, "an action of zero would not show if it went astray"


def test_the_behavior_gets_states_rates_and_ends_of_one_and_the_same_batch(small: DreamerSettings) -> None:
    seen: list[Experience] = []

    class Model:
        model = SimpleNamespace(device=torch.device("cpu"))

        def update(self, lesson: Lesson) -> tuple[Latent, dict[str, Tensor]]:
            return Latent(lesson.batch.observation, lesson.batch.observation), {}

    class Watching:
        def look(self) -> None: ...

        def in_halves(self, experience: Experience) -> bool:
            return False

        def update(self, experience: Experience) -> dict[str, Tensor]:
            seen.append(cloned(experience))
            return {}

    learner = Learner(Model(), Watching())  # type: ignore[arg-type]
    for number in range(4):
        marks = torch.full((3, 2, 1), float(number))
        batch = Batch(marks, marks, marks[..., 0], marks[..., 0], marks[..., 0], np.zeros(2), np.zeros(2))
        learner.update(Lesson(batch, marks[..., 0]))
    assert len(seen) == 3
    for number, (states, rate, terminal) in enumerate(seen):
        assert rate is not None
        assert {float(part.mean()) for part in (states.deter, rate, terminal)} == {number}


# -- where an episode begins ------------------------------------------------------------------------------------------


def test_the_reward_head_learns_nothing_from_record_zero_and_something_from_every_other(small: DreamerSettings) -> None:
    training = online(small, PointEnvironment())
    batch = training.replay.sample(32, small.length, np.random.default_rng(0))
    assert batch.reward is not None
    begins = batch.is_first == 1
    assert begins.any()
    latent = training.agent.model.observe(batch.observation, batch.action, None).latent

    def loss(reward: Tensor) -> float:
        lesson = Lesson(batch, training.rate(batch._replace(reward=reward)))
        return float(training._reward_loss(latent, lesson)[0].detach())

    as_it_is = loss(batch.reward)
    assert loss(batch.reward + 9 * begins) == as_it_is
    for t in range(1, small.length):
        raised = batch.reward.clone()
        raised[t] += 9
        assert loss(raised) > as_it_is + 1


# -- what an end is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("environment", "ends"), [(PointEnvironment, 0.0), (EndingPoint, 1.0)])
def test_the_clock_ends_no_task(small: DreamerSettings, environment: type[PointEnvironment], ends: float) -> None:
    replay = Replay(seed_episodes(environment(), 3, 0))  # type: ignore[arg-type]
    batch = replay.sample(64, 9, np.random.default_rng(0))
    last = torch.from_numpy(batch.start + 9 == 41)
    assert last.any()
    assert torch.equal(batch.terminal[-1], ends * last)
    assert not batch.terminal[:-1].any()


def test_the_model_is_told_that_a_state_goes_on_unless_it_is_terminal(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    model = WorldModel(2, 1, small)
    nn.init.zeros_(model.continuation_net[-1].weight)
    nn.init.constant_(model.continuation_net[-1].bias, 1.5)
    observation, nothing = torch.randn(4, 3, 2), torch.zeros(4, 3)
    observed = model.observe(observation, torch.zeros(4, 3, 1), None)

    def loss(terminal: Tensor) -> Tensor:
        return world_model_loss(model, observed, observation, terminal, small).total.detach()

    one = nothing.clone()
    one[3, 1] = 1
    # Cross entropy of a logit l: log(1 + exp(-l)) where it goes on, l more where it ends; a mean over 12 records.
    torch.testing.assert_close(loss(one) - loss(nothing), torch.tensor(1.5 / 12))


# -- which state a target belongs to ----------------------------------------------------------------------------------


class Steps(nn.Module):
    """``goes_on``: the chance that a state is no end."""

    def __init__(self, goes_on: list[float]):
        super().__init__()
        self.goes_on = torch.tensor(goes_on)

    def continuation(self, feature: Tensor) -> Tensor:
        return self.goes_on[feature[..., 0].long()]


class Table(nn.Module):
    """The state's number -> the number in the table."""

    def __init__(self, numbers: list[float], *, column: bool = False):
        super().__init__()
        self.numbers, self.column = nn.Parameter(torch.tensor(numbers)), column

    def forward(self, feature: Tensor) -> Tensor:
        found = self.numbers[feature[..., 0].long()]
        return found.unsqueeze(-1) if self.column else found


def one_after_the_other(model: Steps, actor: nn.Module, start: Latent, noise: Noise) -> Imagined:
    """State t is followed by state t + 1, whatever is done."""
    horizon = len(noise.action)
    feature = start.feature + torch.arange(horizon + 1.0).view(-1, 1, 1)
    return Imagined(feature, torch.zeros(horizon, len(start.deter)))


def test_every_target_of_the_critic_belongs_to_the_state_before_its_reward(
    small: DreamerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telepath.dreamer.behavior.imagine", one_after_the_other)
    rate, value, slow = [7.0, 0.1, 0.5, 0.2], [0.3, 0.8, 0.6, 9.0], [8.0, 0.4, 0.9, 0.7]
    alive = [0.01, 0.9, 0.5, 0.8]
    gamma, lam = 0.9, 0.7
    behavior = Behavior(2, 1, small)
    behavior.critic.net, behavior.critic.slow = Table(value, column=True), Table(slow, column=True)  # type: ignore[assignment]
    outset = Outset(Latent(torch.zeros(5, 1), torch.zeros(5, 1)), Noise(torch.zeros(3, 5, 1), torch.zeros(3, 5, 1)))
    dream = dream_from(Steps(alive), behavior, Table(rate), Horizon(3, 8, gamma, lam), outset)  # type: ignore[arg-type]
    scale = behavior.measure(dream.returns.detach())
    critic, _ = critic_loss(behavior.critic, dream, scale)
    # By hand, for the states 0, 1 and 2. What state 0 paid, whether it was alive, and what the slow critic says of it
    # are no part of any return; neither is what the learning critic says of state 3.
    after_2 = 0.1 * rate[3] + gamma * alive[3] * slow[3]
    after_1 = 0.1 * rate[2] + gamma * alive[2] * (0.3 * slow[2] + 0.7 * after_2)
    after_0 = 0.1 * rate[1] + gamma * alive[1] * (0.3 * slow[1] + 0.7 * after_1)
    weight = [1.0, alive[1], alive[1] * alive[2]]
    returns = [after_0, after_1, after_2]
    wanted = sum(w * (v - r) ** 2 for w, v, r in zip(weight, value[:3], returns, strict=True)) / 3 / 2
    assert float(critic.detach() * scale.returns**2) == pytest.approx(wanted, rel=1e-5)
    earned = sum(w * r for w, r in zip(weight, returns, strict=True)) / 3
    assert float(actor_loss(dream, scale, 0.0).detach() * scale.returns) == pytest.approx(-earned, rel=1e-5)


# -- how often is updated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.07, 0.2, 1.3])
def test_gradient_steps_are_as_many_as_the_ratio_says_each_on_a_batch_of_its_own(
    small: DreamerSettings, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = online(small, PointEnvironment(), ratio=ratio)
    drawn: list[Batch] = []
    sample = training.replay.sample

    def counted(*arguments: Any) -> Batch:
        drawn.append(sample(*arguments))
        # Never ahead of the steps that are paid for by more than the one that is made now.
        assert len(drawn) <= training.updates_due(training.replay.steps) + 1
        return drawn[-1]

    monkeypatch.setattr(training.replay, "sample", counted)
    training.run(Counting(), NoScratch())  # type: ignore[arg-type]
    collected = 9 * 40 - 2 * 40 - 40  # less the seed episodes and the finalist's
    wanted = 5 + round(ratio * collected)
    assert len(drawn) == wanted
    assert len({(*batch.episode, *batch.start) for batch in drawn}) == wanted

    def taken(optimizer: torch.optim.Optimizer) -> set[int]:
        return {int(state["step"]) for state in optimizer.state.values()}

    assert taken(training.learner.model.optimizer) == {wanted}
    # The behavior starts from the batch before, so it has none at first.
    assert taken(training.learner.behavior.actor_optimizer) == {wanted - 1}
    assert taken(training.learner.behavior.critic_optimizer) == {wanted - 1}


# -- what a second is worth -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 3.0])
def test_a_second_later_is_worth_the_same_at_any_rate_of_control(small: DreamerSettings, ratio: float) -> None:
    horizon = Horizon.at(small.model_copy(update={"return_lambda": 0.9}), 12, ratio)
    assert horizon.steps == 12 * ratio
    delay = 4  # source steps without pay, then a rate of 1 for good
    steps = round(delay * ratio)
    rate = torch.cat([torch.zeros(steps), torch.ones(horizon.steps - steps)]).unsqueeze(1)
    gamma = torch.full_like(rate, horizon.gamma)
    later = torch.arange(1, horizon.steps + 1).unsqueeze(1)
    true = torch.as_tensor(horizon.gamma) ** (steps - later).clamp(min=0)
    values = {"true critic": true, "a critic that knows nothing": torch.zeros_like(rate)}
    got = {name: float(lambda_returns(rate, value, gamma, 1.0, horizon.gamma)[0]) for name, value in values.items()}
    assert got["true critic"] == pytest.approx(small.discount**delay, rel=1e-4)
    assert got["a critic that knows nothing"] == pytest.approx(small.discount**delay - small.discount**12, rel=1e-3)
    assert horizon.lam ** (delay * ratio) == pytest.approx(0.9**delay)


@pytest.mark.parametrize("repeat", [1, 2, 4])
def test_a_rate_is_paid_by_the_frame_whatever_a_step_is(small: DreamerSettings, repeat: int) -> None:
    class Paying(PointEnvironment):
        def step(self, action: np.ndarray) -> Step:
            step = super().step(action)
            return Step(step.observation, 0.3 * self.action_repeat, terminal=False, last=step.last)

    training = online(small, Paying(repeat), rate_ratio=4 / repeat)
    batch = training.replay.sample(8, small.length, np.random.default_rng(0))
    rate = training.rate(batch)
    torch.testing.assert_close(rate[1:], torch.full_like(rate[1:], 0.3))
    horizon = training.learner.behavior.horizon
    assert horizon.gamma ** (4 / repeat) == pytest.approx(small.discount), "a step of four frames is the settings' own"
    assert horizon.steps == math.ceil(HORIZON * 4 / repeat)

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from telepath.dreamer.agent import Agent
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import Policy, rollout, seed_episodes
from telepath.episodes import Episode
from telepath.errors import UserError
from telepath.runtime.device import limit_threads
from telepath.settings import DreamerSettings, OnlineSettings
from tests.conftest import Counting, Kept, NoScratch, PointEnvironment, StopAt, Stopped


@pytest.fixture
def make(small: DreamerSettings) -> Callable[..., OnlineTraining]:
    def make_training(steps: int = 280, seed: int = 0) -> OnlineTraining:
        environment = PointEnvironment()
        episodes = seed_episodes(environment, 2, seed)  # type: ignore[arg-type]
        return OnlineTraining(
            "point",
            environment,  # type: ignore[arg-type]
            episodes,
            small,
            OnlineSettings(first_updates=5, update_ratio=0.2, finalists=2, final_episodes=1),
            steps=steps,
            seed=seed,
            horizon=3,
        )

    return make_training


def test_updates_and_steps_keep_the_configured_ratio(make: Callable[..., OnlineTraining]) -> None:
    training, progress = make(), Counting()
    trained = training.run(progress, NoScratch())  # type: ignore[arg-type]
    # 280 steps = 2 seed episodes of 40, 3 that are collected, and one for each finalist.
    assert training.updates == progress.count == 5 + 0.2 * 120
    assert training.replay.steps == 280
    assert len(trained.episodes) == 7
    assert [steps for steps, *_ in trained.curve] == [120, 160, 200, 240, 280]
    for steps, updates, *_ in trained.curve[:3]:
        # An episode is collected as soon as the updates for all steps before it are made.
        assert updates == pytest.approx(5 + 0.2 * (steps - 40 - 80), abs=1)


def test_the_finalist_with_the_highest_true_return_is_kept(
    make: Callable[..., OnlineTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make()
    kept = iter([3.0, 9.0])
    roll_out = training.roll_out

    def paid(policy: Policy) -> Episode:
        episode = roll_out(policy)
        if len(training.finalists) < 2:
            return episode
        return dataclasses.replace(episode, reward=np.full(len(episode), next(kept), np.float32))

    monkeypatch.setattr(training, "roll_out", paid)
    agent = training.run(Counting(), NoScratch()).agent  # type: ignore[arg-type]
    first, last = training.finalists
    assert not torch.equal(first["behavior.steady.net.0.weight"], last["behavior.steady.net.0.weight"])
    assert torch.equal(agent.behavior.steady.net[0].weight, last["behavior.steady.net.0.weight"])  # type: ignore[arg-type]


def test_a_budget_that_does_not_hold_the_finalists_is_refused(make: Callable[..., OnlineTraining]) -> None:
    with pytest.raises(ValueError, match="120 steps do not hold"):
        make(steps=120)


@pytest.mark.parametrize("halved_from", [1, 512])
def test_a_second_thread_changes_no_bit(
    make: Callable[..., OnlineTraining], monkeypatch: pytest.MonkeyPatch, halved_from: int
) -> None:
    monkeypatch.setattr("telepath.dreamer.learner.HALVED_FROM", halved_from)

    def weights(threads: str) -> torch.Tensor:
        monkeypatch.setenv("TELEPATH_THREADS", threads)
        limit_threads()
        agent = make().run(Counting(), NoScratch()).agent  # type: ignore[arg-type]
        return torch.cat([p.flatten() for p in agent.parameters()])

    two, one = weights("2"), weights("1")
    assert torch.equal(one, two)


def test_the_same_seed_gives_the_same_agent_and_another_seed_another(make: Callable[..., OnlineTraining]) -> None:
    def weights(seed: int) -> torch.Tensor:
        agent = make(steps=240, seed=seed).run(Counting(), NoScratch()).agent  # type: ignore[arg-type]
        return torch.cat([p.flatten() for p in agent.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("stop", [1, 17, 28])
def test_a_run_taken_up_from_a_checkpoint_ends_in_the_same_bits(make: Callable[..., OnlineTraining], stop: int) -> None:
    straight = make().run(Counting(), NoScratch())  # type: ignore[arg-type]
    scratch = StopAt(stop)
    with pytest.raises(Stopped):
        make().run(Counting(), scratch)  # type: ignore[arg-type]
    resumed = make().run(Counting(), Kept(scratch))  # type: ignore[arg-type]
    for one, other in zip(straight.agent.parameters(), resumed.agent.parameters(), strict=True):
        assert torch.equal(one, other)
    assert straight.curve == resumed.curve
    assert len(straight.episodes) == len(resumed.episodes)


def test_an_agent_comes_back_from_disk_and_acts_the_same(small: DreamerSettings, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    agent = Agent("point", 2, 1, small)
    agent.model.fit_units(torch.randn(20, 2) * 3)
    agent.save(tmp_path / "agent.safetensors")
    again = Agent.load(tmp_path / "agent.safetensors", "point")
    (one,) = rollout([PointEnvironment()], agent.policy())  # type: ignore[list-item]
    (other,) = rollout([PointEnvironment()], again.policy())  # type: ignore[list-item]
    assert np.array_equal(one.action, other.action)
    with pytest.raises(UserError, match="holds an agent for point, not cheetah-run"):
        Agent.load(tmp_path / "agent.safetensors", "cheetah-run")


def test_a_judged_policy_is_quieter_than_one_that_explores(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    agent = Agent("point", 2, 1, small)

    def spread(policy: Policy) -> float:
        policy.reset(400)
        return float(policy.act(np.zeros((400, 2), np.float32)).std())

    assert spread(agent.policy()) < 0.9 * spread(agent.explorer(seed=0))

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from telepath.baselines.bco import ClonedPolicy, NoisyClone
from telepath.baselines.pada import AdaptedPolicy, Deviation
from telepath.baselines.regression import Regressor
from telepath.config import load
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import ActionHold, Policy, RandomPolicy, rollout
from telepath.episodes import Array
from telepath.evaluation.judge import EVALUATION_STREAM, Court, judge, returns_table, rounds_table
from telepath.runtime.resume import Scratch
from telepath.runtime.store import pack, unpack
from telepath.settings import DreamerSettings
from telepath.transfer.explore import Noisy
from tests.conftest import PointEnvironment


def test_every_policy_is_judged_from_the_same_fresh_states(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    environments = [PointEnvironment() for _ in range(3)]
    one = judge(environments, RandomPolicy(1, np.random.default_rng(0)), seed=4)  # type: ignore[arg-type]
    other = judge(environments, Agent("point", 2, 1, small).policy(), seed=4)  # type: ignore[arg-type]
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.observation[0], b.observation[0])
    assert not np.array_equal(one[0].observation[0], one[1].observation[0])
    trained_on = PointEnvironment()
    trained_on.reseed(4, 0)
    assert not np.array_equal(trained_on.reset(), one[0].observation[0])
    assert EVALUATION_STREAM > 10_000


def test_tables_have_a_row_an_episode_and_a_row_a_round() -> None:
    environments = [PointEnvironment() for _ in range(2)]
    episodes = judge(environments, RandomPolicy(1, np.random.default_rng(0)), seed=0)  # type: ignore[arg-type]
    table = returns_table({"random": episodes, "oracle": episodes})
    assert list(table["agent"]) == ["random", "random", "oracle", "oracle"]
    assert table["return"].tolist()[:2] == [episode.ret for episode in episodes]
    rounds = rounds_table([100, 200], [episodes, episodes], 0.95)
    assert rounds["steps"].tolist() == [100, 200]
    assert (rounds["low"] <= rounds["return"]).all()
    assert (rounds["return"] <= rounds["high"]).all()


class Stopped(Exception):
    """What ends a rollout before its time."""


def stop_after(steps: int) -> tuple[Callable[[Callable[[], object]], None], list[bytes]]:
    """A keeper that keeps the checkpoint of that step, as bytes, and stops there."""
    kept: list[bytes] = []
    left = [steps]

    def keep(make_state: Callable[[], object]) -> None:
        left[0] -= 1
        if left[0] == 0:
            kept.append(pack(make_state(), "checkpoint"))
            raise Stopped

    return keep, kept


POLICIES = ("random", "agent", "slow agent", "noisy", "pada", "clone", "noisy clone")


def make_policy(name: str, small: DreamerSettings) -> Policy:
    """A policy with weights that are always the same."""
    torch.manual_seed(0)
    rng, agent = np.random.default_rng(0), Agent("point", 2, 1, small)
    if name == "pada":
        cem = load().rivals.pada.cem.model_copy(update={"iterations": 2, "population": 8})
        return AdaptedPolicy(ActionHold(agent.policy(), 2), Deviation(2, 1, 8), cem, None)
    return {
        "random": lambda: RandomPolicy(1, rng, hold=3),
        "agent": agent.policy,
        "slow agent": lambda: ActionHold(agent.policy(noise=1.0), 4),
        "noisy": lambda: Noisy(agent.policy(), 0.1, rng),
        "clone": lambda: ClonedPolicy(Regressor(6, 1, 8), 3),
        "noisy clone": lambda: NoisyClone(Regressor(6, 1, 8), 3, 0.1, rng),
    }[name]()


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("steps", [1, 7, 19])
def test_a_rollout_that_was_stopped_goes_on_to_the_same_bits(name: str, steps: int, small: DreamerSettings) -> None:
    def places() -> list[PointEnvironment]:
        return [PointEnvironment(frames=frames) for frames in (20, 12, 16)]

    whole = rollout(places(), make_policy(name, small))  # type: ignore[arg-type]
    keep, kept = stop_after(steps)
    with pytest.raises(Stopped):
        rollout(places(), make_policy(name, small), keep=keep)  # type: ignore[arg-type]
    state = unpack(kept[0], "checkpoint")
    again = rollout(places(), make_policy(name, small), kept=state)  # type: ignore[arg-type]
    for one, other in zip(whole, again, strict=True):
        assert np.array_equal(one.observation, other.observation)
        assert np.array_equal(one.action, other.action)
        assert np.array_equal(one.reward, other.reward)
    assert len({episode.action[-1].item() for episode in whole}) == 3


class Counted:
    """A policy whose calls are counted, and which is killed at one of them."""

    calls, killed_at = 0, -1

    def __init__(self, policy: Policy):
        self.reset, self.state, self.restore, self._act = policy.reset, policy.state, policy.restore, policy.act

    def act(self, observation: Array) -> Array:
        Counted.calls += 1
        if Counted.calls == Counted.killed_at:
            raise KeyboardInterrupt
        return self._act(observation)


def test_a_court_goes_on_in_the_middle_of_a_verdict(
    small: DreamerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def session(folder: Path) -> list[list[bytes]]:
        verdicts = []
        with Scratch(folder) as scratch:
            court = Court(scratch, 0)
            for name in ("agent", "random", "slow agent"):
                places = [PointEnvironment(frames=20) for _ in range(2)]
                verdicts.append(court.judge(places, Counted(make_policy(name, small))))  # type: ignore[arg-type]
        return [[episode.action.tobytes() for episode in verdict] for verdict in verdicts]

    monkeypatch.setenv("TELEPATH_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(Counted, "calls", 0)
    whole = session(tmp_path / "whole")
    assert Counted.calls == 60
    monkeypatch.setattr(Counted, "calls", 0)
    for killed_at in (7, 30, 31, 59):
        monkeypatch.setattr(Counted, "killed_at", killed_at)
        with pytest.raises(KeyboardInterrupt):
            session(tmp_path / "killed")
    assert session(tmp_path / "killed") == whole
    # Only the calls that were killed themselves were made twice: what a policy had done it did not do again.
    assert Counted.calls == 60 + 4


def test_a_court_knows_the_divergences_of_earlier_sessions(tmp_path: Path) -> None:
    class Diverging(PointEnvironment):
        def reset(self) -> Array:
            self.divergences += 1
            return super().reset()

    tables = []
    for _ in range(2):
        with Scratch(tmp_path) as scratch:
            places = [Diverging(frames=3), PointEnvironment(frames=3)]
            judged = Court(scratch, 0).judge(places, RandomPolicy(1, np.random.default_rng(0)))  # type: ignore[arg-type]
        tables.append(returns_table({"random": judged}))
        assert rounds_table([6], [judged], 0.95)["divergences"].tolist() == [1]
    assert places[0].divergences == 0, "the second session judged anew"
    assert [table["divergences"].tolist() for table in tables] == [[1, 0]] * 2

"""Numbers that are not finite: the stage stops, names the first bad tensor, and keeps what it was working on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.harness import Context, execute
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import Horizon, RewardHead
from telepath.dreamer.learner import BehaviorLearner, Learner, ModelLearner, descend
from telepath.dreamer.replay import Lesson, Replay
from telepath.dreamer.training import OnlineTraining
from telepath.envs.backend import PhysicsError
from telepath.envs.rollout import RandomPolicy, rollout, seed_episodes
from telepath.envs.suite import Environment, Step
from telepath.episodes import Episode, load_arrays, load_episodes, save_episodes
from telepath.errors import Fault, UserError
from telepath.settings import DreamerSettings
from telepath.transfer.explore import Exploration
from tests.conftest import Counting, Kept, NoScratch, PointEnvironment, StopAt, Stopped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def learner(small: DreamerSettings) -> tuple[Agent, Learner, Replay]:
    torch.manual_seed(0)
    agent, reward = Agent("point", 2, 1, small), RewardHead(16, small)
    model = ModelLearner(agent.model, small, torch.Generator().manual_seed(0))
    return (
        agent,
        Learner(model, BehaviorLearner(agent.model, agent.behavior, reward, small, 0, Horizon.at(small, 3))),
        Replay(seed_episodes(PointEnvironment(), 3, 0)),  # type: ignore[arg-type]
    )


def caught(learner: Learner, replay: Replay, change: Callable[[Any], Any] = lambda batch: batch) -> Fault:
    batch = change(replay.sample(4, 8, np.random.default_rng(0)))

    def twice() -> None:  # the behavior begins with the second
        learner.update(Lesson(batch))
        learner.update(Lesson(batch))

    with pytest.raises(Fault) as raised:
        twice()
    assert len(str(raised.value).splitlines()) == 1
    return raised.value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["observation", "action"])
def test_bad_data_is_named_and_kept(learner: tuple[Agent, Learner, Replay], name: str, value: float) -> None:
    agent, both, replay = learner
    before = {key: tensor.clone() for key, tensor in agent.state_dict().items()}

    def spoil(batch: Any) -> Any:
        getattr(batch, name)[5, 2, 0] = value
        return batch

    fault = caught(both, replay, spoil)
    assert str(fault).startswith(f"world model: {name}[5, 2, 0] is not finite: the loss is ")
    assert set(fault.evidence) == {"observation", "action", "reward", "is_first", "terminal"}
    assert np.array_equal(fault.evidence[name][5, 2, 0], value, equal_nan=True)
    # Nothing was learnt from it: what the next checkpoint would hold is as good as the last one.
    assert all(torch.equal(before[key], tensor) for key, tensor in agent.state_dict().items())


def test_bad_parameters_are_named(learner: tuple[Agent, Learner, Replay]) -> None:
    agent, both, replay = learner
    with torch.no_grad():
        agent.model.decoder[0].weight[3, 1] = torch.nan  # type: ignore[index]
    assert str(caught(both, replay)).startswith("world model: decoder.0.weight[3, 1] is not finite")


@pytest.mark.parametrize("halved_from", [1, 512])
def test_a_bad_actor_is_named(
    learner: tuple[Agent, Learner, Replay], monkeypatch: pytest.MonkeyPatch, halved_from: int
) -> None:
    monkeypatch.setattr("telepath.dreamer.learner.HALVED_FROM", halved_from)
    agent, both, replay = learner
    with torch.no_grad():
        name, parameter = next(iter(agent.behavior.actor.named_parameters()))
        parameter.view(-1)[0] = torch.inf
    fault = caught(both, replay)
    assert str(fault).startswith(f"actor: {name}[0")
    assert set(fault.evidence) == {"deter", "stoch"}


def test_bad_gradients_and_losses_are_named_before_anything_moves() -> None:
    weights = {"first": torch.ones(2, requires_grad=True), "second": torch.zeros(2, requires_grad=True)}
    optimizer = torch.optim.SGD(weights.values(), 0.1)
    # The square root is finite at 0 and its slope is not.
    loss = weights["first"].sum() + weights["second"].sqrt().sum()
    with pytest.raises(
        Fault, match=r"^part: gradient of second\[0\] is not finite: the loss is 2\.0 and its grad.* inf$"
    ):
        descend(optimizer, weights, loss, 1.0, "part", {"input": torch.ones(3)})
    optimizer.zero_grad()
    with pytest.raises(Fault, match=r"^part: the loss is not finite"):
        descend(optimizer, weights, weights["first"].sum() + torch.inf, 1.0, "part", {})
    assert torch.equal(weights["first"], torch.ones(2))


def test_data_on_disk_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    observation = np.zeros((5, 2), np.float32)
    observation[3, 1] = np.nan
    save_episodes(path, [Episode(observation, np.zeros((5, 1), np.float32), None)])
    with pytest.raises(UserError, match=r"e\.npz: observation\[3, 1\] is nan, not a finite number; delete it and run"):
        load_episodes(path, rewarded=False)


PIPELINE = "stages:\n  toy:\n    cmd: python -m stages.toy\n    params: [task]\n    deps: []\n    outs: [data/out]\n"


def test_a_stage_dumps_the_evidence_and_keeps_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("stages.harness.be_deterministic", lambda: None)
    monkeypatch.setenv("TELEPATH_THREADS", "1")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)

    def main(params: Params, context: Context) -> None:
        with context.scratch() as scratch:
            scratch.save({"updates": 7})
            raise Fault("actor: stoch[0] is not finite", {"stoch": np.array([np.nan, 1.0], np.float32)})

    with pytest.raises(UserError) as raised:
        execute(main, "toy")
    (dump,) = Path(".telepath/faults").iterdir()
    assert np.isnan(load_arrays(dump, ["stoch"])["stoch"][0])
    (line,) = str(raised.value).splitlines()
    assert line.startswith(
        f"actor: stoch[0] is not finite; what it was working on is in {dump}, and the last checkpoint"
    )
    (folder,) = Path(".telepath/scratch").iterdir()
    assert (folder / "state.safetensors").exists()


class Diverging(PointEnvironment):
    """A point whose simulator breaks down at some step of two episodes out of three, not of the first."""

    def __init__(self, *, rewarded: bool = True, last: int = 3):
        super().__init__(rewarded=rewarded)
        self.last, self.divergences = last, 0

    def reseed(self, seed: int, episode: int) -> None:
        self.episode = episode
        super().reseed(seed, episode)

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        if self.episode % 3 != 0 and self.frame == self.last:
            self.divergences += 1
            return Step(step.observation, 0.0 if self.rewarded else None, terminal=False, last=True)
        return step


@pytest.mark.parametrize("last", [1, 3])
def test_training_goes_on_with_a_simulator_that_diverges(params: Params, small: DreamerSettings, last: int) -> None:
    training = fragile_training(params, small, last)
    trained = training.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert training.environment.divergences > 3
    assert trained.curve[-1][3] == training.divergences == training.environment.divergences
    assert all(np.isfinite(episode.observation).all() for episode in trained.episodes)
    assert {len(episode) for episode in trained.episodes} == {last + 1, 41}

    environment = Diverging(rewarded=False, last=last)
    explore = params.explore.model_copy(update={"update_ratio": 0.1})
    explored = Exploration(environment, trained.agent, None, 1.0, 200, 3, explore, 0)  # type: ignore[arg-type]
    episodes = explored.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert [episode.divergences for episode in episodes] == [0, 1, 1, 0, 1]
    assert environment.divergences == 3


def fragile_training(params: Params, small: DreamerSettings, last: int = 3) -> OnlineTraining:
    online = params.source.training.model_copy(
        update={"first_updates": 3, "update_ratio": 0.1, "finalists": 1, "final_episodes": 1}
    )
    environment: Any = Diverging(last=last)
    episodes = seed_episodes(environment, 3, 0)
    return OnlineTraining("point", environment, episodes, small, online, steps=200, seed=0, horizon=3)


def test_divergences_of_earlier_sessions_are_counted(params: Params, small: DreamerSettings) -> None:
    whole = fragile_training(params, small).run(Counting(), NoScratch())  # type: ignore[arg-type]
    scratch = StopAt(8)
    with pytest.raises(Stopped):
        fragile_training(params, small).run(Counting(), scratch)  # type: ignore[arg-type]
    resumed = fragile_training(params, small)
    seeds = resumed.divergences
    again = resumed.run(Counting(), Kept(scratch))  # type: ignore[arg-type]
    assert whole.curve == again.curve
    assert whole.curve[-1][3] == sum(episode.divergences for episode in again.episodes)
    # Some came in the session that was killed: this one's simulator knows nothing of them.
    assert seeds < resumed.environment.divergences < resumed.divergences


def test_a_simulator_that_always_diverges_at_once_is_one_line(params: Params, small: DreamerSettings) -> None:
    environment = Diverging(last=2)
    environment.reseed(0, 1)
    (episode,) = rollout([environment], RandomPolicy(1, np.random.default_rng(0)))  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"^gap: no episode is as long as a window of 8 records.*milder"):
        Replay([episode]).sample(4, 8, np.random.default_rng(0))


def test_divergence_in_the_middle_of_a_rollout_is_counted_and_poisons_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment("cartpole-balance", 2, seed=0)
    advance, calls = environment.physics.step, iter(range(10**6))

    def diverge(substeps: int) -> None:
        if next(calls) == 9:
            raise PhysicsError("bad")
        advance(substeps)

    monkeypatch.setattr(environment.physics, "step", diverge)
    (episode,) = rollout([environment], RandomPolicy(1, np.random.default_rng(0)))
    assert (len(episode), episode.terminal, environment.divergences) == (6, False, 1)
    assert np.isfinite(episode.observation).all()
    assert episode.reward is not None
    assert np.isfinite(episode.reward).all()
    (again,) = rollout([environment], RandomPolicy(1, np.random.default_rng(0)))
    assert len(again) > 100


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
@pytest.mark.parametrize("task", ["ball_in_cup-catch", "walker-walk", "cheetah-run"])
def test_the_real_simulator_diverges_and_goes_on(task: str, value: float) -> None:
    environment = Environment(task, 4, seed=0)

    class Breaking(RandomPolicy):
        """Random actions; before the sixth one the bodies are given velocities that no integrator survives."""

        def act(self, observation: np.ndarray) -> np.ndarray:
            if self._age == 5:
                environment.physics.data.qvel[:] = value
            return super().act(observation)

    def episode(policy: type[RandomPolicy]) -> Episode:
        environment.reseed(0, 1)
        (played,) = rollout([environment], policy(environment.action_dim, np.random.default_rng(0)))
        return played

    whole, broken, again = episode(RandomPolicy), episode(Breaking), episode(RandomPolicy)
    assert (broken.steps, broken.terminal, broken.divergences, environment.divergences) == (6, False, 1, 1)
    assert broken.reward is not None
    assert np.isfinite(broken.observation).all()
    assert np.isfinite(broken.reward).all()
    # Up to there it was an episode like any other, its last record repeats the one before, and the next one is whole.
    np.testing.assert_array_equal(broken.observation[:6], whole.observation[:6])
    np.testing.assert_array_equal(broken.observation[6], whole.observation[5])
    assert (again.observation.tobytes(), again.action.tobytes()) == (
        whole.observation.tobytes(),
        whole.action.tobytes(),
    )
    assert (whole.steps, whole.divergences, again.divergences) == (environment.episode_steps, 0, 0)

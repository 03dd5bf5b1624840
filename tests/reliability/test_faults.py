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
from telepath.dreamer.behavior import RewardHead
from telepath.dreamer.learner import BehaviorLearner, Learner, ModelLearner, descend
from telepath.dreamer.replay import Replay
from telepath.dreamer.training import OnlineTraining
from telepath.envs.backend import PhysicsError
from telepath.envs.rollout import RandomPolicy, rollout, seed_episodes
from telepath.envs.suite import Environment, Step
from telepath.episodes import Episode, load_arrays, load_episodes, save_episodes
from telepath.errors import Fault, UserError
from telepath.settings import DreamerSettings
from telepath.transfer.explore import Exploration
from tests.conftest import Counting, NoScratch, PointEnvironment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def learner(small: DreamerSettings) -> tuple[Agent, Learner, Replay]:
    torch.manual_seed(0)
    agent, reward = Agent("point", 2, 1, small), RewardHead(16, small)
    model = ModelLearner(agent.model, small, torch.Generator().manual_seed(0))
    return (
        agent,
        Learner(model, BehaviorLearner(agent.model, agent.behavior, reward, small, 0)),
        Replay(seed_episodes(PointEnvironment(), 3, 0)),  # type: ignore[arg-type]
    )


def caught(learner: Learner, replay: Replay, change: Callable[[Any], Any] = lambda batch: batch) -> Fault:
    batch = change(replay.sample(4, 8, np.random.default_rng(0)))

    def twice() -> None:  # the behavior begins with the second
        learner.update(batch)
        learner.update(batch)

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
        self.episode, self.last, self.divergences = 0, last, 0

    def reset(self) -> np.ndarray:
        self.episode += 1
        return super().reset()

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        if self.episode % 3 != 1 and self.frame == self.last:
            self.divergences += 1
            return Step(step.observation, 0.0 if self.rewarded else None, terminal=False, last=True)
        return step


@pytest.mark.parametrize("last", [1, 3])
def test_training_goes_on_with_a_simulator_that_diverges(params: Params, small: DreamerSettings, last: int) -> None:
    online = params.source.training.model_copy(
        update={"first_updates": 3, "update_ratio": 0.1, "finalists": 1, "final_episodes": 1}
    )
    environment = Diverging(last=last)
    episodes = seed_episodes(environment, 3, 0)  # type: ignore[arg-type]
    training = OnlineTraining("point", environment, episodes, small, online, steps=200, seed=0)  # type: ignore[arg-type]
    trained = training.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert environment.divergences > 3
    assert all(np.isfinite(episode.observation).all() for episode in trained.episodes)
    assert {len(episode) for episode in trained.episodes} == {last + 1, 41}

    environment = Diverging(rewarded=False, last=last)
    explore = params.explore.model_copy(update={"update_ratio": 0.1})
    explored = Exploration(environment, trained.agent, None, 1.0, 200, explore, 0)  # type: ignore[arg-type]
    assert len(explored.run(Counting(), NoScratch())) == 5  # type: ignore[arg-type]
    assert environment.divergences > 2


def test_a_simulator_that_always_diverges_at_once_is_one_line(params: Params, small: DreamerSettings) -> None:
    environment = Diverging(last=2)
    environment.episode = 1
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

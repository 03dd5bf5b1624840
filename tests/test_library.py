"""An agent outside of the pipeline: what docs/library.md shows runs, and acts as the evaluation's agents do."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import telepath
from stages.dependencies import ROOT
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import rollout
from telepath.errors import UserError
from telepath.settings import DreamerSettings
from tests.conftest import PointEnvironment

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL)


def saved(small: DreamerSettings, path: Path, task: str = "point", dims: tuple[int, int] = (2, 1)) -> Agent:
    torch.manual_seed(0)
    agent = Agent(task, *dims, small)
    agent.model.fit_units(torch.randn(20, dims[0]) * 3)
    agent.save(path)
    return agent


@pytest.fixture
def agent(small: DreamerSettings, tmp_path: Path) -> Agent:
    return saved(small, tmp_path / "agent.safetensors")


@pytest.fixture
def loaded(agent: Agent, tmp_path: Path) -> telepath.LoadedAgent:
    return telepath.load(tmp_path / "agent.safetensors")


class PointGym:
    """The point on a line, as Gymnasium would show it."""

    def __init__(self, number: int = 0) -> None:
        self.point, self.number = PointEnvironment(), number

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.point.reseed(seed, self.number)
        return self.point.reset(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        step = self.point.step(action)
        return step.observation, step.reward, step.terminal, step.last and not step.terminal, {}


class PointGyms:
    """Some of them at once, which begin again in the step in which they end; the first one ends early once."""

    def __init__(self, count: int) -> None:
        self.gyms, self.steps, self.short = [PointGym(number) for number in range(count)], 0, 5

    def reset(self, *, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        return np.stack([gym.reset(seed=seed)[0] for gym in self.gyms]), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        parts = [gym.step(action) for gym, action in zip(self.gyms, actions, strict=True)]
        observations, rewards, terminated, truncated = (
            np.array(column) for column in list(zip(*parts, strict=True))[:4]
        )
        self.steps += 1
        truncated[0] |= self.steps == self.short
        for row in np.flatnonzero(terminated | truncated):
            observations[row] = self.gyms[row].reset()[0]
        return observations, rewards, terminated, truncated, {}


@pytest.mark.parametrize("pace", [1, 3])
def test_it_acts_as_the_agents_of_the_evaluation_do(agent: Agent, tmp_path: Path, pace: int) -> None:
    agent.pace = pace
    agent.save(tmp_path / "paced.safetensors")
    loaded = telepath.load(tmp_path / "paced.safetensors")
    (episode,) = rollout([PointEnvironment()], agent.policy(seed=3))  # type: ignore[list-item]
    state = None
    for t in range(episode.steps):
        action, state = loaded.act(episode.observation[t], state, seed=3)
        assert action.shape == (1,)
        assert action.dtype == np.float32
        np.testing.assert_array_equal(action, episode.action[t + 1])
    held = (np.diff(episode.action[1:, 0]) == 0).mean()
    assert (held > 0.5) == (pace == 3)


def test_a_batch_is_its_rows(loaded: telepath.LoadedAgent) -> None:
    observations = np.random.default_rng(0).normal(size=(4, 3, 2))
    together, alone = None, [None] * 3
    for step in observations:
        actions, together = loaded.act(step, together, deterministic=True)
        assert actions.shape == (3, 1)
        for row, observation in enumerate(step):
            action, alone[row] = loaded.act(observation, alone[row], deterministic=True)  # type: ignore[call-overload]
            np.testing.assert_allclose(action, actions[row], atol=1e-6)


def test_the_same_state_gives_the_same_action_and_another_seed_another(loaded: telepath.LoadedAgent) -> None:
    observation = np.array([0.3, -0.2])
    _, state = loaded.act(observation)
    first, after = loaded.act(observation, state)
    first *= 0  # the caller's own
    loaded.act(observation, after)
    again, same = loaded.act(observation, state)
    assert again.any()
    np.testing.assert_array_equal(loaded.act(observation, after)[0], loaded.act(observation, same)[0])
    assert not np.array_equal(loaded.act(observation, seed=1)[0], loaded.act(observation, seed=2)[0])


def test_deterministic_is_the_mean_of_belief_and_policy_and_no_random_number(
    agent: Agent, loaded: telepath.LoadedAgent
) -> None:
    observation = np.array([0.3, -0.2], np.float32)
    before = torch.get_rng_state()
    action, _ = loaded.act(observation, deterministic=True, seed=1)
    np.testing.assert_array_equal(action, loaded.act(observation, deterministic=True, seed=2)[0])
    assert torch.equal(before, torch.get_rng_state())
    embedding = agent.model.embed(torch.from_numpy(observation[None]))
    latent, posterior = agent.model.observe_step(agent.model.initial(1), torch.zeros(1, 1), embedding, None)
    assert torch.equal(latent.stoch, posterior.mean)
    np.testing.assert_array_equal(action, agent.behavior.steady(latent.feature).mean[0].detach())


def test_an_episode_of_a_batch_begins_anew_where_it_is_said_to(loaded: telepath.LoadedAgent) -> None:
    observations = np.random.default_rng(0).normal(size=(3, 2, 2))
    _, state = loaded.act(observations[0], deterministic=True)
    on, _ = loaded.act(observations[1], state, deterministic=True)
    actions, _ = loaded.act(observations[1], state, first=[True, False], deterministic=True)
    fresh, _ = loaded.act(observations[1], deterministic=True)
    np.testing.assert_allclose(actions, [fresh[0], on[1]], atol=1e-6)
    assert abs(fresh - on).min() > 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0, 3.0],), r"observation: shape \(3,\); expected \(2,\) or \(B, 2\) for point"),
        ((1.0,), r"observation: shape \(\)"),
        ((np.zeros((1, 1, 2)),), r"observation: shape \(1, 1, 2\)"),
        (({"position": 1.0},), "observation: a dict that is no array of numbers"),
        (([[0.0, 1.0], [0.0, np.nan]],), r"observation\[1, 1\] is nan"),
    ],
)
def test_an_observation_that_does_not_fit_is_one_line(
    loaded: telepath.LoadedAgent, arguments: tuple[Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        loaded.act(*arguments)
    assert "\n" not in str(caught.value)


def test_a_state_of_other_episodes_is_one_line(loaded: telepath.LoadedAgent) -> None:
    _, state = loaded.act(np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"^state: a state of 3 episodes and observations of 1"):
        loaded.act(np.zeros(2), state)
    with pytest.raises(UserError, match=r"^first: int64 of shape \(2,\); expected \(3,\) booleans"):
        loaded.act(np.zeros((3, 2)), state, first=[0, 1])


def test_a_file_that_is_no_agent_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no agent")
    for name in ("missing", "text", "."):
        with pytest.raises(UserError, match=re.escape(str(tmp_path))) as caught:
            telepath.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_the_page_runs_as_it_stands(
    small: DreamerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(small, tmp_path / "data" / "target" / "agent.safetensors", "ball_in_cup-catch", (8, 2))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
    said = capsys.readouterr().out
    assert said.startswith("ball_in_cup-catch 8 2\n")
    assert re.search(r"return \d+\n", said)
    saved(small, tmp_path / "point.safetensors")
    point = telepath.load("point.safetensors")
    one = names["play"](PointGym(), point)
    assert 0 < one < 40
    assert one == names["play"](PointGym(), point), "the same seed, the same episode"
    totals = names["play_many"](PointGyms(3), point, steps=45)
    assert totals.shape == (3,)
    assert (totals > 0).all()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, telepath, telepath.config; assert 'torch' not in sys.modules; telepath.load"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="'telepath' has no attribute 'lode'"):
        telepath.lode  # type: ignore[attr-defined] # noqa: B018

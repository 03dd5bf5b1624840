"""The reproduction of PADA runs, keeps its source and its curves, and counts what it says; so does the exact one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import pada, pada_exact
from benchmarks.pada import TASK
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import requested, target_environment
from telepath.envs.suite import Environment
from telepath.runtime.progress import Progress
from telepath.settings import DreamerSettings, GapSettings

MASS = GapSettings(action_repeat=4, mass=1.5)


@pytest.fixture
def quick(params: Params, small: DreamerSettings) -> Params:
    online = {"first_updates": 2, "update_ratio": 0.01, "finalists": 1, "final_episodes": 1}
    source = params.source.model_copy(
        update={"seed_episodes": 1, "training": params.source.training.model_copy(update=online)}
    )
    task = params.tasks[TASK].model_copy(update={"action_repeat": 50, "source_steps": 60})
    cem = params.rivals.pada.cem.model_copy(update={"iterations": 1, "population": 4})
    adapted = {"cem": cem, "hidden": 8, "first_steps": 20, "batch": 8, "update_ratio": 0.2}
    rivals = params.rivals.model_copy(update={"pada": params.rivals.pada.model_copy(update=adapted)})
    return params.model_copy(update={"source": source, "tasks": {TASK: task}, "dreamer": small, "rivals": rivals})


@pytest.mark.parametrize("name", pada.GAPS)
def test_a_gap_is_one_that_the_cheetah_has(name: str) -> None:
    gap = GapSettings(action_repeat=4, **pada.GAPS[name])  # type: ignore[arg-type]
    assert requested(TASK, gap).keys() == {key for key in pada.GAPS[name] if key != "action_noise"}


def test_it_runs_and_does_not_run_again(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pada, "load", lambda path: quick)
    monkeypatch.setattr(pada, "EPISODES", 1)
    arguments = ["--steps", "100", "--out", str(tmp_path / "out"), "--keep", str(tmp_path / "keep"), "--gaps"]
    pada.main([*arguments, "mass 1.5"])
    assert "mass 1.5" in capsys.readouterr().out
    curve = pd.read_csv(tmp_path / "out" / "mass-1.5__0.csv")
    assert curve["steps"].tolist() == [0, 100]
    assert len(list((tmp_path / "keep").iterdir())) == 2, "the agent and its episodes, no scratch"

    def no_more(*_: object, **__: object) -> None:
        raise AssertionError("a second run")

    monkeypatch.setattr(pada, "source_training", no_more)
    pada.main([*arguments, "mass 1.5", "gravity 0.5"])
    monkeypatch.setattr(pada, "measure", no_more)
    pada.main([*arguments, "mass 1.5", "gravity 0.5"])
    with pytest.raises(AssertionError, match="a second run"):
        pada.main([*arguments, "mass 1.5", "--steps", "120"])
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert table["gap"].tolist() == ["mass 1.5", "gravity 0.5"]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_the_summary_counts_in_shares_of_the_source() -> None:
    curve = pd.DataFrame(
        {"steps": [0, 1000, 2000, 3000], "return": [100.0, 390, 400, 350], "source": 500.0, "deviation": np.nan}
    ).assign(code="abc")
    (row,) = pada.summary({("mass 1.5", 0): curve}).to_dict("records")
    assert row == {
        "gap": "mass 1.5",
        "seed": 0,
        "source": 500,
        "unadapted": 0.2,
        "adapted": 0.7,
        "steps": 3000,
        "steps to 0.8": 2000,
        "published": "0.95",
        "code": "abc",
    }
    (row,) = pada.summary({("mass 1.5", 0): curve.iloc[:2]}).to_dict("records")
    assert pd.isna(row["steps to 0.8"])


# -- the exact deviation ---------------------------------------------------------------------------------------


@pytest.fixture
def agent(small: DreamerSettings) -> Agent:
    """An untrained agent of the cheetah."""
    torch.manual_seed(0)
    return Agent(TASK, 17, 6, small)


def started(gap: GapSettings, steps: int) -> Environment:
    """A target in the middle of an episode."""
    environment, rng = target_environment(TASK, gap, 3, rewarded=False), np.random.default_rng(0)
    environment.reset()
    for _ in range(steps):
        environment.step(rng.uniform(-1, 1, environment.action_dim))
    return environment


@pytest.mark.parametrize("steps", [1, 40])
def test_outcomes_are_those_of_the_environment(steps: int) -> None:
    environment = started(MASS, steps)
    simulator = pada_exact.Simulator(environment)
    states = np.repeat(simulator.state(environment)[None], 3, axis=0)
    actions = np.random.default_rng(1).uniform(-1, 1, (3, environment.action_dim)).astype(np.float32)
    found = simulator.outcomes(states, actions)
    other = pada_exact.Simulator(target_environment(TASK, GapSettings(action_repeat=4), 3, rewarded=False))
    state = environment.physics_state()
    environment.reset(state)
    expected = environment.step(actions[1]).observation
    np.testing.assert_allclose(found[1], expected, atol=1e-4)
    assert np.abs(other.outcomes(states, actions)[1] - expected).max() > 1e-2, "the source is another body"


def test_where_there_is_no_gap_the_source_s_action_stays(agent: Agent, params: Params) -> None:
    target = started(GapSettings(action_repeat=4), 5)
    policy = pada_exact.ExactPolicy(
        agent.policy(), [target], target, torch.ones(17), params.rivals.pada.cem, 0, Progress("exact", 1, "steps")
    )
    alone = agent.policy()
    for each in (policy, alone):
        each.reset(1)
    observation = np.zeros((1, 17), np.float32)
    np.testing.assert_array_equal(policy.act(observation), alone.act(observation))
    assert policy.figures[0][:2] == (0.0, 0.0)


def test_the_search_leaves_less_than_the_source_s_action_does(agent: Agent, params: Params) -> None:
    target = started(MASS, 5)
    home = target_environment(TASK, GapSettings(action_repeat=4), 3, rewarded=False)
    policy = pada_exact.ExactPolicy(
        agent.policy(), [target], home, torch.ones(17), params.rivals.pada.cem, 0, Progress("exact", 1, "steps")
    )
    policy.reset(1)
    policy.act(np.zeros((1, 17), np.float32))
    before, after, *_ = policy.figures[0]
    assert 0 < after < 0.8 * before


def test_it_writes_a_row_a_measure(
    quick: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pada_exact, "load", lambda path: quick)
    folders = ["--out", str(tmp_path / "out"), "--keep", str(tmp_path / "keep")]
    pada_exact.main([*folders, "--episodes", "1", "--gaps", "mass 1.5"])
    table = pd.read_csv(tmp_path / "out" / "exact.csv")
    assert table["measure"].tolist() == ["spread", "observation"]
    assert (table["deviation"] < table["deviation of u"]).all()
    assert table["at a bound"].between(0, 1).all()
    assert pada.exact_shares(tmp_path / "out") == {"mass 1.5": table["exact"][0]}
    assert pada.exact_shares(tmp_path) == {}

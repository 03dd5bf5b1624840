import numpy as np
import torch

from telepath.dreamer.agent import Agent
from telepath.envs.rollout import RandomPolicy
from telepath.evaluation.judge import EVALUATION_STREAM, judge, returns_table, rounds_table
from telepath.settings import DreamerSettings
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

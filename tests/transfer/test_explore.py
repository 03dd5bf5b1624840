import numpy as np
import torch

from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.settings import DreamerSettings
from telepath.transfer.explore import Exploration, Noisy, episode_plan
from tests.conftest import Counting, NoScratch, PointEnvironment


def test_the_plan_gives_every_kind_its_share(params: Params) -> None:
    settings = params.explore.model_copy(update={"random": 0.2, "source_policy": 0.4})
    plan = episode_plan(10, settings, with_source=True)
    assert [plan.count(kind) for kind in ("random", "source", "disagreement")] == [2, 4, 4]
    plan = episode_plan(10, settings, with_source=False)
    assert [plan.count(kind) for kind in ("random", "source", "disagreement")] == [2, 0, 8]
    assert episode_plan(1, settings, with_source=True) == ["random"]


def test_exploration_never_touches_the_reward_and_spends_its_budget(params: Params, small: DreamerSettings) -> None:
    torch.manual_seed(0)
    environment = PointEnvironment(rewarded=False)
    agent, source = Agent("point", 2, 1, small), Agent("point", 2, 1, small)
    exploration = Exploration(environment, agent, source, 1.0, 200, 3, params.explore, 0)  # type: ignore[arg-type]
    progress = Counting()
    episodes = exploration.run(progress, NoScratch())  # type: ignore[arg-type]
    assert sum(episode.steps for episode in episodes) == 200
    assert all(episode.reward is None for episode in episodes)
    assert progress.count == exploration.update_budget == round(0.1 * 40) * 5


def test_noise_stays_within_the_action_range() -> None:
    class Still:
        def reset(self, batch: int) -> None: ...

        def act(self, observation: np.ndarray) -> np.ndarray:
            return np.full((len(observation), 1), 0.9, np.float32)

    actions = Noisy(Still(), 0.5, np.random.default_rng(0)).act(np.zeros((1000, 2), np.float32))
    assert actions.max() == 1
    assert actions.std() > 0.2

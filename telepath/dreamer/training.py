"""Learning online: collect an episode, update as often as the ratio says, until the budget of steps is spent."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from telepath.config import DreamerSettings
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead
from telepath.dreamer.learner import BehaviorLearner, ModelLearner
from telepath.dreamer.replay import Batch, Replay
from telepath.dreamer.rssm import Latent
from telepath.envs.rollout import rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch


class Trained(NamedTuple):
    """What online training leaves: the agent, its reward head, every episode in order, and the curve.

    curve: one (steps, updates, return) for each collected episode, return of the exploring policy.
    """

    agent: Agent
    reward: RewardHead
    episodes: list[Episode]
    curve: list[tuple[int, int, float]]


class OnlineTraining:
    """A Dreamer that is paid the true reward: the source agent, and the oracle in the target."""

    def __init__(
        self,
        task: str,
        environment: Environment,
        episodes: list[Episode],
        settings: DreamerSettings,
        *,
        steps: int,
        update_ratio: float,
        seed: int,
        rate_ratio: float = 1.0,
    ):
        torch.manual_seed(seed)
        self.environment, self.settings, self.seed = environment, settings, seed
        self.step_budget, self.update_ratio = steps, update_ratio
        self.agent = Agent(task, environment.observation_dim, environment.action_dim, settings)
        self.reward = RewardHead(self.agent.model.feature_dim, settings)
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.model_learner = ModelLearner(
            self.agent.model, settings, self.generator, head=self.reward, head_loss=self._reward_loss
        )
        self.behavior_learner = BehaviorLearner(
            self.agent.model, self.agent.behavior, self.reward, settings, self.generator, rate_ratio
        )
        self.replay = Replay(episodes)
        self.agent.model.fit_units(self.replay.observations())
        self.seed_episodes = len(episodes)
        self.updates = 0
        self.curve: list[tuple[int, int, float]] = []

    def _reward_loss(self, latent: Latent, batch: Batch) -> torch.Tensor:
        assert batch.reward is not None
        rate = batch.reward / self.environment.action_repeat
        # The first record of an episode has no reward to learn: nothing led to it.
        known = 1 - batch.is_first
        return (known * (self.reward(latent.feature) - rate).square()).mean() * self.settings.reward_scale

    @property
    def update_budget(self) -> int:
        """Updates in the whole run: the configured number a collected step."""
        return round(self.update_ratio * self.step_budget)

    def run(self, progress: Progress, scratch: Scratch) -> Trained:
        """Train until the budget is spent, from the last checkpoint in ``scratch`` if there is one."""
        if state := scratch.load():
            self.restore(state)
        progress.advance(self.updates)
        while self.updates < self.update_budget:
            # Steps lead and updates follow: data for the first update, the configured ratio after that.
            if self.replay.steps < self.step_budget and self.updates >= self.update_ratio * self.replay.steps:
                self.collect()
            figures = self.update()
            progress.advance(1, steps=self.replay.steps, **figures, **self._last_return())
            scratch.save_if_due(self.state)
        return Trained(self.agent, self.reward, self.replay.episodes, self.curve)

    def collect(self) -> None:
        """One episode of the exploring policy into the replay."""
        number = len(self.replay)
        self.environment.reseed(self.seed, number)
        policy = self.agent.policy(explore=True, seed=int(self.rng.integers(2**31)))
        (episode,) = rollout([self.environment], policy)
        self.replay.add(episode)
        self.curve.append((self.replay.steps, self.updates, episode.ret))

    def update(self) -> dict[str, float]:
        """One step of the world model with its reward head, and one of actor and critic."""
        batch = self.replay.sample(self.settings.batch, self.settings.length, self.rng)
        states, figures = self.model_learner.update(batch)
        self.updates += 1
        return figures | self.behavior_learner.update(states)

    def _last_return(self) -> dict[str, float]:
        return {"return": self.curve[-1][2]} if self.curve else {}

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "agent": dict(self.agent.state_dict()),
            "reward": dict(self.reward.state_dict()),
            "model_learner": self.model_learner.state(),
            "behavior_learner": self.behavior_learner.state(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "curve": self.curve,
            "replay": self.replay.state(self.seed_episodes),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.reward.load_state_dict(state["reward"])
        self.model_learner.restore(state["model_learner"])
        self.behavior_learner.restore(state["behavior_learner"])
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.updates = state["updates"]
        self.curve = [tuple(row) for row in state["curve"]]
        self.replay.restore(state["replay"])


def save_curve(path: Path, curve: list[tuple[int, int, float]]) -> None:
    """Write a learning curve as CSV: steps, updates, return of every collected episode."""
    pd.DataFrame(curve, columns=["steps", "updates", "return"]).to_csv(path, index=False)

"""Learning online: collect an episode, update as often as the ratio says, until the budget of steps is spent.

The agent of the last update is not always the best of the run. So the last few are rolled out again, as they would be
judged, and the true return, which this training is paid anyway, decides which is kept.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import Horizon, RewardHead
from telepath.dreamer.learner import BehaviorLearner, Figures, Learner, ModelLearner
from telepath.dreamer.replay import Batch, Lesson, Replay, Selection
from telepath.dreamer.rssm import Latent
from telepath.envs.rollout import Policy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.files import write_atomically
from telepath.runtime.device import continue_from, generator_on, training_device
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import DreamerSettings, OnlineSettings

FINALIST_SPACING = 0.1
"""Share of the updates that lies between two finalists: enough to differ, late enough to be good."""


Curve = list[tuple[int, int, float, int]]
"""(steps, updates, return, divergences) for each collected episode, of the exploring policy, at last of the finalists.
Steps, updates and the simulator's divergences are counted from the beginning.
"""


class Trained(NamedTuple):
    """What online training leaves: the agent, every episode in order, the last ones of the finalists, and the curve."""

    agent: Agent
    episodes: list[Episode]
    curve: Curve


class OnlineTraining:
    """A Dreamer that is paid the true reward: the source agent, and the oracle in the target."""

    def __init__(
        self,
        task: str,
        environment: Environment,
        episodes: list[Episode],
        dreamer: DreamerSettings,
        settings: OnlineSettings,
        *,
        steps: int,
        seed: int,
        horizon: int,
        rate_ratio: float = 1.0,
    ):
        """``episodes``: the seed episodes; ``steps``: the budget, theirs and those of the finalists included.

        ``horizon``: source steps to look ahead; ``rate_ratio``: steps here that last as long as one of them.
        """
        torch.manual_seed(seed)
        self.environment, self.dreamer, self.settings, self.seed = environment, dreamer, settings, seed
        self.collect_budget = steps - settings.finalists * settings.final_episodes * environment.episode_steps
        device = training_device(frames=environment.observation.has_frames)
        self.agent = Agent(task, environment.observation, environment.action_dim, dreamer).to(device)
        self.reward = RewardHead(self.agent.model.feature_dim, dreamer).to(device)
        self.generator = generator_on(device, seed)
        self.rng = np.random.default_rng(seed)
        ahead = Horizon.at(dreamer, horizon, rate_ratio)
        self.learner = Learner(
            ModelLearner(self.agent.model, dreamer, self.generator, head=self.reward, head_loss=self._reward_loss),
            BehaviorLearner(self.agent.model, self.agent.behavior, self.reward, dreamer, seed, ahead),
        )
        self.replay = Replay(episodes, Selection.of(dreamer, rate_ratio), device)
        self.agent.model.fit_units(self.replay.observations())
        self.seed_episodes, self.seed_steps = len(episodes), self.replay.steps
        if self.collect_budget < self.seed_steps:
            raise ValueError(f"{steps} steps do not hold {self.seed_steps} of seed episodes and those of the finalists")
        self.updates = 0
        self.finalists: list[dict[str, torch.Tensor]] = []
        self.curve: Curve = []

    def _reward_loss(self, latent: Latent, lesson: Lesson) -> tuple[torch.Tensor, Figures]:
        error = (lesson.known * (self.reward(latent.feature) - lesson.rate).square()).mean()
        loss = error * self.dreamer.reward_scale
        return loss, {"head": loss.detach()}

    @property
    def update_budget(self) -> int:
        """Updates in the whole run."""
        return self.updates_due(self.collect_budget)

    @property
    def divergences(self) -> int:
        """How often a simulator diverged so far, seed episodes included."""
        return self.replay.divergences

    def updates_due(self, steps: int) -> int:
        """Updates that belong to ``steps`` in the replay: the first ones, then the configured number a step."""
        return self.settings.first_updates + round(self.settings.update_ratio * (steps - self.seed_steps))

    def final_updates(self) -> set[int]:
        """Numbers of the updates after which a finalist is kept."""
        gap = FINALIST_SPACING * self.update_budget
        return {self.update_budget - math.floor(gap * k) for k in range(self.settings.finalists)}

    def run(self, progress: Progress, scratch: Scratch) -> Trained:
        """Train until the budget is spent, from the last checkpoint in ``scratch`` if there is one."""
        if state := scratch.load():
            self.restore(state)
        progress.advance(self.updates)
        final = self.final_updates()
        while self.updates < self.update_budget:
            figures = self.advance()
            if self.updates in final:
                self.finalists.append({name: value.clone() for name, value in self.agent.state_dict().items()})
            progress.advance(1, steps=self.replay.steps, **figures, **self._last_return())
            scratch.save_if_due(self.state)
        self.choose()
        return Trained(self.agent, self.replay.episodes, self.curve)

    def advance(self) -> Figures:
        """One update, after an episode if one is due."""
        if self.replay.steps < self.collect_budget and self.updates >= self.updates_due(self.replay.steps):
            self.collect()
        return self.update()

    def collect(self) -> None:
        """One episode of the exploring policy into the replay; the units follow what has been seen."""
        self.roll_out(self.agent.explorer(seed=int(self.rng.integers(2**31))))
        self.agent.model.fit_units(self.replay.observations())

    def roll_out(self, policy: Policy) -> Episode:
        """One episode of any policy into the replay and onto the curve."""
        self.environment.reseed(self.seed, len(self.replay))
        (episode,) = rollout([self.environment], policy)
        self.replay.add(episode)
        self.curve.append((self.replay.steps, self.updates, episode.ret, self.divergences))
        return episode

    def choose(self) -> None:
        """Leave the agent as it was at the finalist with the highest mean return on fresh episodes."""
        scores = []
        for finalist in self.finalists:
            self.agent.load_state_dict(finalist)
            policies = [self.agent.policy(seed=number) for number in range(self.settings.final_episodes)]
            scores.append(np.mean([self.roll_out(policy).ret for policy in policies]))
        self.agent.load_state_dict(self.finalists[int(np.argmax(scores))])

    def update(self) -> Figures:
        """One step of the world model with its reward head, and one of actor and critic."""
        batch = self.replay.sample(self.dreamer.batch, self.dreamer.length, self.rng)
        self.updates += 1
        return self.learner.update(Lesson(batch, self.rate(batch)))

    def rate(self, batch: Batch) -> torch.Tensor:
        """What the agent is paid: reward a frame, (T, B)."""
        assert batch.reward is not None
        return batch.reward / self.environment.action_repeat

    def _last_return(self) -> dict[str, float]:
        return {"return": self.curve[-1][2]} if self.curve else {}

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "agent": dict(self.agent.state_dict()),
            "reward": dict(self.reward.state_dict()),
            "learner": self.learner.state(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "curve": self.curve,
            "finalists": self.finalists,
            "replay": self.replay.state(self.seed_episodes),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.reward.load_state_dict(state["reward"])
        self.learner.restore(state["learner"])
        continue_from(self.generator, state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.updates = state["updates"]
        self.curve = [tuple(row) for row in state["curve"]]
        self.finalists = state["finalists"]
        self.replay.restore(state["replay"])


def save_curve(path: Path, curve: Curve) -> None:
    """Write a learning curve as CSV: steps, updates, return and divergences."""
    columns = ["steps", "updates", "return", "divergences"]
    write_atomically(path, pd.DataFrame(curve, columns=columns).to_csv(index=False))

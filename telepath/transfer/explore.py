"""Reward-free exploration of the target and the first fit of its world model.

Three kinds of episodes, in this order: random actions; the source policy with noise, held at its own rate (only *with
source agent*); and a policy that seeks what the world model does not know yet (Sekar et al. 2020, "Plan2Explore"). The
environment raises if its reward is touched.
"""

import math
from typing import Any

import numpy as np
import torch

from telepath.dreamer.agent import Agent, AgentPolicy
from telepath.dreamer.behavior import Behavior, Horizon
from telepath.dreamer.learner import BehaviorLearner, Figures, Learner, ModelLearner
from telepath.dreamer.replay import Lesson, Replay
from telepath.envs.rollout import ActionHold, Policy, RandomPolicy, State, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.runtime.device import continue_from, generator_on
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import ExploreSettings
from telepath.transfer.novelty import Disagreement


class Exploration:
    """Explores a target and trains its world model, resumably."""

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        source: Agent | None,
        rate_ratio: float,
        steps: int,
        horizon: int,
        settings: ExploreSettings,
        seed: int,
    ):
        """``agent`` holds the target's world model, and all is trained where it is; ``source``, where it may be used,
        the policy to explore with.

        ``horizon``: source steps to look ahead; ``rate_ratio``: target steps that last as long as one of them.
        """
        torch.manual_seed(seed)
        self.environment, self.agent, self.source = environment, agent, source
        self.rate_ratio, self.settings, self.seed = rate_ratio, settings, seed
        episodes = math.ceil(steps / environment.episode_steps)
        self.plan = episode_plan(episodes, settings, with_source=source is not None)
        self.updates_per_episode = round(settings.update_ratio * environment.episode_steps)
        device = agent.model.device
        self.generator = generator_on(device, seed)
        self.rng = np.random.default_rng(seed)
        dreamer = agent.settings
        self.disagreement = Disagreement(agent.model, dreamer, settings.members).to(device)
        self.explorer = Behavior(agent.model.feature_dim, agent.model.action_dim, dreamer).to(device)
        self.learner = Learner(
            ModelLearner(agent.model, dreamer, self.generator, self.disagreement, self.disagreement.loss),
            BehaviorLearner(
                agent.model,
                self.explorer,
                self.disagreement,
                dreamer,
                seed,
                Horizon.at(dreamer, horizon, rate_ratio),
            ),
        )
        self.replay = Replay(device=device)
        self.updates = 0

    @property
    def update_budget(self) -> int:
        """Updates in the whole exploration."""
        return self.updates_per_episode * len(self.plan)

    def run(self, progress: Progress, scratch: Scratch) -> list[Episode]:
        """Explore, from the last checkpoint in ``scratch`` if there is one; trains the agent's world model."""
        if state := scratch.load():
            self.restore(state)
        progress.advance(self.updates)
        while self.updates < self.update_budget:
            # What needs no model is collected first; after that an episode follows every share of updates.
            while len(self.replay) < self.episodes_due():
                self.collect(self.plan[len(self.replay)])
            figures = self.update()
            progress.advance(1, steps=self.replay.steps, **figures)
            scratch.save_if_due(self.state)
        return self.replay.episodes

    def episodes_due(self) -> int:
        """How many episodes must be there before the next update."""
        given = sum(kind != "disagreement" for kind in self.plan)
        return min(len(self.plan), max(given, 1 + self.updates // self.updates_per_episode))

    def collect(self, kind: str) -> None:
        """One episode of the kind into the replay; the units of a model that began from nothing follow it."""
        self.environment.reseed(self.seed, len(self.replay))
        (episode,) = rollout([self.environment], self.policy(kind))
        self.replay.add(episode)
        if self.source is None:
            self.agent.model.fit_units(self.replay.observations())

    def policy(self, kind: str) -> Policy:
        """The exploring policy of a kind of episode."""
        seed = int(self.rng.integers(2**31))
        if kind == "random":
            return RandomPolicy(self.agent.model.action_dim, np.random.default_rng(seed), 2 ** (len(self.replay) % 3))
        if kind == "source":
            assert self.source is not None
            held = ActionHold(self.source.policy(noise=1.0, seed=seed), self.rate_ratio)
            return Noisy(held, self.settings.source_noise, np.random.default_rng(seed))
        return AgentPolicy(self.agent.model, self.explorer.actor, seed=seed)

    def update(self) -> Figures:
        """One step of the world model with its ensemble, and one of the exploring behavior."""
        dreamer = self.agent.settings
        self.updates += 1
        return self.learner.update(Lesson(self.replay.sample(dreamer.batch, dreamer.length, self.rng)))

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "agent": dict(self.agent.state_dict()),
            "disagreement": dict(self.disagreement.state_dict()),
            "explorer": dict(self.explorer.state_dict()),
            "learner": self.learner.state(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "replay": self.replay.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.disagreement.load_state_dict(state["disagreement"])
        self.explorer.load_state_dict(state["explorer"])
        self.learner.restore(state["learner"])
        continue_from(self.generator, state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.updates = state["updates"]
        self.replay.restore(state["replay"])


def episode_plan(episodes: int, settings: ExploreSettings, *, with_source: bool) -> list[str]:
    """The kind of each episode, in order: random ones, at least one, the source's share, and disagreement's the rest.

    Of few episodes there may be none left: of the walker's five from 3 -> 1 four are the source's.
    """
    random = max(1, round(settings.random * episodes))
    source = round(settings.source_policy * episodes) if with_source else 0
    return (["random"] * random + ["source"] * source + ["disagreement"] * episodes)[:episodes]


class Noisy:
    """A policy with Gaussian noise on its actions."""

    def __init__(self, policy: Policy, std: float, rng: np.random.Generator):
        self.policy, self.std, self.rng = policy, std, rng

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        self.policy.reset(batch)

    def act(self, observation: Array) -> Array:
        """Observations (B, D) -> actions (B, A) in [-1, 1]."""
        action = self.policy.act(observation)
        noise = self.std * self.rng.standard_normal(action.shape)
        return np.clip(action + noise, -1, 1).astype(np.float32)

    def state(self) -> State:
        """The policy's, and where the noise is."""
        return {"policy": self.policy.state(), "rng": self.rng.bit_generator.state}

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        self.policy.restore(state["policy"])
        self.rng.bit_generator.state = state["rng"]

"""A point on a line that can be reset to a state and whose motor may be weaker, and a source agent that moves it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from telepath.alignment.rates import Rates
from telepath.baselines.rival import Allowed
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import Policy, RandomPolicy, rollout
from telepath.envs.suite import Step
from telepath.episodes import Array, Episode
from telepath.rival_settings import AimeSettings, BcoSettings, PadaSettings, PlainPadaSettings
from telepath.settings import DreamerSettings
from tests.conftest import PointEnvironment


class Unpaid:
    """A step whose reward must not be looked at."""

    def __init__(self, step: Step):
        self.observation, self.terminal, self.last = step.observation, step.terminal, step.last

    @property
    def paid(self) -> float:
        raise AssertionError("the reward was touched")

    reward = paid


class Point(PointEnvironment):
    """The point, its motor ``gain`` times as strong."""

    def __init__(self, gain: float = 1.0, action_repeat: int = 1, *, rewarded: bool = False):
        super().__init__(action_repeat, rewarded=rewarded)
        self.gain = gain

    def reset(self, state: Array | None = None) -> Array:
        first = super().reset()
        if state is None:
            return first
        self.state = state.copy()
        return self.state.copy()

    def physics_state(self) -> Array:
        return self.state.copy()

    def step(self, action: Array) -> Step:
        step = super().step(self.gain * np.asarray(action))
        return step if self.rewarded else Unpaid(step)  # type: ignore[return-value]


class Gentle(RandomPolicy):
    """Actions of at most 0.45: twice as much is possible."""

    def act(self, observation: Array) -> Array:
        return 0.45 * super().act(observation)


@pytest.fixture
def pada(params: Params) -> PadaSettings:
    cem = params.rivals.pada.cem.model_copy(update={"population": 60})
    return params.rivals.pada.model_copy(
        update={"hidden": 32, "first_steps": 160, "batch": 64, "lr": 3e-3, "source_updates": 400, "cem": cem}
    )


def plain(pada: PadaSettings) -> PlainPadaSettings:
    """The same without the deviation model."""
    return PlainPadaSettings(**pada.model_dump(exclude={"source"}))


@pytest.fixture
def bco(params: Params) -> BcoSettings:
    return params.rivals.bco.model_copy(
        update={"hidden": 32, "batch": 64, "lr": 3e-3, "demonstrations": 4, "history": 1, "random": 0.5}
    )


@pytest.fixture
def aime(params: Params) -> AimeSettings:
    return params.rivals.aime.model_copy(update={"demonstrations": 4, "random": 0.5})


@pytest.fixture
def agent(small: DreamerSettings, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An agent of the point whose policy is gentle."""
    torch.manual_seed(0)
    agent = Agent("point", 2, 1, small)
    monkeypatch.setattr(agent, "policy", lambda seed=0: Gentle(1, np.random.default_rng(seed)))
    return agent


@pytest.fixture
def source_episodes() -> list[Episode]:
    return demonstrations(Gentle(1, np.random.default_rng(1)))


@pytest.fixture
def allow(agent: Agent, source_episodes: list[Episode]) -> Callable[..., Allowed]:
    def make(gain: float = 1.0, steps: int = 400, episodes: list[Episode] | None = None) -> Allowed:
        target = Point(gain)
        return Allowed(
            agent,
            Point(),  # type: ignore[arg-type]
            source_episodes if episodes is None else episodes,
            target,  # type: ignore[arg-type]
            Rates(1, 1, target.frame_seconds),
            steps,
            3,
        )

    return make


def demonstrations(policy: Policy, count: int = 6) -> list[Episode]:
    """Source episodes, rewarded."""
    environment, episodes = Point(rewarded=True), []
    for number in range(count):
        environment.reseed(7, number)
        episodes += rollout([environment], policy)  # type: ignore[list-item]
    return episodes

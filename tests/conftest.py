"""Small settings and toy data that the tests share."""

import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from telepath.config import Params, load
from telepath.envs.gl import NoGraphics, find_backend
from telepath.envs.suite import Step
from telepath.episodes import Episode
from telepath.observations import Observation
from telepath.runtime import device
from telepath.settings import DreamerSettings
from tests.tape import on_a_gpu

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first: of one that is begun last every other worker would wait for the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def params() -> Params:
    return load()


@pytest.fixture
def small(params: Params) -> DreamerSettings:
    """The default Dreamer, shrunk."""
    return params.dreamer.model_copy(
        update={"deter": 12, "stoch": 4, "hidden": 16, "batch": 4, "length": 8, "imagined": 24}
    )


@pytest.fixture
def brief_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frame is worth is fitted in a moment: for a test to which it matters that it is done, not how well."""
    monkeypatch.setattr("telepath.alignment.worth.UPDATES", 40)


def counting_episode(number: int, records: int, *, rewarded: bool = True, terminal: bool = False) -> Episode:
    """An episode in which every value says where it belongs: observation = [episode, t], action = reward = t."""
    t = np.arange(records, dtype=np.float32)
    observation = np.stack([np.full_like(t, number), t], 1)
    return Episode(observation, t[:, None].copy(), t.copy() if rewarded else None, terminal)


NEED_GRAPHICS = "TELEPATH_TESTS_NEED_GRAPHICS"
"""Set where OpenGL and Chromium should be there: what lacks them then fails, so that it cannot vanish unseen."""


def lacking(reason: str) -> NoReturn:
    """Skip the test, or let it fail where nothing may be lacking."""
    if os.environ.get(NEED_GRAPHICS):
        pytest.fail(f"{NEED_GRAPHICS} is set: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def graphics() -> None:
    """For a test that renders: skipped where nothing can be, if that may be."""
    try:
        find_backend()
    except NoGraphics as reason:
        lacking(str(reason))


class NoScratch:
    """A scratch that keeps nothing."""

    def load(self) -> None:
        return None

    def load_parts(self) -> dict[int, dict[str, Any]]:
        return {}

    def save_part(self, number: int, part: dict[str, Any]) -> None:
        pass

    def save_if_due(self, make_state: object) -> bool:
        return False


class Stopped(Exception):
    """What ``StopAt`` ends a run with."""


class StopAt(NoScratch):
    """A scratch that stops the run at its nth chance to save, and keeps the state of that moment."""

    def __init__(self, chance: int):
        self.left = chance

    def save_if_due(self, make_state: Callable[[], dict[str, Any]]) -> bool:  # type: ignore[override]
        self.left -= 1
        if self.left == 0:
            self.kept = make_state()
            raise Stopped
        return False


class Kept(NoScratch):
    """A scratch that holds what a stopped one kept."""

    def __init__(self, stopped: StopAt):
        self.stopped = stopped

    def load(self) -> dict[str, Any]:  # type: ignore[override]
        return self.stopped.kept


class Counting:
    """A progress that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, n: int = 1, /, **figures: float) -> None:
        self.count += n
        assert all(math.isfinite(value) for value in figures.values()), figures


class PointEnvironment:
    """A point on a line with a clock: observation [position, velocity], one action that pushes; paid near +1.

    Quick, deterministic but for its start, and with the attributes of ``Environment``.
    """

    observation, observation_dim, action_dim = Observation("state", 2), 2, 1
    frame_seconds, divergences = 0.1, 0

    def __init__(self, action_repeat: int = 1, frames: int = 40, *, rewarded: bool = True):
        self.action_repeat, self.frames, self.rewarded = action_repeat, frames, rewarded
        self.episode_steps = -(-frames // action_repeat)
        self.step_seconds = action_repeat * self.frame_seconds
        self.reseed(0, 0)

    def reseed(self, seed: int, episode: int) -> None:
        self.random = np.random.default_rng([seed, episode])

    def remember(self, seen: np.ndarray) -> None:
        """There is no camera to be spared."""

    def reset(self) -> np.ndarray:
        self.state = np.array([self.random.uniform(-1, 0), 0.0], np.float32)
        self.frame = 0
        return self.state.copy()

    def step(self, action: np.ndarray) -> Step:
        reward = 0.0
        for _ in range(min(self.action_repeat, self.frames - self.frame)):
            push = 0.3 * float(action[0])
            self.state = (self.state + np.array([0.2 * self.state[1], push - 0.1 * self.state[1]])).astype(np.float32)
            self.frame += 1
            reward += float(np.exp(-((self.state[0] - 1) ** 2)))
        return Step(
            observation=self.state.copy(),
            terminal=False,
            last=self.frame >= self.frames,
            paid=reward if self.rewarded else None,
        )


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape sees what its own thread does."""
    monkeypatch.setattr(device, "_second", None)
    monkeypatch.setattr("telepath.dreamer.learner.subset", on_a_gpu)

"""Policies in environments: lockstep rollouts, random actions, and actions held for a faster target."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode

State = dict[str, Any]
"""What ``runtime.store`` can hold."""

Keep = Callable[[Callable[[], State]], object]
"""Whoever is called when a checkpoint would be possible, with what makes one."""


class Policy(Protocol):
    """Acts in a batch of B environments that begin together; may keep a state of each."""

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        ...

    def act(self, observation: Array) -> Array:
        """Actions (B, A) float32 in [-1, 1] for the observations (B, *shape) of the present step."""
        ...

    def state(self) -> State:
        """All that its further actions depend on besides its weights."""
        ...

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        ...


class Counter(Protocol):
    """Whoever is told how far the work is."""

    def advance(self, amount: int, /) -> None:
        """``amount`` more is done."""
        ...


class RandomPolicy:
    """Uniform in [-1, 1], each action held for ``hold`` steps."""

    def __init__(self, action_dim: int, rng: np.random.Generator, hold: int = 1):
        if hold < 1:
            raise ValueError(f"hold must be at least 1 step, got {hold}")
        self.action_dim, self.rng, self.hold = action_dim, rng, hold
        self.reset(0)

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes, with a fresh action."""
        self._age = 0
        self._action = np.zeros((batch, self.action_dim), np.float32)

    def act(self, observation: Array) -> Array:
        """(B, A); the observations do not matter."""
        if self._age % self.hold == 0:
            self._action = self.rng.uniform(-1, 1, self._action.shape).astype(np.float32)
        self._age += 1
        return self._action

    def state(self) -> State:
        """Age and action, and where the random stream is."""
        return {"age": self._age, "action": self._action, "rng": self.rng.bit_generator.state}

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        self._age, self._action, self.rng.bit_generator.state = state["age"], state["action"], state["rng"]


class ActionHold:
    """A policy of a slower source in a faster target: asked every ``ratio`` steps, held in between.

    The inner policy sees only the observations at its own rate, so a recurrent one finds the time steps it
    knows. ``ratio`` is ``gaps.rate_ratio``: target steps per source step. At a ratio of 1 or less (a slower
    target) the policy is asked at every step.
    """

    def __init__(self, policy: Policy, ratio: float):
        if ratio <= 0 or (ratio > 1 and ratio != round(ratio)):
            raise ValueError(f"ratio must be a whole number of steps, or at most 1, got {ratio}")
        self.policy, self.every = policy, max(1, round(ratio))
        self.reset(0)

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        self.policy.reset(batch)
        self._age = 0
        self._action = np.zeros((batch, 0), np.float32)

    def act(self, observation: Array) -> Array:
        """(B, A) for observations (B, D)."""
        if self._age % self.every == 0:
            self._action = self.policy.act(observation)
        self._age += 1
        return self._action

    def state(self) -> State:
        """Age and action, and the inner policy's."""
        return {"age": self._age, "action": self._action, "policy": self.policy.state()}

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        self._age, self._action = state["age"], state["action"]
        self.policy.restore(state["policy"])


Record = tuple[Array, Array]
"""Observations (T, D) and actions (T, A) of an episode that is not yet over."""


class Recorder:
    """Collects the records of one episode of one environment."""

    def __init__(self, environment: Environment, record: Record | None = None):
        """With ``record`` the episode is gone through again so far, which asks neither policy nor camera."""
        self.environment, self._diverged_before = environment, environment.divergences
        if record is not None:
            environment.remember(record[0])
        self.observation = [environment.reset()]
        self.action = [np.zeros(environment.action_dim, np.float32)]
        self.reward = [0.0]
        self.terminal = self.over = False
        if record is not None:
            for action in record[1][1:]:
                self.step(action)
            environment.remember(record[0][:0])

    def step(self, action: Array) -> None:
        """Take a step, unless the episode is over."""
        if self.over:
            return
        step = self.environment.step(action)
        self.observation.append(step.observation)
        self.action.append(action)
        if self.environment.rewarded:
            self.reward.append(step.reward)
        self.terminal, self.over = step.terminal, step.last

    @property
    def steps(self) -> int:
        """How many were taken."""
        return len(self.action) - 1

    def episode(self) -> Episode:
        """What was collected."""
        reward = np.array(self.reward, np.float32) if self.environment.rewarded else None
        divergences = self.environment.divergences - self._diverged_before
        return Episode(*self.record(), reward, self.terminal, divergences)

    def record(self) -> Record:
        """What can be gone through again."""
        return np.stack(self.observation), np.stack(self.action)


def rollout(
    environments: Sequence[Environment],
    policy: Policy,
    steps: int | None = None,
    kept: State | None = None,
    keep: Keep | None = None,
) -> list[Episode]:
    """One episode in each environment, of at most ``steps`` steps, in lockstep with one policy call a step.

    An environment whose episode ends early waits for the others, its last observation still in the batch.
    Rewards are recorded where the environment gives them. Actions are recorded as taken, that is, clipped.
    ``keep`` is called after every step with what makes a checkpoint, and ``kept`` is one, to go on from there: the
    simulators do all again, policy and camera do not.
    """
    begun = [None] * len(environments) if kept is None else kept["records"]
    recorders = [Recorder(environment, record) for environment, record in zip(environments, begun, strict=True)]
    policy.reset(len(recorders))
    if kept is not None:
        policy.restore(kept["policy"])
    taken = max(recorder.steps for recorder in recorders)

    def state() -> State:
        return {"records": [recorder.record() for recorder in recorders], "policy": policy.state()}

    while not all(recorder.over for recorder in recorders) and (steps is None or taken < steps):
        actions = policy.act(np.stack([recorder.observation[-1] for recorder in recorders]))
        actions = np.clip(actions, -1, 1, dtype=np.float32)
        for recorder, action in zip(recorders, actions, strict=True):
            recorder.step(action)
        taken += 1
        if keep is not None:
            keep(state)
    return [recorder.episode() for recorder in recorders]


def seed_episodes(environment: Environment, count: int, seed: int, progress: Counter | None = None) -> list[Episode]:
    """Episodes 0 to ``count`` - 1 of ``seed``, with random actions; ``progress`` is advanced by each.

    The actions of successive episodes are held for 1, 2 and 4 steps in turn: what white noise shakes to no
    effect, slower actions may swing, and the other way round.
    """
    episodes = []
    for number in range(count):
        episodes.append(seed_episode(environment, seed, number))
        if progress is not None:
            progress.advance(1)
    return episodes


def seed_episode(environment: Environment, seed: int, number: int) -> Episode:
    """One of ``seed_episodes``."""
    environment.reseed(seed, number)
    policy = RandomPolicy(environment.action_dim, np.random.default_rng([seed, number]), 2 ** (number % 3))
    (episode,) = rollout([environment], policy)
    return episode

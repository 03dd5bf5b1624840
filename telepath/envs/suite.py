"""dm_control suite tasks as flat vectors: actions in [-1, 1], an action repeat, rewards that can be withheld.

A *frame* is one control step of the suite; a *step* is one agent decision, which lasts ``action_repeat``
frames. Shape letters are those of ``telepath.episodes``.
"""

import difflib
import functools
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from telepath.envs.backend import PhysicsError, suite
from telepath.envs.sight import Sight
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.observations import Observation
from telepath.settings import ObservationKind

UNFIT = {
    "lqr": "its controls are unbounded and no clock ends its episodes",
    "quadruped-escape": "it cannot be reset without an OpenGL context",
}
"""Domains and tasks of the suite that are left out, and why."""

TASKS: tuple[str, ...] = tuple(
    f"{domain}-{name}" for domain, name in suite.ALL_TASKS if domain not in UNFIT and f"{domain}-{name}" not in UNFIT
)
"""All supported tasks as 'domain-task'."""

RESET_ATTEMPTS = 10
"""Initial states that are drawn before a simulator which diverges in every one is given up."""

Simulator = Any
"""A dm_control ``rl.control.Environment`` (dm_control has no types)."""


def known_task(task: str) -> str:
    """``task`` itself, or a ``UserError`` that names the nearest supported tasks."""
    if task in TASKS:
        return task
    if unfit := UNFIT.get(task) or UNFIT.get(task.rpartition("-")[0]):
        raise UserError(f"task: {task!r} is not supported: {unfit}")
    nearest = difflib.get_close_matches(task, TASKS, 3)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "see telepath.envs.suite.TASKS"
    raise UserError(f"task: no task {task!r} in the dm_control suite; {hint}")


def load(task: str) -> Simulator:
    """The suite's own environment of a task. Its random stream is set by ``Environment.reseed``."""
    domain, _, name = known_task(task).rpartition("-")
    return suite.load(domain, name, task_kwargs={"random": 0})


@functools.cache
def frame_seconds(task: str) -> float:
    """Duration of a frame: the control time step of the suite's environment."""
    return float(load(task).control_timestep())


@dataclass(frozen=True, slots=True)
class Step:
    """What a step gave.

    observation: (D,) float32, or as ``telepath.observations`` has it; paid: the reward, None where it is withheld;
    terminal: the task ended, there is no future to bootstrap from; last: the episode is over, by the task, by the clock
    or because the simulator diverged.
    """

    observation: Array
    paid: float | None
    terminal: bool
    last: bool

    @property
    def reward(self) -> float:
        """Reward summed over the frames of the step; RuntimeError where the environment withholds it."""
        if self.paid is None:
            raise RuntimeError("this environment withholds its reward: only the evaluation may read it")
        return self.paid


class Environment:
    """A task of the suite.

    observation: what is observed; observation_dim, action_dim: D, of the state whether it is observed or not, and A;
    action_repeat: frames a step; frame_seconds, step_seconds:
    durations; episode_steps: steps of an episode that the clock ends, of which the last one may have fewer
    frames; observation_names: D names such as 'position[0]'; rewarded: whether rewards are given (if not,
    the task's reward function is never even called); divergences: how many episodes a diverging simulator
    has cut short, and how many initial states it has spoilt.

    Episodes are a function of task, action repeat, ``reseed`` and the actions, bit for bit.
    """

    def __init__(
        self,
        task: str,
        action_repeat: int,
        seed: int,
        *,
        rewarded: bool = True,
        observation: ObservationKind = "state",
        simulator: Simulator | None = None,
    ):
        """``simulator`` stands in for the suite's own, for subclasses that alter the physics.

        The first frame, where frames are observed, raises ``NoGraphics`` if nothing can be rendered here.
        """
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be at least 1, got {action_repeat}")
        self.task, self.action_repeat, self.rewarded = known_task(task), action_repeat, rewarded
        self.simulator = load(task) if simulator is None else simulator
        self.physics = self.simulator.physics
        self.divergences = 0
        self._measure_clock()
        self._measure_spaces()
        self.observation = Observation(observation, 0 if observation == "pixels" else self.observation_dim)
        self._sight = Sight(task, self.physics, observation)
        self._last = np.zeros(self.observation.shape, self.observation.dtype)
        self._frame, self._over = 0, True
        self.reseed(seed, 0)

    def _measure_clock(self) -> None:
        self.frame_seconds = float(self.simulator.control_timestep())
        self.step_seconds = self.action_repeat * self.frame_seconds
        self._substeps = round(self.frame_seconds / self.physics.timestep())
        # dm_control has no public name for its clock: the first frame at or past this limit is the last.
        self._episode_frames = math.ceil(self.simulator._step_limit)
        self.episode_steps = math.ceil(self._episode_frames / self.action_repeat)

    def _measure_spaces(self) -> None:
        bounds = self.simulator.action_spec()
        low, high = np.asarray(bounds.minimum, np.float64), np.asarray(bounds.maximum, np.float64)
        self._action_center, self._action_reach = (low + high) / 2, (high - low) / 2
        self.action_dim = bounds.shape[0]
        entries = self.simulator.observation_spec().items()
        self.observation_names = tuple(name for key, entry in entries for name in entry_names(key, entry.shape))
        self.observation_dim = len(self.observation_names)

    def reseed(self, seed: int, episode: int) -> None:
        """Make the next ``reset`` begin episode number ``episode`` of ``seed``, whatever happened before."""
        self.simulator.task.random.seed([seed, episode])

    def reset(self, state: Array | None = None) -> Array:
        """Begin an episode and return its first observation, (D,) float32 or a frame (64, 64, 3) uint8.

        With ``state`` (as ``physics_state`` gives it) the bodies begin there instead of in a random state. Raises
        ``UserError`` where the simulator diverges in every initial state.
        """
        self._start()
        if state is not None:
            with self.physics.reset_context():
                self.physics.set_state(state)
        self._frame, self._over = 0, False
        self._last = self._sight(self._observe())
        return self._last

    def _start(self) -> None:
        for _ in range(RESET_ATTEMPTS):
            try:
                self.simulator.reset()
                return
            except PhysicsError:
                self.divergences += 1
        raise UserError(f"gap: {self.task} diverges in every initial state; choose multipliers nearer to 1")

    def remember(self, seen: Array) -> None:
        """Spare the rendering of the next episode's first frames: they are ``seen`` (T, *shape). With T = 0, no more.

        Of states, which cost nothing to see, nothing is remembered.
        """
        self._sight.known = deque(seen if self.observation.has_frames else ())

    def physics_state(self) -> Array:
        """Positions, velocities and activations, (P,) float64 in the simulator's units: what ``reset`` starts from."""
        return self.physics.get_state()

    def step(self, action: Array) -> Step:
        """Hold ``action`` (A,), clipped to [-1, 1], for the frames of a step.

        RuntimeError if the episode is over, ValueError if the action has another shape or is not finite.
        """
        if self._over:
            raise RuntimeError("the episode is over: call reset()")
        control = self._control(action)
        paid, discount, diverged = 0.0, None, False
        for _ in range(min(self.action_repeat, self._episode_frames - self._frame)):
            try:
                reward, discount = self._advance(control)
            except PhysicsError:
                diverged = True
                break
            paid += reward
            if discount is not None:
                break
        if not diverged:
            state = self._observe()
            # The sum turns infinite or NaN with any entry, and costs less than a look at each.
            diverged = not math.isfinite(state.sum(dtype=np.float64))
        if not diverged:
            self._last = self._sight(state)
        self.divergences += diverged
        self._over = diverged or discount is not None
        return Step(
            self._last,
            (paid if math.isfinite(paid) else 0.0) if self.rewarded else None,
            terminal=discount == 0 and not diverged,
            last=self._over,
        )

    def _control(self, action: Array) -> Array:
        action = np.asarray(action, np.float64)
        if action.shape != (self.action_dim,):
            raise ValueError(f"expected an action of shape ({self.action_dim},), got {action.shape}")
        if not math.isfinite(action.sum()):
            raise ValueError(f"the action is not finite: {action}")
        return self._action_center + self._action_reach * action.clip(-1, 1)

    def _advance(self, control: Array) -> tuple[float, float | None]:
        """One frame: its reward (0 if withheld), and the discount if it ends the episode.

        The same calls in the same order as in dm_control's own step, without the observation, at which nobody
        would look in the middle of a step.
        """
        task, physics = self.simulator.task, self.physics
        task.before_step(control, physics)
        physics.step(self._substeps)
        task.after_step(physics)
        reward = float(task.get_reward(physics)) if self.rewarded else 0.0
        self._frame += 1
        if self._frame >= self._episode_frames:
            return reward, 1.0
        return reward, task.get_termination(physics)

    def _observe(self) -> Array:
        entries = self.simulator.task.get_observation(self.physics).values()
        return np.concatenate([np.ravel(entry) for entry in entries], dtype=np.float32, casting="same_kind")


def entry_names(key: str, shape: tuple[int, ...]) -> list[str]:
    """One name per dimension of an observation entry: 'height', or 'position[0]', or 'box_pos[1,0]'."""
    return [key + (f"[{','.join(map(str, index))}]" if shape else "") for index in np.ndindex(shape)]

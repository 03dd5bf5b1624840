"""Targets: suite tasks with a declared gap to the source, built by editing the model, and verified.

The multipliers are in ``physics`` (mass, gravity, ...) and ``limbs`` (lengths). Source code never imports
this module: a change here must not make a trained source stale.
"""

import contextlib
import copy
import functools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from telepath.envs.backend import MjModel, Physics, PhysicsError, mujoco
from telepath.envs.limbs import PARTS, expected_sizes, part_geoms, resize, resized_bodies
from telepath.envs.physics import QUANTITIES, Model, Spec, actuator_constants, bake_springs, bake_total_mass
from telepath.envs.suite import Environment, Simulator, Step, known_task, load
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.settings import GapSettings, ObservationKind

MULTIPLIERS: tuple[str, ...] = (*QUANTITIES, *PARTS)
"""The gap's multipliers of physical quantities."""

TOLERANCE = 1e-6
"""Relative error that is allowed between what a gap asks for and what the compiled model has."""

NOISE_STREAM = 1
"""Sets the noise apart from other random streams of the same seed and episode."""


def rate_ratio(source_repeat: int, target_repeat: int) -> float:
    """Target steps per source step: above 1 the target is the faster one.

    A ``UserError`` unless one of the two action repeats is a multiple of the other.
    """
    if max(source_repeat, target_repeat) % min(source_repeat, target_repeat) == 0:
        return source_repeat / target_repeat
    divisors = ", ".join(str(n) for n in range(1, source_repeat + 1) if source_repeat % n == 0)
    raise UserError(
        f"gap.action_repeat: {target_repeat} does not fit the source's {source_repeat}, neither is a "
        f"multiple of the other; valid are {divisors} and multiples of {source_repeat}"
    )


@functools.cache
def obstacles(task: str) -> dict[str, str]:
    """Multiplier -> why it would change nothing in this task (empty where it applies)."""
    (_, model), domain = reference_models(task), domain_of(task)
    reasons = {name: quantity.why_not(model) for name, quantity in QUANTITIES.items()}
    for name in PARTS:
        part = name.rpartition("_")[0]
        reasons[name] = "" if part_geoms(model, domain, name) else f"it has no {part} that can be resized"
    return reasons


def applicable(task: str) -> tuple[str, ...]:
    """Names of the multipliers that make a difference in this task."""
    return tuple(name for name, reason in obstacles(known_task(task)).items() if not reason)


def requested(task: str, gap: GapSettings) -> dict[str, float]:
    """The multipliers other than 1; a ``UserError`` that names the first that does not apply to the task."""
    values = {name: getattr(gap, name) for name in MULTIPLIERS}
    factors = {name: float(value) for name, value in values.items() if value != 1}
    for name in factors:
        if reason := obstacles(known_task(task))[name]:
            raise UserError(
                f"gap.{name}: does not apply to {task}: {reason}; set it to 1 (gaps that apply: "
                f"{', '.join(applicable(task))})"
            )
    return factors


def domain_of(task: str) -> str:
    """'walker' of 'walker-walk'."""
    return task.rpartition("-")[0]


def target_simulator(task: str, gap: GapSettings) -> Simulator:
    """The suite's environment with the gap's multipliers applied and verified; untouched if all are 1."""
    factors = requested(task, gap)
    if not factors:
        return load(task)
    domain = domain_of(task)

    def edit(spec: Spec) -> None:
        bake_total_mass(spec)
        bake_springs(spec)
        for name, factor in factors.items():
            if name in QUANTITIES:
                QUANTITIES[name].scale(spec, factor)
            else:
                resize(spec, domain, name, factor)

    with built_from(edit):
        target = load(task)
    compiled, source = reference_models(task)
    if not np.array_equal(compiled.dof_damping, source.dof_damping):
        keep_damping(target, factors.get("damping", 1.0) * source.dof_damping)
    # Verified after a reset, because tasks write to the model when an episode begins.
    with contextlib.suppress(PhysicsError):
        target.reset()
    verify(source, target.physics.model.ptr, domain, factors)
    return target


@functools.cache
def reference_models(task: str) -> tuple[Model, Model]:
    """The task's unaltered model, as it was compiled and as the task leaves it when an episode begins."""
    simulator = load(task)
    compiled = copy.copy(simulator.physics.model.ptr)
    simulator.reset()
    return compiled, simulator.physics.model.ptr


@contextlib.contextmanager
def built_from(edit: Callable[[Spec], None]) -> Iterator[None]:
    """Whatever physics is built in this context is built from an edited model.

    This is the one place at which every task of the suite passes its final XML, those that generate it
    included. The task and the environment are then made around the edited physics, as they would be around
    their own.
    """
    original = Physics.__dict__["from_xml_string"]

    def from_edited(cls: Any, xml_string: str | bytes, assets: dict[str, Any] | None = None) -> Any:
        files = {name: text if isinstance(text, bytes) else text.encode() for name, text in (assets or {}).items()}
        spec = mujoco.MjSpec.from_string(
            xml_string.decode() if isinstance(xml_string, bytes) else xml_string,
            include={name: text for name, text in files.items() if name.endswith(".xml")},
            assets={name: text for name, text in files.items() if not name.endswith(".xml")},
        )
        edit(spec)
        return cls.from_model(MjModel(spec.compile()))

    Physics.from_xml_string = classmethod(from_edited)
    try:
        yield
    finally:
        Physics.from_xml_string = original


def keep_damping(simulator: Simulator, values: Array) -> None:
    """Restore the damping (degrees of freedom,) whenever the task has written its own (finger-spin does)."""
    initialize = simulator.task.initialize_episode

    def initialize_episode(physics: Any) -> None:
        initialize(physics)
        physics.model.dof_damping[:] = values

    simulator.task.initialize_episode = initialize_episode


def verify(source: Model, target: Model, domain: str, factors: dict[str, float]) -> None:
    """RuntimeError unless all that was asked for has changed by its factor, and nothing else has."""
    resized = resized_bodies(source, domain, factors)
    for name, quantity in QUANTITIES.items():
        before, after = quantity.measure(source), quantity.measure(target)
        if name == "mass":
            before, after = before[~resized], after[~resized]
        expect(name, factors.get(name, 1.0) * before, after)
    expect("lengths", expected_sizes(source, domain, factors), target.geom_size)
    expect("actuator constants", actuator_constants(source), actuator_constants(target))


def expect(name: str, wanted: Array, found: Array) -> None:
    """RuntimeError unless the two agree."""
    if wanted.shape != found.shape or not np.allclose(found, wanted, rtol=TOLERANCE, atol=0):
        raise RuntimeError(f"gap: {name} came out of the compiler as {found}, wanted {wanted}; this is a bug")


class TargetEnvironment(Environment):
    """A suite task across a gap: altered physics, its own action repeat, noise and delay.

    Noise is Gaussian and has its own random stream, set by ``reseed``. Until a delay has passed, the
    simulator gets the zero action and the agent sees the first observation.
    """

    def __init__(
        self,
        task: str,
        gap: GapSettings,
        seed: int,
        *,
        rewarded: bool = True,
        observation: ObservationKind = "state",
    ):
        if gap.observation_noise and observation != "state":
            raise UserError(
                f"gap.observation_noise: {gap.observation_noise:g} means nothing for frames, which have no units of "
                "their own; set it to 0, or `observation` to state"
            )
        self.gap = gap
        simulator = target_simulator(task, gap)
        super().__init__(task, gap.action_repeat, seed, rewarded=rewarded, observation=observation, simulator=simulator)

    def reseed(self, seed: int, episode: int) -> None:
        """Make the next ``reset`` begin episode number ``episode`` of ``seed``, and its noise as well."""
        super().reseed(seed, episode)
        self._noise = np.random.default_rng([seed, episode, NOISE_STREAM])

    def reset(self, state: Array | None = None) -> Array:
        """Begin an episode, optionally in a given physics state; the first observation."""
        first = self._noisy(super().reset(state), self.gap.observation_noise)
        self._actions = deque([np.zeros(self.action_dim)] * self.gap.action_delay)
        self._observations = deque([first] * self.gap.observation_delay)
        return first

    def remember(self, seen: Array) -> None:
        """As of any environment; ``seen`` as it was given out, so with the delay: the first one came several times."""
        super().remember(np.delete(seen, slice(1, 1 + self.gap.observation_delay), axis=0))

    def step(self, action: Array) -> Step:
        """Send ``action`` (A,), clipped to [-1, 1], on its way to the simulator, and take a step."""
        self._actions.append(np.clip(action, -1, 1))
        step = super().step(self._noisy(self._actions.popleft(), self.gap.action_noise))
        self._observations.append(self._noisy(step.observation, self.gap.observation_noise))
        return replace(step, observation=self._observations.popleft())

    def _noisy(self, values: Array, std: float) -> Array:
        if std == 0:
            return values
        return values + np.float32(std) * self._noise.standard_normal(values.shape, np.float32)


def target_environment(
    task: str, gap: GapSettings, seed: int, *, rewarded: bool, observation: ObservationKind = "state"
) -> TargetEnvironment:
    """The target of a task. Without ``rewarded``, touching the reward of a step is an error.

    Raises ``UserError`` if a multiplier does not apply to the task.
    """
    return TargetEnvironment(task, gap, seed, rewarded=rewarded, observation=observation)


@dataclass(frozen=True)
class InducedGap:
    """How far source and target drift apart under the same actions.

    seconds (K,): since the common initial state; divergence (K,): root mean square over the dimensions, each
    in units of the source's spread (standard deviation), mean over the episodes; mean: of divergence, the
    start left out.
    """

    seconds: Array
    divergence: Array
    mean: float


def induced_gap(
    task: str, source_repeat: int, gap: GapSettings, seed: int, episodes: int = 8, seconds: float = 2.0
) -> InducedGap:
    """Measure a gap without any policy: random actions, open loop, from the same states, at common times.

    Each action is held for one step of the slower of the two. The identity gap gives exactly 0. An episode
    that one side ends early keeps its last difference.
    """
    ratio = rate_ratio(source_repeat, gap.action_repeat)
    source = Environment(task, source_repeat, seed, rewarded=False)
    target = target_environment(task, gap, seed, rewarded=False)
    hold = max(source.step_seconds, target.step_seconds)
    count = max(1, math.ceil(seconds / hold - 1e-9))
    pairs = []
    for episode in range(episodes):
        source.reseed(seed, episode)
        target.reseed(seed, episode)
        source.reset()
        state = source.physics_state()
        actions = np.random.default_rng([seed, episode]).uniform(-1, 1, (count, source.action_dim))
        pairs.append(
            (
                open_loop(source, state, actions, max(1, round(1 / ratio))),
                open_loop(target, state, actions, max(1, round(ratio))),
            )
        )
    before, after = np.array(pairs, np.float64).swapaxes(0, 1)
    spread = before.std((0, 1))
    scaled = (after - before) / np.where(spread > 0, spread, 1)
    divergence = np.sqrt(np.square(scaled).mean(-1)).mean(0)
    return InducedGap(hold * np.arange(count + 1), divergence, float(divergence[1:].mean()))


def open_loop(environment: Environment, state: Array, actions: Array, hold: int) -> Array:
    """(len(actions) + 1, D): the observations from ``state`` on, each action held for ``hold`` steps."""
    seen = [environment.reset(state)]
    over = False
    for action in actions:
        observation = seen[-1]
        for _ in range(hold):
            if not over:
                step = environment.step(action)
                observation, over = step.observation, step.last
        seen.append(observation)
    return np.stack(seen)

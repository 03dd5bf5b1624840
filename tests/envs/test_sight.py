"""Environments that show frames, where this machine can render any."""

from typing import Any

import numpy as np
import pytest

from telepath.envs.gaps import target_environment
from telepath.envs.rollout import RandomPolicy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.observations import SIDE, Observation, frames_of
from telepath.settings import GapSettings, ObservationKind

TASK = "ball_in_cup-catch"


def episode(environment: Environment, steps: int = 6) -> np.ndarray:
    environment.reseed(3, 1)
    rng = np.random.default_rng(0)
    seen = [environment.reset()]
    seen += [environment.step(rng.uniform(-1, 1, environment.action_dim)).observation for _ in range(steps)]
    return np.stack(seen)


@pytest.mark.usefixtures("graphics")
class TestFrames:
    def test_they_are_bytes_that_depend_on_the_episode_alone(self) -> None:
        first, second = (Environment(TASK, 6, 0, observation="pixels") for _ in range(2))
        frames = episode(first)
        assert (frames.shape, frames.dtype) == ((7, SIDE, SIDE, 3), np.uint8)
        assert first.observation == Observation("pixels", 0)
        # In between another environment of the same camera is looked at.
        episode(second, 3)
        np.testing.assert_array_equal(episode(second), frames)
        np.testing.assert_array_equal(episode(first), frames)
        assert len(np.unique(frames.reshape(7, -1), axis=0)) == 7

    def test_source_and_target_are_seen_by_the_same_camera(self) -> None:
        source = Environment(TASK, 6, 0, observation="pixels")
        target = target_environment(
            TASK, GapSettings(action_repeat=3, mass=2.0), 0, rewarded=False, observation="pixels"
        )
        np.testing.assert_array_equal(episode(source, 0), episode(target, 0))

    def test_both_are_the_frame_and_the_state_of_the_same_moment(self) -> None:
        kinds = ("state", "pixels", "pixels+state")
        state, frames, both = (episode(Environment(TASK, 6, 0, observation=kind)) for kind in kinds)
        np.testing.assert_array_equal(frames_of(both), frames)
        held = both[:, SIDE:].reshape(7, -1)[:, : 4 * state.shape[1]].copy().view(np.float32)
        np.testing.assert_array_equal(held, state)

    def test_a_diverging_simulator_ends_the_episode_at_the_last_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = Environment(TASK, 6, 0, observation="pixels")
        environment.reset()
        before = environment.step(np.ones(2)).observation
        monkeypatch.setattr(environment, "_observe", lambda: np.full(8, np.nan, np.float32))
        step = environment.step(np.ones(2))
        assert (step.last, step.terminal, environment.divergences) == (True, False, 1)
        np.testing.assert_array_equal(step.observation, before)

    def test_a_delay_delays_frames(self) -> None:
        at_once, late = (
            target_environment(
                TASK, GapSettings(action_repeat=3, observation_delay=n), 0, rewarded=False, observation="pixels"
            )
            for n in (0, 2)
        )
        np.testing.assert_array_equal(episode(late)[2:], episode(at_once)[:-2])


def test_noise_in_units_that_frames_do_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"gap.observation_noise: 0.1 means nothing for frames"):
        target_environment(
            TASK, GapSettings(action_repeat=3, observation_noise=0.1), 0, rewarded=False, observation="pixels"
        )

    @pytest.mark.parametrize("kind", ["pixels", "pixels+state"])
    @pytest.mark.parametrize("delay", [0, 2])
    def test_a_rollout_that_goes_on_renders_no_frame_twice(self, kind: ObservationKind, delay: int) -> None:
        def place() -> Environment:
            gap = GapSettings(action_repeat=20, observation_delay=delay)
            return target_environment(TASK, gap, 0, rewarded=True, observation=kind)

        def policy() -> RandomPolicy:
            return RandomPolicy(2, np.random.default_rng(0))

        (whole,) = rollout([place()], policy(), steps=12)
        states: list[dict[str, Any]] = []
        rollout([place()], policy(), steps=7, keep=lambda make_state: states.append(make_state()))
        later, rendered = place(), [0]
        see = later._sight._see

        def counted(state: Array) -> Array:
            rendered[0] += 1
            return see(state)

        later._sight._see = counted
        (again,) = rollout([later], policy(), steps=12, kept=states[-1])
        np.testing.assert_array_equal(again.observation, whole.observation)
        np.testing.assert_array_equal(again.action, whole.action)
        # The last ones of the first session were still on their way.
        assert rendered[0] == 12 - 7 + delay
        later.reset()
        assert rendered[0] == 12 - 7 + delay + 1

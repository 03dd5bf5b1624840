"""Poses from observations: those that were there are found again, where the observation tells of them."""

import numpy as np
import pytest

from telepath.envs.gaps import target_environment
from telepath.envs.pose import PoseFinder
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.settings import GapSettings


def motion(environment: Environment, records: int = 6) -> tuple[Array, Array]:
    """Observations (N, D) and joint positions (N, Q) of random actions."""
    environment.reseed(3, 3)
    rng = np.random.default_rng(0)
    seen, there = [environment.reset()], [environment.physics.data.qpos.copy()]
    for _ in range(records - 1):
        seen.append(environment.step(rng.uniform(-1, 1, environment.action_dim)).observation)
        there.append(environment.physics.data.qpos.copy())
    return np.stack(seen), np.stack(there)


@pytest.mark.parametrize(
    ("task", "unseen", "circle"),
    [
        ("ball_in_cup-catch", [], []),
        ("cheetah-run", [0], []),
        ("walker-walk", [1], [2, 3, 4, 5, 6, 7, 8]),  # orientations are observed: angles up to whole turns
    ],
)
def test_poses_are_found_again(task: str, unseen: list[int], circle: list[int]) -> None:
    seen, there = motion(Environment(task, 4, 0))
    # Begun from other initial states than the motion's own.
    finder = PoseFinder(Environment(task, 4, 1), np.full(seen.shape[1], seen.shape[1] ** -0.5), seed=8)
    found = finder.fit(seen)
    off = found.position - there
    off[:, circle] = np.angle(np.exp(1j * off[:, circle]))
    off[:, unseen] = 0
    assert np.abs(off).max() < 0.01
    assert found.misfit.max() < 0.005


def test_the_target_poses_by_its_own_body() -> None:
    gap = GapSettings(action_repeat=3, thigh_length=1.5, observation_noise=0.5, observation_delay=2)
    target = target_environment("walker-walk", gap, 0, rewarded=False)
    long, _ = motion(
        target_environment("walker-walk", GapSettings(action_repeat=3, thigh_length=1.5), 0, rewarded=False)
    )
    scale = np.full(long.shape[1], long.shape[1] ** -0.5)
    # Noise and delay of the environment must not get into the poses.
    assert PoseFinder(target, scale).fit(long).misfit.max() < 0.005


def test_what_cannot_be_is_as_near_as_it_gets_and_says_how_near() -> None:
    environment = Environment("cartpole-swingup", 2, 0)
    seen, _ = motion(environment)
    scale = np.full(seen.shape[1], seen.shape[1] ** -0.5)
    impossible = seen.copy()
    impossible[:, 1:3] = 2.0  # cosine and sine of the pole
    found = PoseFinder(environment, scale).fit(impossible)
    cosine, sine = 0.5**0.5, 0.5**0.5
    assert found.misfit[0] == pytest.approx(np.sqrt(((2 - cosine) ** 2 + (2 - sine) ** 2) / 3), rel=0.01)


def test_velocities_tell_nothing() -> None:
    finder = PoseFinder(Environment("ball_in_cup-catch", 4, 0), np.ones(8))
    assert finder.telling.tolist() == [0, 1, 2, 3]


def test_without_a_telling_dimension_there_is_no_pose() -> None:
    finder = PoseFinder(Environment("ball_in_cup-catch", 4, 0), np.ones(8))
    finder.telling = np.empty(0, int)
    with pytest.raises(ValueError, match="no dimension"):
        finder.fit(np.zeros((1, 8)))

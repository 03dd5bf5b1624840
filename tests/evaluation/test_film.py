"""The film, with a camera that needs no OpenGL: its picture is the simulator's clock, in frames."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.envs.rollout import RandomPolicy
from telepath.envs.suite import Environment
from telepath.evaluation import film
from telepath.evaluation.film import SIDE, Take, Timing
from telepath.evaluation.judge import judge
from telepath.settings import DreamerSettings, GapSettings

TASK = "ball_in_cup-catch"


class ClockCamera:
    """Takes pictures that are as bright as it is late."""

    def __init__(self, physics: Any, height: int, width: int):
        self.physics, self.shape = physics, (height, width, 3)

    def frame(self) -> np.ndarray:
        return np.full(self.shape, round(self.physics.time() / 0.02) % 256, np.uint8)

    def __enter__(self) -> "ClockCamera":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_graphics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "Camera", ClockCamera)


def environment(repeat: int, **gap: float) -> Environment:
    return target_environment(TASK, GapSettings(action_repeat=repeat, **gap), 0, rewarded=True)  # type: ignore[arg-type]


def shown(take: Take) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in take.picture]


@pytest.mark.parametrize("repeat", [1, 3, 4, 6, 12])
def test_all_control_rates_are_filmed_at_the_same_times(repeat: int) -> None:
    timing = Timing.of(0.02, seconds=2.0)
    take = film.shoot(environment(repeat), RandomPolicy(2, np.random.default_rng(0)), timing, 0, 0, 1)
    assert shown(take) == [round(second / 0.02) for second in timing.seconds]
    assert take.picture.shape == (timing.pictures, SIDE, SIDE, 3)
    # Steps are decisions, begun ones included.
    assert take.step.tolist() == [-(-round(second / 0.02) // repeat) for second in timing.seconds]


@pytest.mark.parametrize("frame_seconds", [0.002, 0.01, 0.02, 0.025, 0.04, 0.5])
def test_the_timing_covers_the_seconds(frame_seconds: float) -> None:
    timing = Timing.of(frame_seconds)
    assert abs(timing.seconds[-1] - film.SECONDS) <= timing.stride * frame_seconds / 2 + 1e-9
    assert timing.stride == 1 or abs(timing.stride * frame_seconds - film.PICTURE_SECONDS) <= frame_seconds / 2 + 1e-9


def test_what_is_filmed_is_the_episode_that_was_judged(small: DreamerSettings) -> None:
    """Bit for bit, though the others of the batch are not there."""
    agent = Agent(TASK, 8, 2, small)
    judged = judge([environment(12) for _ in range(3)], agent.policy(), seed=5)
    timing = Timing(1, 1001, 0.02)
    for number, episode in enumerate(judged):
        take = film.shoot(environment(12), agent.policy(), timing, 5, number, 3)
        assert take.total[-1] == pytest.approx(episode.ret, abs=1e-3)
    watched = environment(12)
    film.shoot(watched, agent.policy(), timing, 5, 2, 3)
    np.testing.assert_array_equal(watched._last, judged[2].observation[-1])


def test_after_the_end_picture_and_return_stand_still() -> None:
    timing = Timing(50, 40, 0.02)
    take = film.shoot(environment(6), RandomPolicy(2, np.random.default_rng(0)), timing, 0, 0, 1)
    assert len(take.picture) == len(take.total) == len(take.step) == 40
    assert take.step[20:].tolist() == [-(-1000 // 6)] * 20
    assert shown(take)[20:] == [shown(take)[20]] * 20
    assert (np.diff(take.total) >= 0).all()
    assert len(set(take.total[20:])) == 1


def takes(timing: Timing) -> dict[str, Take]:
    def picture(phase: float) -> np.ndarray:
        frames = np.full((timing.pictures, SIDE, SIDE, 3), (40, 60, 90), np.uint8)
        for number, frame in enumerate(frames):
            at = int(40 + 30 * np.sin(number / 5 + phase))
            frame[at : at + 20, 60:80] = (230, 160, 60)
        return frames

    total, step = np.linspace(0, 400, timing.pictures), np.arange(timing.pictures)
    return {agent: Take(picture(phase), total, step) for phase, agent in enumerate(("source", "zero_shot", "telepath"))}


@pytest.mark.parametrize("frame_seconds", [0.02, 0.025, 0.01])
def test_the_gif_loops_at_the_pace_of_the_simulation_and_its_bytes_repeat(frame_seconds: float) -> None:
    timing = Timing.of(frame_seconds, seconds=2.0)
    data = film.encode(film.compose(takes(timing), timing), timing)
    assert data == film.encode(film.compose(takes(timing), timing), timing)
    gif: Any = Image.open(io.BytesIO(data))
    assert gif.info["loop"] == 0
    assert gif.n_frames == timing.pictures
    ends = []
    for number in range(gif.n_frames):
        gif.seek(number)
        ends.append((ends[-1] if ends else 0) + gif.info["duration"])
    np.testing.assert_allclose(ends[:-1], 1000 * timing.seconds[1:], atol=5.1)


def test_a_film_that_is_too_large_shows_every_second_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing.of(0.02, seconds=1.0)
    whole = film.make_gif(takes(timing), timing)
    assert whole == film.encode(film.compose(takes(timing), timing), timing)
    monkeypatch.setattr(film, "LARGEST", len(whole) - 1)
    thin: Any = Image.open(io.BytesIO(film.make_gif(takes(timing), timing)))
    assert thin.n_frames == (timing.pictures + 1) // 2
    assert thin.info["duration"] == 2 * 60
    monkeypatch.setattr(film, "LARGEST", 1)
    least: Any = Image.open(io.BytesIO(film.make_gif(takes(timing), timing)))
    assert least.n_frames == 2


def test_each_agent_has_its_column_and_the_clock_runs() -> None:
    timing = Timing.of(0.02, seconds=1.0)
    first, *_, last = film.compose(takes(timing), timing)
    assert first.size == (3 * (SIDE + film.GAP) - film.GAP, film.HEAD + SIDE + film.FOOT + film.CLOCK)
    clock = (0, first.height - film.CLOCK, *first.size)
    assert np.asarray(first.crop(clock)).mean() > np.asarray(last.crop(clock)).mean()
    names = [np.asarray(first.crop((left, 0, left + SIDE, film.HEAD))) for left in (0, SIDE + film.GAP)]
    assert (names[0] != names[1]).any()


def test_the_typical_episode_is_nearest_to_everyone_s_median() -> None:
    returns = pd.DataFrame(
        {"source": [900, 940, 980, 940], "zero_shot": [0, 0, 900, 900], "telepath": [930, 930, 0, 930]}
    )
    assert film.typical_episode(returns) in (1, 3)
    returns["oracle"] = [5, 0, 0, 5]
    assert film.typical_episode(returns) == 1
    returns["zero_shot"] = [0, 900, 0, 400]
    assert film.typical_episode(returns) == 3
    assert film.typical_episode(returns * 0) == 0

"""Which frames a strip shows, and how much of them."""

import numpy as np
import pytest

from telepath.envs.suite import Environment
from telepath.evaluation import strips
from telepath.evaluation.closeup import CloseUp, square


def test_every_shown_frame_stands_above_the_middle_one_that_it_is_matched_with() -> None:
    path = np.array([[0, 0], [0, 1], [0, 2], [1, 3], [2, 3], [2, 4], [2, 4]])
    assert strips.shown_pairs(path).tolist() == [[0, 1], [1, 3], [2, 4]]


def test_long_strips_show_even_frames_from_the_first_to_the_last() -> None:
    pairs = strips.shown_pairs(np.stack([np.arange(36), 2 * np.arange(36)], 1))
    assert pairs[:, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    assert (pairs[:, 1] == 2 * pairs[:, 0]).all()


def test_the_square_holds_what_moves() -> None:
    frames = np.full((5, 64, 64, 3), 90, np.uint8)
    assert strips.moving_square(frames) == (slice(0, 64), slice(0, 64))
    for t, frame in enumerate(frames):
        frame[40:44, 4 * t : 4 * t + 4] = 250
    frames += np.random.default_rng(0).integers(0, 5, frames.shape, np.uint8)  # a decoder's
    rows, columns = strips.moving_square(frames)
    assert rows.stop - rows.start == columns.stop - columns.start < 30
    assert rows.start < 40
    assert rows.stop > 44
    assert (columns.start, columns.stop >= 20) == (0, True)


def test_where_everything_moves_everything_is_shown() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    assert strips.moving_square(frames) == (slice(0, 32), slice(0, 32))


@pytest.mark.usefixtures("graphics")
@pytest.mark.parametrize(("task", "action"), [("ball_in_cup-catch", 1.0), ("walker-walk", 0.5)])
def test_a_close_up_holds_the_bodies_and_little_else(task: str, action: float) -> None:
    """The cup leaves the picture of the model's own camera on the way."""
    environment = Environment(task, 2, 0)
    environment.reset()
    camera = CloseUp(environment, 64)
    with camera:
        for _ in range(3):
            for _ in range(4):
                environment.step(np.full(environment.action_dim, action))
            window = square(camera.extent()[None])
            # The bodies are yellow, scenery is blue.
            seen = camera.picture(window).astype(int)
            wider = camera.picture(2 * window - window.mean(0)).astype(int)
            bodies, smaller = (frame[..., 0] > frame[..., 2] + 10 for frame in (seen, wider))
            for edge in (bodies[0], bodies[-1], bodies[:, 0], bodies[:, -1]):
                assert not edge.any()
            assert max(np.ptp(np.flatnonzero(bodies.any(axis))) for axis in (0, 1)) > 40
            assert smaller.sum() == pytest.approx(bodies.sum() / 4, rel=0.25)

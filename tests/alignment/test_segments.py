import numpy as np
import pytest

from telepath.alignment.segments import (
    FrameScale,
    all_origins,
    choose_frames,
    choose_origins,
    cut_segments,
    resample,
)
from telepath.episodes import Episode
from tests.conftest import counting_episode


def test_prefix_and_reference_meet_at_the_origin() -> None:
    episodes = [counting_episode(n, 30) for n in range(3)]
    origin = all_origins(episodes, 4, 5, 3)
    segments = cut_segments(episodes, origin, 4, 5, action_repeat=2)
    assert (segments.prefix[:, :, 0] == origin[:, :1]).all()
    assert (segments.prefix[:, :, 1] == origin[:, 1:] + np.arange(-3, 1)).all()
    assert (segments.reference[:, :, 1] == origin[:, 1:] + np.arange(1, 6)).all()
    assert (segments.rate == segments.reference[:, :, 1] / 2).all(), "reward must come with its own frame, as a rate"


def test_origins_fit_from_the_first_to_the_last_place() -> None:
    origin = all_origins([counting_episode(0, 12)], 4, 5, 1)
    assert origin[:, 1].min() == 3
    assert origin[:, 1].max() + 5 == 11


def test_chosen_segments_cover_the_whole_range_of_pay() -> None:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(np.zeros((50, 2), np.float32), np.zeros((50, 1), np.float32), np.full(50, n, np.float32))
        for n in (0, 0, 0, 0, 0, 0, 0, 0, 0, 9)
    ]
    origin = choose_origins(episodes, 20, 4, 5, rng)
    assert len(np.unique(origin, axis=0)) == 20
    assert (origin[:, 0] == 9).sum() == 2, "a tenth of the places is paid, so a tenth of the segments"


def test_the_scale_makes_every_dimension_count_alike() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([0.01, 1.0, 100.0], np.float32)
    episode = Episode(
        (rng.standard_normal((5000, 3)) * spread).astype(np.float32), np.zeros((5000, 1), np.float32), None
    )
    scaled = FrameScale.fit([episode])(episode.observation)
    assert scaled.dtype == np.float32
    assert scaled.std(0) == pytest.approx([scaled[:, 0].std()] * 3, rel=0.2)


def test_the_scale_survives_a_dimension_that_never_moves() -> None:
    episode = Episode(np.zeros((50, 2), np.float32), np.zeros((50, 1), np.float32), None)
    assert np.isfinite(FrameScale.fit([episode]).inverse).all()


def test_resampling_is_linear_between_records_and_exact_on_them() -> None:
    track = np.array([[0.0, 10.0], [2.0, 10.0], [6.0, 40.0]], np.float32)
    found = resample(track, np.array([0.0, 0.5, 1.0, 1.25, 2.0]))
    np.testing.assert_allclose(found, [[0, 10], [1, 10], [2, 10], [3, 17.5], [6, 40]])


def test_a_frame_comes_with_what_led_to_it_and_with_its_own_reward() -> None:
    episodes = [counting_episode(n, 30) for n in range(3)]
    frames = choose_frames(episodes, 20, 4, 2, np.random.default_rng(0))
    assert frames.prefix.shape == (20, 4, 2)
    assert (np.diff(frames.prefix[:, :, 1], axis=1) == 1).all()
    assert (frames.rate == frames.prefix[:, -1, 1] / 2).all()
    assert frames.rate.min() < 5
    assert frames.rate.max() > 12

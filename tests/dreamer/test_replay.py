import numpy as np
import pytest

from telepath.config import Params
from telepath.dreamer.replay import Replay, Selection, gather
from telepath.errors import UserError
from tests.conftest import counting_episode


def test_windows_are_contiguous_and_keep_records_together() -> None:
    replay = Replay([counting_episode(n, 20 + n) for n in range(5)])
    batch = replay.sample(64, 7, np.random.default_rng(0))
    observation = batch.observation.numpy()
    assert (observation[:, :, 0] == batch.episode).all(), "a window crosses into another episode"
    assert (observation[:, :, 1] == batch.start + np.arange(7)[:, None]).all()
    # Record t holds the action that led to observation t and the reward received with it.
    assert (batch.action.numpy()[:, :, 0] == observation[:, :, 1]).all()
    assert batch.reward is not None
    assert (batch.reward.numpy() == observation[:, :, 1]).all()


def test_is_first_marks_record_zero_and_nothing_else() -> None:
    replay = Replay([counting_episode(0, 12)])
    batch = replay.sample(200, 5, np.random.default_rng(1))
    assert (batch.is_first.numpy() == (batch.observation.numpy()[:, :, 1] == 0)).all()
    assert 0 < batch.is_first.sum() < 200


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_marks_the_last_record_of_an_episode_that_ended(terminal: bool) -> None:
    replay = Replay([counting_episode(0, 12, terminal=terminal)])
    batch = replay.sample(200, 5, np.random.default_rng(2))
    last = batch.observation.numpy()[:, :, 1] == 11
    assert last.any()
    assert (batch.terminal.numpy() == (last & terminal)).all()


def test_borders_are_seen_about_as_often_as_the_middle() -> None:
    replay = Replay([counting_episode(0, 40)])
    batch = replay.sample(20000, 10, np.random.default_rng(3))
    seen = np.bincount(batch.observation.numpy()[:, :, 1].astype(int).ravel(), minlength=40)
    assert seen.min() > 0.5 * seen.mean()


def test_an_unrewarded_replay_gives_no_reward() -> None:
    replay = Replay([counting_episode(0, 12, rewarded=False)])
    assert replay.sample(3, 5, np.random.default_rng(0)).reward is None


def test_gather_cuts_other_tracks_at_the_same_records() -> None:
    replay = Replay([counting_episode(n, 15) for n in range(3)])
    batch = replay.sample(9, 6, np.random.default_rng(4))
    track = [10 * e.observation[:, 1] for e in replay.episodes]
    labels = gather(track, batch.episode, batch.start, 6)
    assert (labels.numpy() == 10 * batch.observation.numpy()[:, :, 1]).all()


def test_an_episode_shorter_than_a_window_is_left_out() -> None:
    replay = Replay([counting_episode(0, 5), counting_episode(1, 9)])
    assert (replay.sample(50, 6, np.random.default_rng(0)).episode == 1).all()
    with pytest.raises(UserError, match="no episode is as long as a window of 10 records; the longest has 9"):
        replay.sample(2, 10, np.random.default_rng(0))


def test_state_restores_the_episodes() -> None:
    replay = Replay([counting_episode(n, 9) for n in range(4)])
    restored = Replay(replay.episodes[:2])
    restored.restore(replay.state(since=2))
    assert restored.steps == replay.steps == 4 * 8
    assert (restored.episodes[3].observation == replay.episodes[3].observation).all()


def test_a_share_of_the_windows_comes_from_the_last_episodes() -> None:
    replay = Replay([counting_episode(n, 30) for n in range(10)], Selection(0.5, 60))
    chosen, _ = replay.windows(4000, 8, np.random.default_rng(0))
    # Half at random, of which a fifth falls on the last two, and the other half on these alone.
    assert np.mean(chosen >= 8) == pytest.approx(0.5 + 0.5 * 0.2, abs=0.03)
    assert set(chosen) == set(range(10))


def test_what_counts_as_recent_lasts_as_long_at_any_rate(params: Params) -> None:
    settings = params.dreamer.model_copy(update={"recent": 0.5, "recent_steps": 30})
    assert Selection.of(settings) == Selection(0.5, 30, 0.0)
    assert Selection.of(settings, 2.0, 0.1) == Selection(0.5, 60, 0.1)


def test_a_share_of_the_windows_begins_with_the_episode() -> None:
    replay = Replay([counting_episode(n, 104) for n in range(5)], Selection(beginnings=0.25))
    batch = replay.sample(4000, 4, np.random.default_rng(0))
    # A quarter, and of the others what hangs over by chance: 2 of 104.
    assert np.mean(batch.start == 0) == pytest.approx(0.25 + 0.75 * 2 / 104, abs=0.01)
    assert (np.bincount(batch.episode[batch.start == 0]) > 150).all(), "of every episode"

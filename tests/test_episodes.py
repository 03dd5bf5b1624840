import dataclasses
from pathlib import Path

import numpy as np
import pytest

from telepath.episodes import Episode, load_arrays, load_episodes, save_arrays, save_episodes
from telepath.errors import UserError
from tests.conftest import counting_episode


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    episodes = [
        dataclasses.replace(counting_episode(n, 5 + n, terminal=n == 1), divergences=2 * (n == 2)) for n in range(3)
    ]
    save_episodes(tmp_path / "e.npz", episodes)
    again = load_episodes(tmp_path / "e.npz", rewarded=True)
    for one, other in zip(episodes, again, strict=True):
        assert np.array_equal(one.observation, other.observation)
        assert np.array_equal(one.action, other.action)
        assert one.reward is not None
        assert other.reward is not None
        assert np.array_equal(one.reward, other.reward)
        assert (one.terminal, one.divergences) == (other.terminal, other.divergences)


def test_without_rewarded_the_rewards_are_not_handed_out(tmp_path: Path) -> None:
    save_episodes(tmp_path / "e.npz", [counting_episode(0, 5)])
    (episode,) = load_episodes(tmp_path / "e.npz", rewarded=False)
    assert episode.reward is None
    with pytest.raises(ValueError, match="no reward"):
        _ = episode.ret


def test_unrewarded_episodes_hold_no_reward_on_disk(tmp_path: Path) -> None:
    save_episodes(tmp_path / "e.npz", [counting_episode(0, 5, rewarded=False)])
    with pytest.raises(UserError, match="reward"):
        load_episodes(tmp_path / "e.npz", rewarded=True)


def test_the_bytes_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_episodes(tmp_path / f"{name}.npz", [counting_episode(0, 5)])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_scalars_and_strided_arrays_keep_their_shape(tmp_path: Path) -> None:
    arrays = {"scalar": np.array(3.0), "strided": np.arange(12).reshape(3, 4).T}
    save_arrays(tmp_path / "a.npz", arrays)
    again = load_arrays(tmp_path / "a.npz", list(arrays))
    assert again["scalar"].shape == ()
    assert np.array_equal(again["strided"], arrays["strided"])


def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    save_episodes(path, [counting_episode(0, 50)])
    whole = path.read_bytes()
    for cut in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"e\.npz") as raised:
            load_episodes(path, rewarded=True)
        assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        load_episodes(path, rewarded=True)
    path.mkdir()
    with pytest.raises(UserError):
        load_episodes(path, rewarded=True)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="not a readable array file"):
        load_arrays(tmp_path / "p.npz", ["a"])


def test_records_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Episode(np.zeros((3, 2), np.float32), np.zeros((2, 1), np.float32), None)

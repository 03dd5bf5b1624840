"""Episodes: what an environment gave, in the order in which it happened, and their home on disk.

Record t of an episode holds observation t, the action that *led to* it and the reward received with it. Record 0 has
a zero action and a zero reward. ``is_first`` and ``is_last`` are the first and the last index; ``terminal`` tells
whether the last record ended the task (no bootstrap) or only the clock ran out (bootstrap).

Shape letters, for the whole project:

    B  batch            T  time (steps)         S  segments           I  initial latents of a segment
    P  CEM population   N  reference length     M  candidate length   K  prefix length
    D  observation dim  A  action dim           H  imagination horizon
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from telepath.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Episode:
    """One episode, time-major.

    observation: (T, D) float32; action: (T, A) float32 in [-1, 1], row 0 zero; reward: (T,) float32, entry 0 zero,
    summed over the frames of a step, or None where the environment pays none; terminal: whether the task ended
    at the last record.
    """

    observation: Array
    action: Array
    reward: Array | None
    terminal: bool = False

    def __post_init__(self) -> None:
        steps = len(self.observation)
        if steps < 2 or len(self.action) != steps or (self.reward is not None and len(self.reward) != steps):
            raise ValueError(
                f"episode records differ in length or are fewer than 2: observation {self.observation.shape}, "
                f"action {self.action.shape}, reward {None if self.reward is None else self.reward.shape}"
            )

    def __len__(self) -> int:
        return len(self.observation)

    @property
    def steps(self) -> int:
        """Agent decisions taken: one fewer than there are records."""
        return len(self) - 1

    @property
    def ret(self) -> float:
        """Undiscounted return: the sum of all rewards."""
        if self.reward is None:
            raise ValueError("this episode has no reward")
        return float(self.reward.sum(dtype=np.float64))

    def without_reward(self) -> "Episode":
        """The same episode as seen by someone who is paid nothing."""
        return Episode(self.observation, self.action, None, self.terminal)


def total_steps(episodes: Sequence[Episode]) -> int:
    """Agent decisions in all the episodes."""
    return sum(episode.steps for episode in episodes)


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as an npz whose bytes depend on nothing but the arrays (no clock, no name of the machine)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Read the named arrays; a missing, truncated or foreign file is a ``UserError`` that names it."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` (or `dvc pull`) to make it") from None
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: not a readable array file ({error}); delete it and run `dvc repro`") from None


def save_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes as one flat, deterministic npz: records of all episodes end to end, and their lengths."""
    if not episodes:
        raise ValueError("no episodes to save")
    arrays = {
        "length": np.array([len(e) for e in episodes], np.int64),
        "terminal": np.array([e.terminal for e in episodes], np.bool_),
        "observation": np.concatenate([e.observation for e in episodes]),
        "action": np.concatenate([e.action for e in episodes]),
    }
    if episodes[0].reward is not None:
        arrays["reward"] = np.concatenate([e.reward for e in episodes if e.reward is not None])
    save_arrays(path, arrays)


def load_episodes(path: Path, *, rewarded: bool) -> list[Episode]:
    """Read episodes; with ``rewarded`` the file must hold rewards, without it the rewards are not even read."""
    names = ["length", "terminal", "observation", "action"] + (["reward"] if rewarded else [])
    arrays = load_arrays(path, names)
    ends = np.cumsum(arrays["length"])
    if len(ends) == 0 or any(ends[-1] != len(arrays[n]) for n in names[2:]):
        raise UserError(f"{path}: the episode lengths do not fit the records; delete it and run `dvc repro`")
    episodes = []
    for begin, end, terminal in zip(ends - arrays["length"], ends, arrays["terminal"], strict=True):
        reward = arrays["reward"][begin:end] if rewarded else None
        episodes.append(Episode(arrays["observation"][begin:end], arrays["action"][begin:end], reward, bool(terminal)))
    return episodes

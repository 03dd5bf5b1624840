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
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from telepath.errors import UserError
from telepath.files import MEND, one_line, read, write_atomically
from telepath.observations import Observation

Array = np.ndarray

FRAMES = "u4"
"""What records with frames are on disk, as ``demand`` reads it: (n, H, W, 3) bytes."""


@dataclass(frozen=True)
class Episode:
    """One episode, time-major.

    observation: (T, D) float32, or (T, 64, 64, 3) uint8 and more (``observations``); action: (T, A) float32 in [-1, 1],
    row 0 zero; reward: (T,) float32, entry 0 zero, summed over the frames of a step, or None where the environment pays
    none; terminal: whether the task ended at the last record; divergences: how often the simulator diverged, in initial
    states that were then drawn anew or at the end, which it cut short.
    """

    observation: Array
    action: Array
    reward: Array | None
    terminal: bool = False
    divergences: int = 0

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
        return replace(self, reward=None)


def total_steps(episodes: Sequence[Episode]) -> int:
    """Agent decisions in all the episodes."""
    return sum(episode.steps for episode in episodes)


def total_divergences(episodes: Iterable[Episode]) -> int:
    """How often the simulator diverged in all the episodes."""
    return sum(episode.divergences for episode in episodes)


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as an npz whose bytes depend on nothing but the arrays (no clock, no name of the machine).

    All or nothing; ``UserError`` where the file cannot be written.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())
    write_atomically(path, file.getvalue())


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Read the named arrays; a missing, truncated or foreign file is a ``UserError`` that names it.

    Only what ``save_arrays`` writes is read: no pickles, nothing compressed, no array larger than its bytes on disk.
    """
    data = read(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: read_member(archive, name) for name in names}
    except Exception as error:
        # Whatever a parser trips over in damaged bytes, it means one thing to the user.
        raise UserError(f"{path}: not a readable array file ({one_line(error)}); {MEND}") from None


def read_member(archive: zipfile.ZipFile, name: str) -> Array:
    """One array of an npz; ValueError where it is not as ``save_arrays`` writes it."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which Telepath never does")
    buffer = io.BytesIO(archive.read(entry))
    if np.lib.format.read_magic(buffer) != (1, 0):
        raise ValueError(f"{name} is in another format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {dtype}, not numbers")
    body = buffer.read()
    # Before anything of that size is made room for.
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{name} is not as long as it says")
    array = np.frombuffer(body, dtype) if body else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def demand(path: Path, arrays: Mapping[str, Array], kinds: Mapping[str, str]) -> None:
    """Raise ``UserError`` for the first array that is not of its kind: 'f2' is two-dimensional and of finite floats.

    The letters are numpy's: f, i and b for floats, integers and booleans; u is for bytes.
    """
    for name, kind in kinds.items():
        array = arrays[name]
        if (array.dtype.kind, array.ndim) != (kind[0], int(kind[1])) or (kind[0] == "u" and array.itemsize != 1):
            raise UserError(f"{path}: {name} is {array.dtype} of shape {array.shape}, which cannot be; {MEND}")
        if kind[0] == "f" and not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise UserError(f"{path}: {name}{place} is {array[tuple(place)]}, not a finite number; {MEND}")


def save_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes as one flat, deterministic npz: records of all episodes end to end, and their lengths."""
    if not episodes:
        raise ValueError("no episodes to save")
    arrays = {
        "length": np.array([len(e) for e in episodes], np.int64),
        "terminal": np.array([e.terminal for e in episodes], np.bool_),
        "divergences": np.array([e.divergences for e in episodes], np.int64),
        "observation": np.concatenate([e.observation for e in episodes]),
        "action": np.concatenate([e.action for e in episodes]),
    }
    if episodes[0].reward is not None:
        arrays["reward"] = np.concatenate([e.reward for e in episodes if e.reward is not None])
    save_arrays(path, arrays)


def load_episodes(path: Path, *, rewarded: bool, dims: tuple[Observation | int, int] | None = None) -> list[Episode]:
    """Read episodes; with ``rewarded`` the file must hold rewards, without it the rewards are not even read.

    dims: what is observed (D, if it is the state) and A, where they are known. What does not fit or is not finite is a
    ``UserError``.
    """
    by_episode = {"length": "i1", "terminal": "b1", "divergences": "i1"}
    by_record = {"observation": "f2", "action": "f2"} | ({"reward": "f1"} if rewarded else {})
    kinds = by_episode | by_record
    arrays = load_arrays(path, list(kinds))
    if arrays["observation"].ndim == 4:
        kinds["observation"] = FRAMES
    demand(path, arrays, kinds)
    length = arrays["length"]
    # Every length first: a sum of wild ones may come out right, or overflow.
    total = len(arrays["action"])
    if len(length) == 0 or length.min() < 2 or length.max() > total:
        raise UserError(f"{path}: the episode lengths do not fit the records; {MEND}")
    fits = [len(arrays[name]) == len(length) for name in by_episode]
    if not all(fits + [len(arrays[name]) == length.sum() for name in by_record]):
        raise UserError(f"{path}: the episode lengths do not fit the records; {MEND}")
    if dims is not None:
        found = *arrays["observation"].shape[1:], arrays["action"].shape[1]
        wanted = *Observation.of(dims[0]).shape, dims[1]
        if found != wanted:
            what = "another task or kind of observation"
            raise UserError(f"{path}: holds episodes of {what} (dimensions {found}, not {wanted}); {MEND}")
    ends = np.cumsum(length)
    episodes = []
    for begin, end, terminal, divergences in zip(
        ends - length, ends, arrays["terminal"].tolist(), arrays["divergences"].tolist(), strict=True
    ):
        reward = arrays["reward"][begin:end] if rewarded else None
        observation, action = arrays["observation"][begin:end], arrays["action"][begin:end]
        episodes.append(Episode(observation, action, reward, terminal, divergences))
    return episodes

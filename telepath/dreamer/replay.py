"""Replay: whole episodes in memory, windows of them as training batches."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from telepath.episodes import Array, Episode, total_divergences, total_steps
from telepath.errors import UserError
from telepath.runtime.device import CPU, sent
from telepath.settings import DreamerSettings


class Batch(NamedTuple):
    """Windows of episodes, time-major.

    observation (T, B, *shape), action (T, B, A), reward (T, B) or None, is_first (T, B), terminal (T, B) in {0, 1};
    episode (B,) and start (B,) say where each window was cut.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor | None
    is_first: Tensor
    terminal: Tensor
    episode: Array
    start: Array


class Lesson(NamedTuple):
    """What an update learns from: a batch, the reward rate (T, B) that came with each record, if any, and what else a
    head is told: a named tuple of tensors.
    """

    batch: Batch
    rate: Tensor | None = None
    more: Any = None

    @property
    def known(self) -> Tensor:
        """(T, B): 0 for the first record of an episode, which has no reward to learn: nothing led to it; else 1."""
        return 1 - self.batch.is_first


class Selection(NamedTuple):
    """Which windows a batch has more of than chance would give it.

    The share ``recent`` comes from the last ``recent_steps`` alone, in whole episodes: models must be right where the
    policy goes now. The share ``beginnings`` begins where an episode does: what happens there once decides many a task,
    and is forgotten among what follows.
    """

    recent: float = 0.0
    recent_steps: int = 0
    beginnings: float = 0.0

    @staticmethod
    def of(settings: DreamerSettings, rate_ratio: float = 1.0, beginnings: float = 0.0) -> "Selection":
        """As the settings have it, where ``rate_ratio`` steps last as long as one of theirs: the same in seconds."""
        return Selection(settings.recent, round(settings.recent_steps * rate_ratio), beginnings)


UNIFORM = Selection()
"""As chance has it."""


class Mirror:
    """All records of a replay end to end on a device, where windows are cut without the host."""

    def __init__(self, device: torch.device):
        self.device = device
        self.begin: list[int] = []
        self.count = 0
        self.tracks: tuple[Tensor, ...] = ()

    def add(self, episode: Episode) -> None:
        """Append an episode; one without rewards gets zeros."""
        reward = np.zeros(len(episode), np.float32) if episode.reward is None else episode.reward
        parts = [torch.from_numpy(track) for track in (episode.observation, episode.action, reward)]
        self.begin.append(self.count)
        end = self.count + len(episode)
        if not self.tracks or end > len(self.tracks[0]):
            room = [part.new_empty(2 * end, *part.shape[1:], device=self.device) for part in parts]
            for wide, narrow in zip(room, self.tracks, strict=False):
                wide[: self.count] = narrow[: self.count]
            self.tracks = tuple(room)
        for track, part in zip(self.tracks, parts, strict=True):
            track[self.count : end] = part
        self.count = end

    def cut(self, episode: Array, start: Array, length: int) -> tuple[Tensor, ...]:
        """Windows of observations, actions and rewards, (T, B, ...) each."""
        first = np.asarray(self.begin)[episode] + start
        index = sent(np.arange(length)[:, None] + first, self.device)
        return tuple(track[index] for track in self.tracks)


class Replay:
    """A growing list of episodes; a window never crosses an episode's border."""

    def __init__(
        self,
        episodes: list[Episode] | None = None,
        selection: Selection = UNIFORM,
        device: torch.device = CPU,
    ):
        """``device``: where batches are to lie; a GPU holds all records a second time."""
        self.selection, self.device = selection, device
        self.mirror = None if device.type == "cpu" else Mirror(device)
        self.episodes: list[Episode] = []
        for episode in episodes or []:
            self.add(episode)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def steps(self) -> int:
        """Agent decisions held."""
        return total_steps(self.episodes)

    @property
    def divergences(self) -> int:
        """How often the simulator diverged in what is held."""
        return total_divergences(self.episodes)

    def add(self, episode: Episode) -> None:
        """Append an episode."""
        self.episodes.append(episode)
        if self.mirror is not None:
            self.mirror.add(episode)

    def observations(self) -> Tensor:
        """All observations end to end, (n, *shape)."""
        return torch.from_numpy(np.concatenate([episode.observation for episode in self.episodes]))

    def state(self, since: int = 0) -> list[tuple[Any, ...]]:
        """The episodes from number ``since`` on, as plain arrays and numbers."""
        return [(e.observation, e.action, e.reward, e.terminal, e.divergences) for e in self.episodes[since:]]

    def restore(self, state: list[tuple[Any, ...]]) -> None:
        """Append the episodes of ``state()``."""
        for record in state:
            self.add(Episode(*record))

    def windows(self, batch: int, length: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Choose ``batch`` windows: episode (B,) by length and recency, start (B,) at the episode's beginning or
        uniform but for the borders.

        Such a start is drawn as if windows might hang over either end by half their length and is then moved inside,
        so that an episode's first and last records are seen about as often as those in its middle.
        """
        lengths = np.array([len(episode) for episode in self.episodes])
        # An episode that a diverging simulator cut short may be too short for a window.
        usable = np.where(lengths >= length, lengths, 0)
        if not usable.any():
            longest = f"the longest has {lengths.max()}: the simulator diverges"
            raise UserError(
                f"gap: no episode is as long as a window of {length} records; {longest}; choose a milder one"
            )
        chance = usable / usable.sum()
        recent, recent_steps, beginnings = self.selection
        since = lengths[::-1].cumsum()[::-1] - lengths  # records that came after an episode
        late = np.where(since < recent_steps, usable, 0)
        if late.any():
            chance = (1 - recent) * chance + recent * late / late.sum()
        chosen = rng.choice(len(lengths), batch, p=chance)
        room = lengths[chosen] - length
        start = np.floor(rng.random(batch) * (room + length) - length / 2).astype(np.int64)
        start[: round(beginnings * batch)] = 0
        return chosen, np.clip(start, 0, room)

    def sample(self, batch: int, length: int, rng: np.random.Generator) -> Batch:
        """A batch of ``batch`` windows of ``length`` records; ``UserError`` where no episode is that long."""
        chosen, start = self.windows(batch, length, rng)
        rewarded = all(self.episodes[e].reward is not None for e in chosen)
        is_first = np.zeros((length, batch), np.float32)
        is_first[0, start == 0] = 1
        terminal = np.zeros((length, batch), np.float32)
        for b, (e, s) in enumerate(zip(chosen, start, strict=True)):
            terminal[-1, b] = self.episodes[e].terminal and s + length == len(self.episodes[e])
        reward: Tensor | None = None
        if self.mirror is not None:
            observation, action, reward = self.mirror.cut(chosen, start, length)
        else:
            observation = gather([e.observation for e in self.episodes], chosen, start, length)
            action = gather([e.action for e in self.episodes], chosen, start, length)
            if rewarded:
                reward = gather([e.reward for e in self.episodes], chosen, start, length)  # type: ignore[misc]
        return Batch(
            observation,
            action,
            reward if rewarded else None,
            sent(is_first, self.device),
            sent(terminal, self.device),
            chosen,
            start,
        )


def gather(tracks: list[Array], episode: Array, start: Array, length: int, device: torch.device = CPU) -> Tensor:
    """Cut the same windows out of any per-record track: -> (T, B, ...)."""
    windows = [tracks[e][s : s + length] for e, s in zip(episode, start, strict=True)]
    return sent(np.stack(windows, 1), device)

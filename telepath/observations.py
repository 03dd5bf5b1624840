"""What an agent observes: the simulator's numbers, its camera's frames, or both.

A record of an episode is one array in any case:

    state          (D,) float32
    pixels         (64, 64, 3) uint8, rows from the top
    pixels+state   (64 + R, 64, 3) uint8: the frame, and below it R rows that hold the bytes of (D,) float32

so that whatever only carries, stores and cuts records needs not know what they are.
"""

from typing import Any, NamedTuple

import numpy as np

from telepath.settings import ObservationKind

KINDS: tuple[ObservationKind, ...] = ("state", "pixels", "pixels+state")

SIDE = 64
"""Height and width of a frame."""

PIXELS = SIDE * SIDE * 3
"""Numbers in a frame."""


class Observation(NamedTuple):
    """kind: one of those above; state_dim: D, 0 where no state is observed."""

    kind: ObservationKind
    state_dim: int

    @staticmethod
    def of(observation: "Observation | int") -> "Observation":
        """An observation as it is; a number means a state of that many dimensions."""
        return observation if isinstance(observation, Observation) else Observation("state", observation)

    @staticmethod
    def stored(kind: str, state_dim: int) -> "Observation":
        """What a file says; ValueError where it makes no sense."""
        for known in KINDS:
            if kind == known and state_dim >= 0 and (state_dim == 0) == (kind == "pixels"):
                return Observation(known, state_dim)
        raise ValueError(f"no observation {kind} of {state_dim} numbers")

    @property
    def has_frames(self) -> bool:
        """Whether there is a frame in it."""
        return self.kind != "state"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record."""
        if not self.has_frames:
            return (self.state_dim,)
        return (SIDE + -(-self.state_dim * 4 // (SIDE * 3)), SIDE, 3)

    @property
    def dtype(self) -> Any:
        """Of a record, as numpy names it."""
        return np.uint8 if self.has_frames else np.float32


def pack(frame: np.ndarray, state: np.ndarray) -> np.ndarray:
    """A frame (64, 64, 3) uint8 and a state (D,) float32 as one record."""
    rows = np.zeros((Observation("pixels+state", len(state)).shape[0] - SIDE, SIDE, 3), np.uint8)
    rows.reshape(-1)[: 4 * len(state)] = state.astype(np.float32).view(np.uint8)
    return np.concatenate([frame, rows])


def frames_of(record: Any) -> Any:
    """The frames (..., 64, 64, 3) in records that have any; arrays and tensors alike, not copied."""
    return record[..., :SIDE, :, :]

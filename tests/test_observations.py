"""Records with frames: what goes in comes out, and the shapes that the rest relies on."""

import numpy as np
import pytest

from telepath.observations import SIDE, Observation, frames_of, pack


@pytest.mark.parametrize("dim", [1, 8, 48, 49, 67])
def test_a_packed_record_holds_frame_and_state(dim: int) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    state = rng.standard_normal(dim).astype(np.float32)
    record = pack(frame, state)
    assert record.shape == Observation("pixels+state", dim).shape
    assert record.dtype == np.uint8
    np.testing.assert_array_equal(frames_of(record), frame)
    np.testing.assert_array_equal(record[SIDE:].reshape(-1)[: 4 * dim].view(np.float32), state)


def test_shapes() -> None:
    assert Observation.of(7) == Observation("state", 7)
    assert (Observation("state", 7).shape, Observation("state", 7).dtype) == ((7,), np.float32)
    assert Observation("pixels", 0).shape == (64, 64, 3)
    assert Observation("pixels+state", 48).shape == (65, 64, 3)
    assert Observation("pixels+state", 49).shape == (66, 64, 3)


@pytest.mark.parametrize(
    ("kind", "dim"), [("sound", 3), ("pixels", 3), ("state", 0), ("pixels+state", 0), ("state", -1)]
)
def test_what_makes_no_sense_in_a_file_is_refused(kind: str, dim: int) -> None:
    with pytest.raises(ValueError, match=f"no observation {kind.replace('+', '.')} of"):
        Observation.stored(kind, dim)

"""Each kernel's loop against what it is written as in torch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from telepath.dreamer import kernels
from telepath.dreamer.networks import symexp

BATCH, WIDTH, DETER, STOCH, ACTIONS = 7, 21, 19, 5, 3
SHAPES: dict[str, list[Any]] = {
    "norm_silu": [(BATCH, WIDTH), (WIDTH,), (WIDTH,), (WIDTH,), (BATCH, WIDTH), (BATCH,)],
    "norm_silu_back": [(BATCH, WIDTH), (BATCH, WIDTH), (BATCH,), (WIDTH,), (WIDTH,), (3, WIDTH)],
    "silu": [(BATCH, WIDTH), (BATCH, WIDTH)],
    "silu_back": [(BATCH, WIDTH), (BATCH, WIDTH)],
    "unsquash": [(BATCH, WIDTH), (WIDTH,), (WIDTH,)],
    "gru": [
        (BATCH, 3, DETER),
        (BATCH, 3, DETER),
        (3, DETER),
        (3, DETER),
        (BATCH, DETER + STOCH),
        (BATCH, DETER + STOCH),
        (BATCH, 4, DETER),
    ],
    "gru_back": [(BATCH, DETER), (BATCH, 4, DETER), (BATCH, DETER + STOCH), (BATCH, 3, DETER), (BATCH, 3, DETER)],
    "draw": [(BATCH, 2 * STOCH), (BATCH, STOCH), 0.1, (BATCH, DETER + STOCH)],
    "draw_back": [(BATCH, STOCH), (BATCH, 2 * STOCH), (BATCH, STOCH), (BATCH, 2 * STOCH)],
    "act": [
        (BATCH, 2 * ACTIONS),
        (BATCH, ACTIONS),
        0.1,
        1.0,
        (BATCH, DETER + STOCH),
        (BATCH, STOCH + ACTIONS),
        (BATCH,),
    ],
}
"""Arguments: the shapes of arrays, and numbers."""


def both(name: str, arguments: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """All arrays after the loop, and after the same in torch, in double precision."""
    looped = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
    written = [each.double() if isinstance(each, Tensor) else each for each in arguments]
    kernel = getattr(kernels, name)
    kernel(*looped)
    kernel(*written)
    return ([each for each in some if isinstance(each, Tensor)] for some in (looped, written))  # type: ignore[return-value]


def drawn(name: str, scale: float) -> list[Any]:
    torch.manual_seed(0)
    if name == "unsquash":
        scale = min(scale, 9.0)  # of larger ones the exponential is no float32
    return [scale * torch.randn(each) if isinstance(each, tuple) else each for each in SHAPES[name]]


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", SHAPES)
def test_the_loop_does_what_is_written_in_torch(name: str, scale: float) -> None:
    given = drawn(name, scale)
    looped, written = both(name, given)
    arrays = [each for each in given if isinstance(each, Tensor)]
    assert any(not torch.equal(before, after) for before, after in zip(arrays, looped, strict=True))
    for mine, theirs in zip(looped, written, strict=True):
        size = float(theirs.abs().max())
        torch.testing.assert_close(mine.double(), theirs, rtol=0, atol=3e-6 * size)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_not_a_number_stays_none_and_in_its_row(name: str) -> None:
    given = drawn(name, 1.0)
    given[0][2] = torch.nan
    for mine, theirs in zip(*both(name, given), strict=True):
        assert torch.isnan(mine).equal(torch.isnan(theirs))
        if len(mine) == BATCH:
            assert torch.isfinite(mine[[0, 1, 3, 4, 5, 6]]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_recurrent_state_needs_no_gates_kept(dtype: torch.dtype) -> None:
    *given, after, gates = (each.to(dtype) for each in drawn("gru", 1.0))
    kernels.gru(*given, after, gates)
    alone = torch.zeros_like(after)
    kernels.gru(*given, alone, gates[:1].clone())
    torch.testing.assert_close(alone[:, :DETER], after[:, :DETER], rtol=0, atol=0)


def test_the_widest_inputs_neither_overflow_nor_vanish() -> None:
    x = torch.tensor([[-1e4, -200.0, -88.0, -20.0, -1e-30, 0.0, 1e-30, 20.0, 88.0, 200.0, 1e4]])
    out = torch.empty_like(x)
    kernels.silu(x, out)
    torch.testing.assert_close(out, torch.nn.functional.silu(x), rtol=1e-5, atol=1e-30)
    after = torch.zeros(1, 12)
    kernels.draw(torch.cat([torch.zeros(1, 11), x], 1), torch.ones(1, 11), 0.0, after)
    torch.testing.assert_close(after[:, 1:], torch.nn.functional.softplus(x), rtol=1e-5, atol=1e-8)
    state = x.clone()
    kernels.unsquash(state, torch.ones(11), torch.zeros(11))
    torch.testing.assert_close(state, symexp(x), rtol=1e-5, atol=0)

"""DTW by anti-diagonals against the compiled kernel: the same costs, the same elites."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from telepath.alignment import diagonals
from telepath.alignment.diagonals import dtw_diagonals, dtw_tensors
from telepath.alignment.dtw import dtw_batch


def sequences(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 14),
    m=st.integers(1, 26),
    d=st.sampled_from([1, 3, 8, 24]),
    window=st.none() | st.integers(0, 12),
    slope=st.none() | st.sampled_from([0.1, 0.5, 2 / 3, 1.0, 1.3, 2.0, 7.0]),
    weighted=st.booleans(),
    open_begin=st.booleans(),
    open_end=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_the_kernel(
    n: int,
    m: int,
    d: int,
    window: int | None,
    slope: float | None,
    weighted: bool,
    open_begin: bool,
    open_end: bool,
    seed: int,
) -> None:
    x, y = sequences(seed, 2, n, d), sequences(seed + 1, 2, 5, m, d)
    weights = sequences(seed + 2, d).square().numpy() if weighted else None
    how: Any = {"open_begin": open_begin, "open_end": open_end, "slope": slope}
    expected = dtw_batch(x.numpy(), y.numpy(), window, weights, **how)
    np.testing.assert_allclose(dtw_diagonals(x, y, window, weights, **how).numpy(), expected, rtol=1e-4)
    np.testing.assert_array_equal(dtw_tensors(x, y, window, weights, **how).numpy(), expected)


def test_the_same_elites_of_a_population_near_the_reference() -> None:
    """Time-major as a rollout is, candidates as close as a search leaves them in the end."""
    x = sequences(1, 3, 12, 24)
    near = x.repeat_interleave(2, 1).unsqueeze(1) + 0.05 * sequences(2, 3, 64, 24, 24)
    rollout = near.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
    how = {"window": 9, "open_end": True, "slope": 2.0}
    cost, expected = dtw_diagonals(x, rollout, **how), dtw_batch(x.numpy(), rollout.numpy(), **how)  # type: ignore[arg-type]
    np.testing.assert_allclose(cost.numpy(), expected, rtol=1e-4)
    elites = cost.topk(10, dim=1, largest=False).indices.sort(1).values
    np.testing.assert_array_equal(elites.numpy(), np.sort(np.argsort(expected, 1)[:, :10], 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_candidate_costs_inf_and_harms_nobody(bad: float) -> None:
    x, y = sequences(1, 2, 7, 3), sequences(2, 2, 5, 9, 3)
    good = dtw_diagonals(x, y, 3, open_end=True)
    y[0, 2, 8, 1] = bad
    cost = dtw_diagonals(x, y, 3, open_end=True)
    assert cost[0, 2] == torch.inf
    good[0, 2] = torch.inf
    assert torch.equal(cost, good)
    x[1, 3, 0] = bad
    assert (dtw_diagonals(x, y)[1] == torch.inf).all()


def test_shapes_and_weights_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"expected x \(S, N, D\) .* got x \(2, 7, 3\) and y \(2, 5, 9, 4\)"):
        dtw_diagonals(sequences(1, 2, 7, 3), sequences(2, 2, 5, 9, 4))
    with pytest.raises(ValueError, match=r"weights: expected \(3,\) finite numbers, not negative, got \(2,\)"):
        dtw_diagonals(sequences(1, 2, 7, 3), sequences(2, 2, 5, 9, 3), weights=np.ones(2))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_refused_is_refused_on_every_device(device: str) -> None:
    x, y = sequences(1, 2, 7, 3).to(device), sequences(2, 2, 5, 9, 3).to(device)
    for bad in (torch.float64, torch.float16):
        with pytest.raises(ValueError, match=f"expected float32 tensors on one device, .* y {bad}"):
            dtw_tensors(x, y.to(bad))
    with pytest.raises(ValueError, match=r"expected x \(S, N, D\) with y \(S, B, M, D\)"):
        dtw_tensors(x[0], y[0])
    with pytest.raises(ValueError, match="at least one frame and dimension"):
        dtw_tensors(x[:, :0], y)
    with pytest.raises(ValueError, match="window: expected a whole number of at least 0, got '3'"):
        dtw_tensors(x, y, "3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="slope: expected candidate frames per reference frame, above 0, got '1'"):
        dtw_tensors(x, y, 3, slope="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"weights: expected \(3,\) finite numbers, not negative, got \['a'"):
        dtw_tensors(x, y, weights=["a", "b", "c"])  # type: ignore[arg-type]
    assert dtw_tensors(x[:0], y[:0]).shape == (0, 5)
    assert dtw_tensors(x, y[:, :0]).shape == (2, 0)


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on one device, got x torch\.float32 on meta and y torch\.float32 on cpu"):
        dtw_tensors(sequences(1, 2, 7, 3).to("meta"), sequences(2, 2, 5, 9, 3))


def test_a_gradient_is_no_hindrance() -> None:
    x, y = sequences(1, 2, 7, 3), sequences(2, 2, 5, 9, 3)
    assert torch.equal(dtw_tensors(x.requires_grad_(), y), dtw_tensors(x.detach(), y))


def test_the_kernel_on_the_host_and_tensors_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sequences(1, 2, 7, 3), sequences(2, 2, 5, 9, 3)
    np.testing.assert_array_equal(dtw_tensors(x, y, 3).numpy(), dtw_batch(x.numpy(), y.numpy(), 3))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the kernel cannot read another device")

    # The meta device has no memory at all: whatever touches a value there, or takes it to the host, raises.
    monkeypatch.setattr(diagonals, "dtw_batch", refuse)
    cost = dtw_tensors(x.to("meta"), y.to("meta"), 3, np.ones(3), open_begin=True, open_end=True, slope=1.2)
    assert cost.device.type == "meta"
    assert cost.shape == (2, 5)

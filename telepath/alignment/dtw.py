"""Exact dynamic time warping of many candidates at once.

For a reference x (N, D), a candidate y (M, D) and weights w (D,), the local cost of a cell and the
cumulative cost of the cheapest warping path that leads to it are

    c(i, j) = sum_d w_d (x_id - y_jd)^2
    C(i, j) = c(i, j) + min(C(i-1, j-1), C(i-1, j), C(i, j-1))        C = inf outside the table and the band
    cost    = C(N-1, M-1)

without root and without normalisation (Sakoe & Chiba 1978). Open ends follow subsequence DTW (Mueller 2007,
Information Retrieval for Music and Motion, chapter 4). The reference is consumed whole in any case:

    open_begin   the candidate may start late: C(0, j) = c(0, j) for every j of row 0
    open_end     the candidate may end early: cost = min over j of C(N-1, j), the earliest j among equals

*Band.* Without ``slope``, a path uses the cells with |i - j| <= max(window, |N - M|). With it, for sequences that
run at different rates (``slope`` candidate frames for each reference frame), a path uses the cells with
|j - slope i| <= radius: the radius, in candidate frames, is the smallest whole number not below ``window`` for
which a path exists. The band limits open ends as well: a candidate starts late, or ends early, by what the band
allows in row 0, or in row N-1. Without ``window`` there is no band and the slope does nothing.

*Values that are not finite.* A pair with a NaN or an infinity anywhere in its reference or candidate costs +inf,
whether a path would touch it or not, and has no warping path. Its neighbours keep their bits.

*Reproducibility.* A cost depends on its own reference and candidate alone: not on the neighbours in the batch, on
the strides of the arrays or on the number of threads. The last bits may differ between kinds of processor.

Letters: B batch, S segments or stored sequences, W query windows, C candidates of a window, N reference length,
M candidate length, D observation dim, F frames, L path length. All sequences are float32.
"""

import contextlib
import math
import numbers
import operator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from telepath.alignment.lanes import LANES, warp
from telepath.episodes import Array


class Paths(NamedTuple):
    """Warping paths of (W, C) pairs.

    path: (W, C, N + M - 1, 2) int32, columns (i, j), the last pair repeated behind a path's end;
    length: (W, C) int64, 0 where values are not finite; cost: (W, C) float32.
    """

    path: Array
    length: Array
    cost: Array


def dtw_batch(
    x: Array,
    y: Array,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
    threads: int = 1,
) -> Array:
    """Costs of warping a batch of candidates onto their reference: (B,) float32.

    x: reference (N, D), y: candidates (B, M, D). Or S references at once: x (S, N, D), y (S, B, M, D) -> (S, B).
    ``y`` is read by its strides and not copied: pass a time-major rollout (M, B, D) as ``y.transpose(1, 0, 2)``.
    weights: (D,), not negative. The module's docstring defines window, slope and open ends.

    Raises ``ValueError`` for other shapes and types, empty sequences, and negative windows or weights.
    """
    _check_float32("x", x)
    _check_float32("y", y)
    if x.ndim not in (2, 3) or y.ndim != x.ndim + 1:
        raise ValueError(
            f"expected x (N, D) with y (B, M, D), or x (S, N, D) with y (S, B, M, D), got x {x.shape} and y {y.shape}"
        )
    if x.ndim == 2:
        x, y, shape = x[None], y[None], y.shape[:1]
    else:
        shape = y.shape[:2]
    if len(x) != len(y):
        raise ValueError(f"expected as many references x as groups of candidates y, got {len(x)} and {len(y)}")
    index = np.broadcast_to(np.arange(y.shape[1]), y.shape[:2])
    task = _task(x, y, index, window, weights, open_begin, open_end, slope)
    return _costs(task, threads).reshape(shape)


def dtw_pairs(
    x: Array,
    y: Array,
    pairs: Array,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
    threads: int = 1,
) -> Array:
    """Costs of warping chosen sequences of a pool onto query windows: (W, C) float32.

    x: windows (W, N, D), each of them a reference; y: pool (S, M, D); pairs: (W, C) integers, in row w the pool's
    sequences that window w is compared with; none of them is copied. With both ends open this is subsequence
    DTW. Options and errors as in ``dtw_batch``.
    """
    return _costs(_pairs_task(x, y, pairs, window, weights, open_begin, open_end, slope), threads)


def dtw_paths(
    x: Array,
    y: Array,
    pairs: Array,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
    threads: int = 1,
) -> Paths:
    """Warping paths of chosen pairs. Arguments as in ``dtw_pairs``, and the same costs to the last bit.

    Between equal predecessors a path takes the diagonal, then (i-1, j), then (i, j-1).
    """
    task = _pairs_task(x, y, pairs, window, weights, open_begin, open_end, slope)
    shape = task.chosen.shape
    longest = task.x.shape[1] + task.y.shape[2] - 1
    path, length = np.zeros((*shape, longest, 2), np.int32), np.zeros(shape, np.int64)
    return Paths(path, length, _costs(task, threads, path, length))


def dtw_path(
    x: Array,
    y: Array,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
) -> tuple[Array, float]:
    """The warping path (L, 2) int32 of one candidate onto one reference, and its cost.

    x: (N, D), y: (M, D). Column 0 of the path indexes the reference, column 1 the candidate. Between equal
    predecessors it takes the diagonal, then (i-1, j), then (i, j-1). Values that are not finite give an empty
    path and an infinite cost. Options and errors as in ``dtw_batch``, and the same cost to the last bit.
    """
    if np.ndim(x) != 2 or np.ndim(y) != 2:
        raise ValueError(f"expected x (N, D) and y (M, D), got x {np.shape(x)} and y {np.shape(y)}")
    pair = np.zeros((1, 1), np.int64)
    path, length, cost = dtw_paths(
        np.asarray(x)[None],
        np.asarray(y)[None],
        pair,
        window,
        weights,
        open_begin=open_begin,
        open_end=open_end,
        slope=slope,
    )
    return path[0, 0, : length[0, 0]], float(cost[0, 0])


def nearest(frames_x: Array, frames_y: Array, count: int) -> Array:
    """The ``count`` nearest pool entries of every window by a few frames: (W, count) int64, nearest first.

    frames_x: (W, F, D), frames_y: (S, F, D), the same F moments of windows and pool, say start, middle and end.
    The distance is the sum of squared differences; entries with values that are not finite come last. Raises
    ``ValueError`` for shapes that do not fit, and unless 1 <= count <= S.
    """
    for name, frames in (("frames_x", frames_x), ("frames_y", frames_y)):
        _check_float32(name, frames)
        if frames.ndim != 3:
            raise ValueError(f"{name}: expected three axes (windows or pool, F, D), got {frames.shape}")
    if frames_x.shape[1:] != frames_y.shape[1:]:
        raise ValueError(
            f"expected frames_x and frames_y with the same F and D, got {frames_x.shape} and {frames_y.shape}"
        )
    size = len(frames_y)
    count = _whole("count", count, 1, size)
    # |x - y|^2 without |x|^2, which does not change the order. In float64, as the rest may nearly cancel.
    width = math.prod(frames_y.shape[1:])
    queries = frames_x.reshape(len(frames_x), width).astype(np.float64)
    pool = frames_y.reshape(size, width).astype(np.float64)
    square = np.einsum("sk,sk->s", pool, pool)
    found = np.empty((len(queries), count), np.int64)
    lot = max(1, _DISTANCES // size)
    for begin in range(0, len(queries), lot):
        with np.errstate(invalid="ignore"):  # what is not finite has no distance, and comes last
            distance = square - 2 * queries[begin : begin + lot] @ pool.T
        near = np.sort(np.argpartition(distance, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(np.take_along_axis(distance, near, 1), axis=1, kind="stable")
        found[begin : begin + lot] = np.take_along_axis(near, order, 1)
    return found


_DISTANCES = 2**22
"""Distances that ``nearest`` holds at a time: 32 MB."""


# ----------------------------------------------------------------------------------------------------------
# From arguments to a task


class _Task(NamedTuple):
    """Reference x[s] and candidates y[s, chosen[s, b]] for all s and b; cells first[i] <= j <= last[i] of row i."""

    x: Array  # (S, N, D), contiguous
    y: Array  # (S, any, M, D), any strides
    chosen: Array  # (S, B)
    weights: Array  # (D,), or (0,) for none
    first: Array  # (N,), ascending
    last: Array  # (N,), ascending
    open_begin: bool
    open_end: bool


def _pairs_task(x: Array, y: Array, pairs: Array, *options: Any) -> _Task:
    _check_float32("x", x)
    _check_float32("y", y)
    if x.ndim != 3 or y.ndim != 3:
        raise ValueError(f"expected x (W, N, D) and y (S, M, D), got x {x.shape} and y {y.shape}")
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or len(pairs) != len(x) or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"pairs: expected ({len(x)}, C) integers, got {pairs.shape} {pairs.dtype}")
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(y):
        raise ValueError(f"pairs: expected 0 to {len(y) - 1}, got {pairs.min()} to {pairs.max()}")
    return _task(x, np.broadcast_to(y, (len(x), *y.shape)), pairs, *options)


def _task(
    x: Array,
    y: Array,
    index: Array,
    window: int | None,
    weights: Array | None,
    open_begin: bool,
    open_end: bool,
    slope: float | None,
) -> _Task:
    """Check what all calls have in common."""
    if 0 in x.shape[-2:] or 0 in y.shape[-2:]:
        raise ValueError(
            "expected x and y with at least one frame and dimension, "
            f"got (N, D) = {x.shape[-2:]} and (M, D) = {y.shape[-2:]}"
        )
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"expected x and y with the same D, got {x.shape[-1]} and {y.shape[-1]}")
    first, last = band(x.shape[-2], y.shape[-2], window, slope, open_end)
    weights = check_weights(weights, x.shape[-1])
    # By a copy where need be: one type of array, so one compiled version.
    x, chosen = np.require(x, None, ["C", "A", "W"]), np.require(index, np.int64, ["C", "A", "W"])
    return _Task(x, y, chosen, weights, first, last, bool(open_begin), bool(open_end))


def _check_float32(name: str, array: Array) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise ValueError(f"{name}: expected a float32 array, got {getattr(array, 'dtype', type(array).__name__)}")


def check_weights(weights: Array | None, dim: int) -> Array:
    """``weights`` as float32, (D,), or (0,) for none; a ``ValueError`` where ``dtw_batch`` would not take them."""
    if weights is None:
        return np.empty(0, np.float32)
    try:
        checked = np.array(weights, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"weights: expected ({dim},) finite numbers, not negative, got {weights!r}") from None
    if checked.shape != (dim,) or not (np.isfinite(checked) & (checked >= 0)).all():
        raise ValueError(f"weights: expected ({dim},) finite numbers, not negative, got {checked.shape} {checked}")
    return checked


def _whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """``value`` as an int, if it is a whole number from ``least`` to ``most``."""
    with contextlib.suppress(TypeError):
        number = operator.index(value)
        if least <= number and (most is None or number <= most):
            return number
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name}: expected a whole number {limits}, got {value!r}")


def window_of(share: float, length: int) -> int:
    """The window, in frames, that is a ``share`` of a ``length``: at least 2, but for no share the diagonal alone."""
    return max(2, round(share * length)) if share > 0 else 0


def band(n: int, m: int, window: int | None, slope: float | None, open_end: bool) -> tuple[Array, Array]:
    """First and last candidate frame of every row (N,), both ascending, such that a path exists."""
    if slope is not None and not (isinstance(slope, numbers.Real) and math.isfinite(slope) and slope > 0):
        raise ValueError(f"slope: expected candidate frames per reference frame, above 0, got {slope!r}")
    if window is None:
        return np.zeros(n, np.int64), np.full(n, m - 1, np.int64)
    radius = _whole("window", window, 0)
    if slope is None:
        return _rows(n, m, 1.0, max(radius, abs(n - m)))
    beyond = slope * (n - 1) - (m - 1)  # how far the line passes the candidate's last frame
    radius = max(radius, math.ceil(max(beyond, 0.0 if open_end else -beyond) - _ROUNDING))
    while True:  # a row may miss all frames, or the row below it: about slope / 2 frames are needed at most
        first, last = _rows(n, m, slope, radius)
        if (first <= last).all() and (first[1:] <= last[:-1] + 1).all():
            return first, last
        radius += 1


_ROUNDING = 1e-9
"""A slope of 1/49 is not exact: cells that meet the radius up to rounding are inside."""


def _rows(n: int, m: int, slope: float, radius: int) -> tuple[Array, Array]:
    """First and last frame within ``radius`` of the line j = slope i, for every row i."""
    line = slope * np.arange(n)
    first = np.clip(np.ceil(line - radius - _ROUNDING), 0, m)
    last = np.clip(np.floor(line + radius + _ROUNDING), -1, m - 1)
    return first.astype(np.int64), last.astype(np.int64)


def _costs(task: _Task, threads: int, path: Array | None = None, length: Array | None = None) -> Array:
    """Costs (S, B), and paths if asked for: tiles of 16 candidates, dealt out to threads in contiguous lots."""
    threads = _whole("threads", threads, 1)
    x, y, *how = task
    cost = np.empty(task.chosen.shape, np.float32)
    if path is None or length is None:
        path, length = np.empty((0, 0, 0, 0), np.int32), np.empty((0, 0), np.int64)
    finite, frames = np.isfinite(x).all(axis=(1, 2)), y.shape[2]
    address = y.__array_interface__["data"][0]

    def run(begin: int, end: int) -> None:
        warp(x, finite, address, y.strides, frames, *how, begin, end, cost, path, length)

    tiles = len(x) * -(-task.chosen.shape[1] // LANES)
    if threads == 1 or tiles < 2:
        run(0, tiles)
        return cost
    # More lots than threads: one on a busy core must not hold up the others.
    bounds = np.linspace(0, tiles, min(tiles, 4 * threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
    return cost

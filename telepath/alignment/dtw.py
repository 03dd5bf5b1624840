"""Exact dynamic time warping of many candidates at once.

For a reference x (N, D), a candidate y (M, D) and weights w (D,), the local cost of a cell and the cumulative cost of
the cheapest warping path that leads to it are

    c(i, j) = sum_d w_d (x_id - y_jd)^2
    C(i, j) = c(i, j) + min(C(i-1, j-1), C(i-1, j), C(i, j-1))          C = inf outside the table and the band
    cost    = C(N-1, M-1)

without root and without normalisation (Sakoe & Chiba 1978). Open ends follow subsequence DTW (Mueller 2007, Information
Retrieval for Music and Motion, chapter 4). The reference is consumed whole in any case:

    open_begin   the candidate may start late: C(0, j) = c(0, j) for every j of row 0
    open_end     the candidate may end early: cost = min over j of C(N-1, j), the earliest j among equals

*Band.* Without ``slope``, a path uses the cells with |i - j| <= max(window, |N - M|). With it, sequences that run at
different rates (``slope`` candidate frames for each reference frame) use |j - slope i| <= radius, where the radius, in
candidate frames, is the smallest whole number not below ``window`` for which a path exists. The band limits open ends as
well: a candidate starts late, or ends early, by what row 0, or row N-1, of the band allows. Without ``window`` there is
no band and the slope does nothing.

*Values that are not finite.* A pair with a NaN or an infinity anywhere in its reference or candidate costs +inf, whether
the path touches it or not, and has no warping path. Its neighbours are not affected.

*Reproducibility.* A cost depends on its own reference and candidate alone: not on the neighbours in the batch, on the
strides of the arrays or on the number of threads.

Letters: B batch, S segments or stored sequences, W query windows, C candidates of a window, N reference length,
M candidate length, D observation dim, F frames, L path length. All sequences are float32.
"""

import contextlib
import math
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from telepath.episodes import Array

LANES = 16
"""Candidates that are warped together, one in each lane of a vector."""


class Paths(NamedTuple):
    """Warping paths of (W, C) pairs.

    path (W, C, N + M - 1, 2) int32, columns (i, j), rows behind a path's end repeat its last pair; length (W, C) int64,
    0 where the cost is infinite for want of finite values; cost (W, C) float32.
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

    x: reference (N, D), y: candidates (B, M, D); or, for S references at once, x (S, N, D), y (S, B, M, D) -> (S, B).
    ``y`` is read by its strides and never copied whole: a time-major rollout (M, B, D) is passed as
    ``y.transpose(1, 0, 2)``. weights: (D,), not negative. The module's docstring defines window, slope and open ends.

    Raises ``ValueError`` for other shapes and types, empty sequences and negative windows or weights.
    """
    if np.ndim(x) not in (2, 3) or np.ndim(y) != np.ndim(x) + 1:
        raise ValueError(
            "expected x (N, D) with y (B, M, D), or x (S, N, D) with y (S, B, M, D), "
            f"got x {np.shape(x)} and y {np.shape(y)}"
        )
    single = x.ndim == 2
    if single:
        x, y = x[None], y[None]
    if len(x) != len(y):
        raise ValueError(
            f"x and y: expected as many references as groups of candidates, got {len(x)} and {len(y)}"
        )
    index = np.broadcast_to(np.arange(y.shape[1]), y.shape[:2])
    task = _task(x, y, index, window, weights, open_begin, open_end, slope)
    cost = _run(task, threads)
    return cost[0] if single else cost


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

    x: windows (W, N, D), each a reference; y: pool (S, M, D); pairs: (W, C) integers, row w the pool indices that
    window w is compared with. With both ends open this is subsequence DTW. Options and errors as in ``dtw_batch``.
    """
    return _run(_pairs_task(x, y, pairs, window, weights, open_begin, open_end, slope), threads)


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
) -> Paths:
    """Costs *and warping paths* of chosen pairs; arguments as in ``dtw_pairs``. Costs agree with it to the last bit."""
    task = _pairs_task(x, y, pairs, window, weights, open_begin, open_end, slope)
    groups, count = task.index.shape
    cost = np.empty((groups, count), np.float32)
    length = np.empty((groups, count), np.int64)
    path = np.zeros((groups, count, task.x.shape[1] + task.y.shape[2] - 1, 2), np.int32)
    _warp_paths(*task, cost, path, length)
    return Paths(path, length, cost)


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

    x: (N, D), y: (M, D). Column 0 indexes the reference, column 1 the candidate. Between equal predecessors the path
    takes the diagonal, then (i-1, j), then (i, j-1). Values that are not finite give an empty path and an infinite cost.
    Options and errors as in ``dtw_batch``, and the same cost to the last bit.
    """
    if np.ndim(x) != 2 or np.ndim(y) != 2:
        raise ValueError(f"expected x (N, D) and y (M, D), got x {np.shape(x)} and y {np.shape(y)}")
    one = np.zeros((1, 1), np.int64)
    paths = dtw_paths(
        x[None], y[None], one, window, weights, open_begin=open_begin, open_end=open_end, slope=slope
    )
    return paths.path[0, 0, : paths.length[0, 0]], float(paths.cost[0, 0])


_LOT = 2**22  # distances at a time in ``nearest``: 32 MB


def nearest(frames_x: Array, frames_y: Array, count: int) -> Array:
    """The ``count`` nearest pool entries of every window by representative frames: (W, count) int64, nearest first.

    frames_x: (W, F, D), frames_y: (S, F, D), the same F moments of windows and pool, say start, middle and end. The
    distance is the sum of squared differences; frames with values that are not finite come last. Raises ``ValueError``
    unless 1 <= count <= S.
    """
    _check_sequences("frames_x", frames_x, "(W, F, D)")
    _check_sequences("frames_y", frames_y, "(S, F, D)")
    if frames_x.shape[1:] != frames_y.shape[1:]:
        raise ValueError(
            f"expected frames_x and frames_y with the same F and D, got {frames_x.shape} and {frames_y.shape}"
        )
    size = len(frames_y)
    count = _whole("count", count, 1, size)
    # |x - y|^2 less |x|^2, which does not change the order. float64, because the other two terms may nearly cancel.
    queries = frames_x.reshape(len(frames_x), -1).astype(np.float64)
    pool = frames_y.reshape(size, -1).astype(np.float64)
    square = np.einsum("sk,sk->s", pool, pool)
    found = np.empty((len(queries), count), np.int64)
    lot = max(1, _LOT // size)
    for begin in range(0, len(queries), lot):
        distance = square - 2 * queries[begin : begin + lot] @ pool.T
        near = np.sort(np.argpartition(distance, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(np.take_along_axis(distance, near, 1), axis=1, kind="stable")
        found[begin : begin + lot] = np.take_along_axis(near, order, 1)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# From arguments to a task: checks and the band


class _Task(NamedTuple):
    """Reference x[s] against candidates y[s, index[s, b]], for all s and b, in cells first[i] <= j <= last[i] of row i."""

    x: Array  # (S, N, D)
    y: Array  # (S, anything, M, D), any strides
    index: Array  # (S, B) int64
    weights: Array  # (D,), or (0,) for none
    first: Array  # (N,) int64, ascending
    last: Array  # (N,) int64, ascending
    open_begin: bool
    open_end: bool


def _pairs_task(x: Array, y: Array, pairs: Array, *options: Any) -> _Task:
    if np.ndim(x) != 3 or np.ndim(y) != 3:
        raise ValueError(f"expected x (W, N, D) and y (S, M, D), got x {np.shape(x)} and y {np.shape(y)}")
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or len(pairs) != len(x) or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"pairs: expected ({len(x)}, C) integers, got {pairs.shape} {pairs.dtype}")
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(y):
        raise ValueError(
            f"pairs: expected indices from 0 to {len(y) - 1}, got {pairs.min()} to {pairs.max()}"
        )
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
    _check_sequences("x", x, "(..., N, D)")
    _check_sequences("y", y, "(..., M, D)")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"expected x and y with the same D, got {x.shape[-1]} and {y.shape[-1]} (x {x.shape}, y {y.shape})"
        )
    first, last = _band(x.shape[1], y.shape[2], window, slope, open_end)
    return _Task(
        _frozen(np.ascontiguousarray(x)),
        _frozen(y),
        _frozen(np.ascontiguousarray(index, np.int64)),
        _check_weights(weights, x.shape[-1]),
        first,
        last,
        bool(open_begin),
        bool(open_end),
    )


def _frozen(array: Array) -> Array:
    """A read-only view: one array type for the compiled code, whatever the caller's flags."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_sequences(name: str, array: Array, shape: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise ValueError(
            f"{name}: expected a float32 array, got {getattr(array, 'dtype', type(array).__name__)}"
        )
    if shape[1] != "." and array.ndim != shape.count(",") + 1:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if 0 in array.shape[-2:]:
        raise ValueError(
            f"{name}: expected {shape} with at least one frame and one dimension, got {array.shape}"
        )


def _whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """``value`` as an int, if it is a whole number from ``least`` to ``most``."""
    with contextlib.suppress(TypeError):
        number = operator.index(value)
        if least <= number and (most is None or number <= most):
            return number
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name}: expected a whole number {limits}, got {value}")


def _check_weights(weights: Array | None, dim: int) -> Array:
    if weights is None:
        return np.empty(0, np.float32)
    weights = np.array(weights, np.float32)
    if weights.shape != (dim,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"weights: expected ({dim},) finite numbers that are not negative, got {weights.shape} {weights}"
        )
    return weights


def _band(n: int, m: int, window: int | None, slope: float | None, open_end: bool) -> tuple[Array, Array]:
    """First and last candidate frame of every row, both ascending, such that a path exists."""
    if slope is not None and not (math.isfinite(slope) and slope > 0):
        raise ValueError(
            f"slope: expected a positive number of candidate frames per reference frame, got {slope}"
        )
    if window is None:
        return np.zeros(n, np.int64), np.full(n, m - 1, np.int64)
    radius = _whole("window", window, 0)
    if slope is None:
        return _rows_of_band(n, m, 1.0, max(radius, abs(n - m)))
    beyond = slope * (n - 1) - (m - 1)  # how far the line passes the last frame of the candidate
    radius = max(radius, math.ceil(max(beyond, 0.0 if open_end else -beyond) - _SLACK))
    while True:
        first, last = _rows_of_band(n, m, slope, radius)
        if (first <= last).all() and (first[1:] <= last[:-1] + 1).all():
            return first, last
        radius += 1


_SLACK = 1e-9  # a slope such as 1/49 is not exact: a cell that meets the radius up to rounding is inside


def _rows_of_band(n: int, m: int, slope: float, radius: int) -> tuple[Array, Array]:
    line = slope * np.arange(n)
    first = np.clip(np.ceil(line - radius - _SLACK), 0, m).astype(np.int64)
    last = np.clip(np.floor(line + radius + _SLACK), -1, m - 1).astype(np.int64)
    return first, last


def _run(task: _Task, threads: int) -> Array:
    """Costs (S, B): tiles of up to 16 candidates with one reference, dealt out to threads in contiguous lots."""
    threads = _whole("threads", threads, 1)
    cost = np.empty(task.index.shape, np.float32)
    tiles = len(task.x) * -(-task.index.shape[1] // LANES)
    if threads == 1 or tiles < 2:
        _warp(*task, 0, tiles, cost)
        return cost
    # More lots than threads, so that a thread on a busy core does not hold up the others.
    bounds = np.linspace(0, tiles, min(tiles, 4 * threads) + 1).astype(np.int64)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda begin, end: _warp(*task, begin, end, cost), bounds[:-1], bounds[1:]))
    return cost


# ---------------------------------------------------------------------------------------------------------------------
# The compiled part


def _compiled(function: Callable) -> Any:
    """Numba without the GIL, cached on disk where some directory can be written.

    No 'nnan' and no 'ninf': the code relies on both. No 'reassoc': sums keep their order, so costs keep their bits.
    """
    options = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache directory is writable
        return njit(**options)(function)


@_compiled
def _pack(y: Array, index: Array, packed: Array, finite: Array) -> int:
    """Up to 16 candidates y[index[b]] side by side, (M, D, 16); spare lanes repeat the last one. -> lanes in use."""
    used = min(len(index), LANES)
    _, frames, dim = packed.shape[2], packed.shape[0], packed.shape[1]
    for lane in range(LANES):
        b = index[min(lane, used - 1)]
        zero = np.float32(0)
        for j in range(frames):
            for d in range(dim):
                value = y[b, j, d]
                packed[j, d, lane] = value
                zero += value * np.float32(0)  # NaN from the first value on that is not finite
        finite[lane] = zero == 0
    return used


@_compiled
def _is_finite(x: Array) -> bool:
    zero = np.float32(0)
    for value in x.flat:
        zero += value * np.float32(0)
    return zero == 0


@_compiled
def _start(row: Array, last: int, open_begin: bool) -> None:
    """Row -1 of the table, column -1 at row[0]: a path comes from (-1, -1), or from all of the row if begin is open."""
    row[:] = np.inf
    row[: last + 2 if open_begin else 1] = 0


@_compiled
def _next_row(x: Array, packed: Array, weights: Array, first: int, last: int, row: Array) -> None:
    """Turn row i - 1 of the cumulative costs into row i, in place; row[j + 1] holds the 16 costs C(i, j)."""
    local, left, corner = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    left[:] = np.inf
    corner[:] = row[first]
    row[first] = np.inf  # column first - 1 has left the band, for this row and all that follow
    for j in range(first, last + 1):
        local[:] = 0
        for d in range(len(x)):
            if len(weights):
                for lane in range(LANES):
                    gap = x[d] - packed[j, d, lane]
                    local[lane] += (weights[d] * gap) * gap
            else:
                for lane in range(LANES):
                    gap = x[d] - packed[j, d, lane]
                    local[lane] += gap * gap
        for lane in range(LANES):
            up = row[j + 1, lane]
            best = corner[lane]
            best = up if up < best else best
            best = left[lane] if left[lane] < best else best
            corner[lane] = up
            left[lane] = best + local[lane]
            row[j + 1, lane] = left[lane]


@_compiled
def _warp(
    x: Array,
    y: Array,
    index: Array,
    weights: Array,
    first: Array,
    last: Array,
    open_begin: bool,
    open_end: bool,
    begin: int,
    end: int,
    cost: Array,
) -> None:
    """Costs of the tiles begin <= t < end; see ``_Task``."""
    length, dim, frames = x.shape[1], x.shape[2], y.shape[2]
    tiles = -(-index.shape[1] // LANES)
    packed = np.empty((frames, dim, LANES), np.float32)
    row = np.empty((frames + 1, LANES), np.float32)
    finite = np.empty(LANES, np.bool_)
    for tile in range(begin, end):
        s, b = tile // tiles, tile % tiles * LANES
        used = _pack(y[s], index[s, b:], packed, finite)
        _start(row, last[0], open_begin)
        for i in range(length):
            _next_row(x[s, i], packed, weights, first[i], last[i], row)
        known = _is_finite(x[s])
        for lane in range(used):
            j = first[-1] + np.argmin(row[first[-1] + 1 : last[-1] + 2, lane]) if open_end else last[-1]
            cost[s, b + lane] = row[j + 1, lane] if known and finite[lane] else np.inf


@_compiled
def _warp_paths(
    x: Array,
    y: Array,
    index: Array,
    weights: Array,
    first: Array,
    last: Array,
    open_begin: bool,
    open_end: bool,
    cost: Array,
    path: Array,
    length: Array,
) -> None:
    """As ``_warp``, with all rows kept and traced back."""
    rows, dim, frames = x.shape[1], x.shape[2], y.shape[2]
    packed = np.empty((frames, dim, LANES), np.float32)
    row = np.empty((frames + 1, LANES), np.float32)
    table = np.empty((rows + 1, frames + 1, LANES), np.float32)
    finite = np.empty(LANES, np.bool_)
    for s in range(len(x)):
        known = _is_finite(x[s])
        for b in range(0, index.shape[1], LANES):
            used = _pack(y[s], index[s, b:], packed, finite)
            _start(row, last[0], open_begin)
            table[0] = row
            for i in range(rows):
                _next_row(x[s, i], packed, weights, first[i], last[i], row)
                # Cells to the left of the band keep older rows' values in ``row``.
                table[i + 1, : first[i] + 1] = np.inf
                table[i + 1, first[i] + 1 :] = row[first[i] + 1 :]
            for lane in range(used):
                if known and finite[lane]:
                    j = (
                        first[-1] + np.argmin(row[first[-1] + 1 : last[-1] + 2, lane])
                        if open_end
                        else last[-1]
                    )
                    cost[s, b + lane] = row[j + 1, lane]
                    length[s, b + lane] = _trace(table[:, :, lane], j, open_begin, path[s, b + lane])
                else:
                    cost[s, b + lane] = np.inf
                    length[s, b + lane] = 0


@_compiled
def _trace(table: Array, j: int, open_begin: bool, path: Array) -> int:
    """The path to (N-1, j), written forwards; C(i, j) is table[i + 1, j + 1]. -> its length."""
    i, end = len(table) - 2, len(path)
    at = end
    while True:
        at -= 1
        path[at, 0], path[at, 1] = i, j
        if i == 0 and (open_begin or j == 0):
            break
        corner, up, left = table[i, j], table[i, j + 1], table[i + 1, j]
        # In row 0 and column 0 one way is left, even if all costs have overflowed to inf.
        if i > 0 and j > 0 and corner <= up and corner <= left:
            i, j = i - 1, j - 1
        elif i > 0 and (j == 0 or up <= left):
            i -= 1
        else:
            j -= 1
    length = end - at
    path[:length] = path[at:].copy()
    path[length:] = path[length - 1]
    return length

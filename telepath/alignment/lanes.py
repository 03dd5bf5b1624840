"""The compiled core of ``dtw``: sixteen candidates at once, one in each lane of a vector.

The sixteen costs of one cell stand side by side in a vector of float32. The recursion has no branch that depends
on data, so the same instructions fill sixteen tables, and no lane ever looks at another one.

The time goes into the local costs: two instructions, difference and square-and-add, for each cell and dimension.
Four measures keep the arithmetic units fed.

    pack    a tile of 16 candidates is transposed once, so that dimension d of frame j of all of them is one load
    rows    four rows of the table are filled together, so that each loaded vector is used four times
    strips  the table is filled in strips of so few columns that their packed frames stay in the nearest cache
    fetch   while a strip is filled, the frames of the next one are on their way from memory

Compiled functions pass addresses, not arrays, to each other: an array brings a reference count along, whose
upkeep costs more than the work in the innermost loop. The vectors are LLVM's, which splits them where the
machine's are shorter.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from telepath.episodes import Array
from telepath.runtime.compiled import compiled

LANES = 16
"""Candidates in a tile."""

_ROWS = 4
_STRIP_BYTES = 24 * 1024  # packed frames of a strip, at most: they share the nearest cache with the rest
_NEAR_BYTES = 16 * 1024  # frames of the next strip that have room there as well
_STRIP_LEAST = 8  # columns of a strip, however large its frames

# ----------------------------------------------------------------------------------------------------------
# Vectors in compiled code


_intrinsic: Any = extending.intrinsic  # untyped: callers do not pass the first parameter, the typing context


class _VectorType(types.Type):
    """Sixteen float32 in a register, with +, - and * lane by lane."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


_vector = _VectorType()
_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _VECTOR)


def _arithmetic(operation: Callable, instruction: str) -> None:
    @infer_global(operation)
    class _Typing(ConcreteTemplate):
        cases = [signature(_vector, _vector, _vector)]  # noqa: RUF012

    @lower_builtin(operation, _vector, _vector)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _constant(number: float) -> Any:
    @_intrinsic
    def constant(typing: Any) -> Any:
        return _vector(), lambda context, builder, sig, args: ir.Constant(_VECTOR, [number] * LANES)

    return constant


_zero, _inf = _constant(0.0), _constant(float("inf"))


@_intrinsic
def _multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the machine can."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return builder.call(fused, args)

    return _vector(_vector, _vector, _vector), lower


@_intrinsic
def _minimum(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of two costs, NaN counting as larger than inf.

    Costs have no sign, so their order is that of their bits as whole numbers, whose minimum is as fast as any
    instruction can be and leaves the units alone that subtract.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), LANES)
        bits = [builder.bitcast(number, kind) for number in args]
        return builder.bitcast(builder.select(builder.icmp_unsigned("<", *bits), *bits), _VECTOR)

    return _vector(_vector, _vector), lower


def _pointer(builder: Any, address: Any, kind: ir.Type, position: Any, size: int) -> Any:
    """Pointer to the ``position``-th thing of ``size`` bytes behind an address."""
    offset = builder.mul(position, ir.Constant(_LONG, size))
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


@_intrinsic
def _load(typing: Any, address: Any, k: Any) -> Any:
    """The k-th vector behind an address."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], _VECTOR, args[1], 4 * LANES), align=4)

    return _vector(types.int64, types.int64), lower


@_intrinsic
def _store(typing: Any, address: Any, k: Any, value: Any) -> Any:
    """Write the k-th vector behind an address."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(builder, args[0], _VECTOR, args[1], 4 * LANES), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, _vector), lower


@_intrinsic
def _broadcast(typing: Any, address: Any, k: Any) -> Any:
    """The k-th float32 behind an address, in all lanes."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(_pointer(builder, args[0], _FLOAT, args[1], 4), align=4)
        single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_LONG, 0))
        return _shuffle(builder, single, single, [0] * LANES)

    return _vector(types.int64, types.int64), lower


@_intrinsic
def _integer(typing: Any, address: Any, k: Any) -> Any:
    """The k-th int64 behind an address."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], _LONG, args[1], 8), align=8)

    return types.int64(types.int64, types.int64), lower


def _fetcher(nearness: int) -> Any:
    @_intrinsic
    def fetch(typing: Any, address: Any) -> Any:
        """Have the cache line at an address brought near, without waiting for it."""

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
            instruction = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            flags = [ir.Constant(flag, value) for value in (0, nearness, 1)]  # to read, how near, data
            builder.call(instruction, [builder.inttoptr(args[0], pointer), *flags])
            return context.get_dummy_value()

        return types.void(types.int64), lower

    return fetch


_fetch_near, _fetch_nearest = _fetcher(2), _fetcher(3)  # the second cache, the first


@_intrinsic
def _gather(typing: Any, addresses: Any, offset: Any) -> Any:
    """One float32 each, ``offset`` bytes behind each of 16 addresses."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        gathered = ir.Constant(_VECTOR, ir.Undefined)
        for lane, pointer in enumerate(_pointers(builder, args[0], args[1], _FLOAT)):
            value = builder.load(pointer, align=1)
            gathered = builder.insert_element(gathered, value, ir.Constant(_LONG, lane))
        return gathered

    return _vector(types.int64, types.int64), lower


@_intrinsic
def _gather_4(typing: Any, addresses: Any, offset: Any) -> Any:
    """Four float32 each, ``offset`` bytes behind each of 16 addresses: four vectors."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        four = ir.VectorType(_FLOAT, 4)
        loaded = [builder.load(pointer, align=1) for pointer in _pointers(builder, args[0], args[1], four)]
        # Quarter s of vector q is what lane 4s + q loaded. Each quarter is then transposed, four by four.
        quarters = []
        for q in range(4):
            halves = [_shuffle(builder, loaded[q + s], loaded[q + s + 4], range(8)) for s in (0, 8)]
            quarters.append(_shuffle(builder, halves[0], halves[1], range(LANES)))
        low = [4 * s + e + v for s in range(4) for e in (0, 1) for v in (0, LANES)]
        high = [e + 2 for e in low]
        first = [4 * s + e + v for s in range(4) for v in (0, LANES) for e in (0, 1)]
        second = [e + 2 for e in first]
        values = []
        for half in (low, high):
            left, right = (_shuffle(builder, quarters[q], quarters[q + 1], half) for q in (0, 2))
            values += [_shuffle(builder, left, right, pair) for pair in (first, second)]
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(_vector, 4)(types.int64, types.int64), lower


def _shuffle(builder: Any, a: Any, b: Any, lanes: Any) -> Any:
    lanes = list(lanes)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _pointers(builder: Any, addresses: Any, offset: Any, kind: ir.Type) -> list[Any]:
    """Pointers ``offset`` bytes behind the 16 addresses that stand at ``addresses``."""
    places = [_pointer(builder, addresses, _LONG, ir.Constant(_LONG, lane), 8) for lane in range(LANES)]
    return [_pointer(builder, builder.load(place), kind, offset, 1) for place in places]


# ----------------------------------------------------------------------------------------------------------
# The recursion


_inlined = njit(forceinline=True, error_model="numpy")


class _Tile(NamedTuple):
    """What it takes to fill the tables of one tile: sizes, and addresses."""

    length: int
    frames: int
    dim: int
    x: int  # the reference, (length, dim) float32
    weights: int  # (dim,) float32, or address 0
    candidates: int  # 16 addresses of their frame 0
    following: int  # those of the next tile
    frame_stride: int
    dim_stride: int
    first: int  # (length,) int64: the band
    last: int
    goal: int  # first column of the last row in which a path may end
    packed: int  # vector (j - j0) dim + d: dimension d of frame j, in a strip that begins at column j0
    row: int  # vector j - j0: C(i, j) for the last row that has been filled
    edge: int  # vector i + 1: C(i, j0 - 1)
    table: int  # vector i frames + j: C(i, j), or address 0
    cost: int  # one vector


@_inlined
def _pack(tile: _Tile, begin: int, end: int) -> Any:
    """Transpose frames begin <= j < end; zero in lanes where all is finite, NaN in the others."""
    dim, zero, trace = tile.dim, _zero(), _zero()
    for j in range(begin, end):
        offset, k = j * tile.frame_stride, (j - begin) * dim
        if tile.dim_stride == 4 and dim >= 4:
            for step in range(0, dim, 4):
                d = min(step, dim - 4)  # the last four may overlap those before
                p, q, r, s = _gather_4(tile.candidates, offset + 4 * d)
                _store(tile.packed, k + d, p)
                _store(tile.packed, k + d + 1, q)
                _store(tile.packed, k + d + 2, r)
                _store(tile.packed, k + d + 3, s)
                trace = trace + (_multiply_add(p, zero, q * zero) + _multiply_add(r, zero, s * zero))
        else:
            for d in range(dim):
                p = _gather(tile.candidates, offset + d * tile.dim_stride)
                _store(tile.packed, k + d, p)
                trace = trace + p * zero
    return trace


@_inlined
def _fetch_frames(tile: _Tile, candidates: int, begin: int, end: int, part: int, parts: int) -> None:
    """Bring frames begin <= j < end of some of the 16 candidates near: lanes part, part + parts, ..."""
    if tile.dim_stride == 4:
        frames, size = end - begin, 4 * tile.dim
        # Several lanes' frames at once would push out of the nearest cache what is at work there.
        nearest = parts >= LANES and LANES * frames * size <= _NEAR_BYTES
        if tile.frame_stride == size:  # they are one run of bytes
            frames, size = 1, frames * size
        for lane in range(part, LANES, parts):
            address = _integer(candidates, lane) + begin * tile.frame_stride
            for j in range(frames):
                for offset in range(0, size, 64):
                    if nearest:
                        _fetch_nearest(address + j * tile.frame_stride + offset)
                    else:
                        _fetch_near(address + j * tile.frame_stride + offset)


@_inlined
def _local_costs(tile: _Tile, x: Any, k: int) -> Any:
    """sum_d w_d (x_d - y_d)^2: four reference frames, at addresses x, with the packed frame from vector k on."""
    a, b, c, d = _zero(), _zero(), _zero(), _zero()
    if tile.weights == 0:
        for n in range(tile.dim):
            y = _load(tile.packed, k + n)
            p, q = y - _broadcast(x[0], n), y - _broadcast(x[1], n)
            r, s = y - _broadcast(x[2], n), y - _broadcast(x[3], n)
            a, b = _multiply_add(p, p, a), _multiply_add(q, q, b)
            c, d = _multiply_add(r, r, c), _multiply_add(s, s, d)
    else:
        for n in range(tile.dim):
            y, w = _load(tile.packed, k + n), _broadcast(tile.weights, n)
            p, q = y - _broadcast(x[0], n), y - _broadcast(x[1], n)
            r, s = y - _broadcast(x[2], n), y - _broadcast(x[3], n)
            a, b = _multiply_add(w * p, p, a), _multiply_add(w * q, q, b)
            c, d = _multiply_add(w * r, r, c), _multiply_add(w * s, s, d)
    return a, b, c, d


@_inlined
def _two_local_costs(tile: _Tile, x: int, other: int, k: int) -> Any:
    """The same of two reference frames."""
    a, b = _zero(), _zero()
    if tile.weights == 0:
        for n in range(tile.dim):
            y = _load(tile.packed, k + n)
            p, q = y - _broadcast(x, n), y - _broadcast(other, n)
            a, b = _multiply_add(p, p, a), _multiply_add(q, q, b)
    else:
        for n in range(tile.dim):
            y, w = _load(tile.packed, k + n), _broadcast(tile.weights, n)
            p, q = y - _broadcast(x, n), y - _broadcast(other, n)
            a, b = _multiply_add(w * p, p, a), _multiply_add(w * q, q, b)
    return a, b


@_inlined
def _costs_in_band(tile: _Tile, x: Any, k: int, first: Any, last: Any, j: int) -> Any:
    """Local costs of four rows in column j, inf outside of the band; where the band has two of them, only those."""
    a, b, c, d = _inf(), _inf(), _inf(), _inf()
    if j < first[2]:
        a, b = _two_local_costs(tile, x[0], x[1], k)
    elif j > last[1]:
        c, d = _two_local_costs(tile, x[2], x[3], k)
    else:
        a, b, c, d = _local_costs(tile, x, k)
    if j < first[3] or j > last[0]:
        a = a if first[0] <= j <= last[0] else _inf()
        b = b if first[1] <= j <= last[1] else _inf()
        c = c if first[2] <= j <= last[2] else _inf()
        d = d if first[3] <= j <= last[3] else _inf()
    return a, b, c, d


@_inlined
def _fill_column(tile: _Tile, i: int, rows: int, j: int, k: int, local: Any, corner: Any, left: Any) -> Any:
    """C(i, j) to C(i + 3, j) from their local costs, C(i - 1, j - 1) = corner and the column on the left.

    Returns the next column's corner and left. Vector k of ``tile.row`` goes from row i - 1 to the last one here.
    """
    up = _load(tile.row, k)
    a = local[0] + _minimum(_minimum(corner, up), left[0])
    # What is known first is compared first: the next row waits for one minimum and one sum only.
    b = local[1] + _minimum(_minimum(left[0], left[1]), a)
    c = local[2] + _minimum(_minimum(left[1], left[2]), b)
    d = local[3] + _minimum(_minimum(left[2], left[3]), c)
    _store(tile.row, k, d if rows == 4 else c if rows == 3 else b if rows == 2 else a)
    if tile.table != 0:
        _store(tile.table, i * tile.frames + j, a)
        _store(tile.table, (i + 1) * tile.frames + j, b)
        _store(tile.table, (i + 2) * tile.frames + j, c)
        _store(tile.table, (i + 3) * tile.frames + j, d)
    return up, (a, b, c, d)


@_inlined
def _fill_rows(tile: _Tile, i: int, j0: int, j1: int, corner: Any) -> Any:
    """Rows i to i + 3 of the table, or as many as there are, in columns j0 <= j < j1.

    corner: C(i - 1, j0 - 1); returns that of the next four rows. ``tile.row`` goes from row i - 1 to row i + 3,
    ``tile.edge`` of these rows from column j0 - 1 to column j1 - 1.
    """
    row, edge, size = tile.row, tile.edge, 4 * tile.dim
    rows = min(_ROWS, tile.length - i)
    # Rows past the last one repeat it; what they give is not used.
    i_b, i_c, i_d = min(i + 1, i + rows - 1), min(i + 2, i + rows - 1), i + rows - 1
    x = tile.x + i * size, tile.x + i_b * size, tile.x + i_c * size, tile.x + i_d * size
    first = _integer(tile.first, i), _integer(tile.first, i_b), _integer(tile.first, i_c), _integer(tile.first, i_d)
    last = _integer(tile.last, i), _integer(tile.last, i_b), _integer(tile.last, i_c), _integer(tile.last, i_d)
    begin, end = max(first[0], j0), min(last[3] + 1, j1)
    next_corner = _load(edge, i + rows)
    left = _inf(), _inf(), _inf(), _inf()
    if begin == j0:
        left = _load(edge, i + 1), _load(edge, i + 2), _load(edge, i + 3), _load(edge, i + 4)
    else:
        corner = _load(row, begin - 1 - j0)
        _store(row, begin - 1 - j0, _inf())  # this column has left the band, for these rows and all below
    for j in range(begin, end):
        local = _costs_in_band(tile, x, (j - j0) * tile.dim, first, last, j)
        corner, left = _fill_column(tile, i, rows, j, j - j0, local, corner, left)
    if end < j1:
        left = _inf(), _inf(), _inf(), _inf()
    _store(edge, i + 1, left[0])
    _store(edge, i + 2, left[1])
    _store(edge, i + 3, left[2])
    _store(edge, i + 4, left[3])
    return next_corner


@compiled
def _warp_tile(tile: _Tile, open_begin: bool, width: int) -> None:
    """The costs of one tile, NaN for those that are not finite, filling ``width`` columns of the table at a time."""
    best, trace = _inf(), _zero()
    for i in range(tile.length + _ROWS):
        _store(tile.edge, i, _inf())
    _store(tile.edge, 0, _zero())  # C(-1, -1), where a path begins
    start = _integer(tile.last, 0) + 1 if open_begin else 0  # or C(-1, j) for all j < start
    end = _integer(tile.last, tile.length - 1) + 1
    top, bottom = 0, 0  # rows top <= i < bottom meet the strip
    for j0 in range(0, tile.frames, width):
        j1 = min(j0 + width, tile.frames)
        trace = trace + _pack(tile, j0, j1)
        while top < tile.length and _integer(tile.last, top) < j0:
            top += 1
        while bottom < tile.length and _integer(tile.first, bottom) < j1:
            bottom += 1
        for j in range(j0, j1):  # row top - 1: outside of the band, unless it is row -1
            _store(tile.row, j - j0, _zero() if j < start else _inf())
        corner = _load(tile.edge, top)
        _store(tile.edge, top, _load(tile.row, j1 - 1 - j0))
        inside = j1 < tile.frames
        ahead, j2 = (tile.candidates, j1) if inside else (tile.following, 0)
        j3 = min(j2 + width, tile.frames)
        parts = (bottom - top + _ROWS - 1) // _ROWS
        for i in range(top, bottom, _ROWS):
            _fetch_frames(tile, ahead, j2, j3, (i - top) // _ROWS, parts)
            corner = _fill_rows(tile, i, j0, j1, corner)
        if bottom == tile.length:
            for j in range(max(tile.goal, j0), min(end, j1)):
                best = _minimum(best, _load(tile.row, j - j0))
    _store(tile.cost, 0, best + trace)


@_inlined
def _vectors(count: int) -> Array:
    """``count`` vectors, each on a cache line of its own: loads across two lines take twice the time."""
    array = np.empty((count + 1) * LANES, np.float32)
    skip = -array.ctypes.data % 64 // 4
    return array[skip : skip + count * LANES]


@_inlined
def _address(array: Array) -> Any:
    """Signed: with the unsigned one that Numba has, an "or 0" would make it a float."""
    return np.int64(array.ctypes.data)


@_inlined
def _place(address: int, strides: tuple[int, int, int, int], index: Array, s: int, b: int) -> int:
    """Address of candidate b of group s; spare lanes repeat the last candidate."""
    return address + s * strides[0] + index[s, min(b, index.shape[1] - 1)] * strides[1]


@compiled
def warp(
    x: Array,
    finite: Array,
    address: int,
    strides: tuple[int, int, int, int],
    frames: int,
    index: Array,
    weights: Array,
    first: Array,
    last: Array,
    open_begin: bool,
    open_end: bool,
    begin: int,
    end: int,
    cost: Array,
    path: Array,
    steps: Array,
) -> None:
    """Costs of tiles begin <= t < end: those of group s = 0 first, 16 candidates each, then those of s = 1, ...

    x: references (S, N, D), contiguous; finite: (S,), whether they are. Candidate b of group s, frame j < frames
    and dimension d stand at address + s strides[0] + index[s, b] strides[1] + j strides[2] + d strides[3], in
    bytes: so one compiled version serves all layouts. weights: (D,) or (0,). first, last: (N,), the band, both
    ascending, with a path in it. Written are cost (S, B) and, unless empty, path (S, B, N + M - 1, 2) with the
    paths' lengths (S, B), which are 0 for values that are not finite.
    """
    _, length, dim = x.shape
    count = index.shape[1]
    tiles = (count + LANES - 1) // LANES
    widest = max(_STRIP_LEAST, _STRIP_BYTES // (4 * LANES * dim))
    strips = (frames + widest - 1) // widest
    width = (frames + strips - 1) // strips  # all about alike: one of a few columns costs nearly as much as a whole one
    packed, row, edge, result = _vectors(width * dim), _vectors(width), _vectors(length + _ROWS), _vectors(1)
    # Four rows are filled at a time: the last ones may lie past the end of the table.
    table = _vectors((length + _ROWS - 1) * frames if len(steps) else 0)
    candidates, following = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    goal = first[-1] if open_end else last[-1]
    for t in range(begin, end):
        s, b = t // tiles, t % tiles * LANES
        after = min(t + 1, end - 1)
        for lane in range(LANES):
            candidates[lane] = _place(address, strides, index, s, b + lane)
            following[lane] = _place(address, strides, index, after // tiles, after % tiles * LANES + lane)
        table[:] = np.inf
        tile = _Tile(
            length,
            frames,
            dim,
            _address(x) + 4 * s * length * dim,
            _address(weights) if len(weights) else 0,
            _address(candidates),
            _address(following),
            strides[2],
            strides[3],
            _address(first),
            _address(last),
            goal,
            _address(packed),
            _address(row),
            _address(edge),
            _address(table) if len(steps) else 0,
            _address(result),
        )
        _warp_tile(tile, open_begin, width)
        for lane in range(min(LANES, count - b)):
            known = finite[s] and not np.isnan(result[lane])
            cost[s, b + lane] = result[lane] if known else np.inf
            if len(steps):
                costs = table[: length * frames * LANES].reshape(length, frames, LANES)[:, :, lane]
                j = goal + np.argmin(costs[-1, goal : last[-1] + 1])
                steps[s, b + lane] = _trace(costs, j, open_begin, path[s, b + lane]) if known else 0


@compiled
def _trace(costs: Array, j: int, open_begin: bool, path: Array) -> int:
    """The path to (N - 1, j), written forwards, its last pair repeated behind its end; returns its length."""
    i = len(costs) - 1
    at = len(path) - 1
    path[at, 0], path[at, 1] = i, j
    while i > 0 or (j > 0 and not open_begin):
        if i == 0:
            j -= 1
        elif j == 0:
            i -= 1
        else:
            corner, up, left = costs[i - 1, j - 1], costs[i - 1, j], costs[i, j - 1]
            if corner <= up and corner <= left:
                i, j = i - 1, j - 1
            elif up <= left:
                i -= 1
            else:
                j -= 1
        at -= 1
        path[at, 0], path[at, 1] = i, j
    steps = len(path) - at
    path[:steps] = path[at:].copy()
    path[steps:] = path[steps - 1]
    return steps

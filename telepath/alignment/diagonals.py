"""Dynamic time warping of tensors: where they lie on the host by the compiled kernel, elsewhere by anti-diagonals.

The cells of one anti-diagonal i + j = k depend on the two before it alone, so all of them, of all candidates, are
filled by a handful of operations on the device where the candidates are: a rollout never crosses to the host.
Definitions, band and values that are not finite are those of ``dtw``; sums are taken in another order, so the last bits
differ.
"""

import numpy as np
import torch
from torch import Tensor

from telepath.alignment.dtw import band, check_weights, dtw_batch
from telepath.episodes import Array


def dtw_tensors(
    x: Tensor,
    y: Tensor,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
) -> Tensor:
    """Costs (S, B), on the device of x and y, of warping candidates y (S, B, M, D) onto references x (S, N, D).

    float32; ``y`` is read by its strides and not copied; no gradient comes through. weights: (D,), an array on the
    host. Options and errors as in ``dtw_batch``, the same ones on every device.
    """
    _check(x, y)
    if y.device.type != "cpu":
        return dtw_diagonals(x, y, window, weights, open_begin=open_begin, open_end=open_end, slope=slope)
    a, b = x.detach().numpy(), y.detach().numpy()
    return torch.from_numpy(dtw_batch(a, b, window, weights, open_begin=open_begin, open_end=open_end, slope=slope))


def dtw_diagonals(
    x: Tensor,
    y: Tensor,
    window: int | None = None,
    weights: Array | None = None,
    *,
    open_begin: bool = False,
    open_end: bool = False,
    slope: float | None = None,
) -> Tensor:
    """The same in tensor operations alone: about N + M of them one after the other, on memory like that of ``y``.

    x (S, N, D) with y (S, B, M, D) -> costs (S, B); other shapes, types or weights are a ``ValueError``.
    """
    _check(x, y)
    (rows, columns), batch = (x.shape[1], y.shape[2]), y.shape[:2]
    weight = torch.from_numpy(check_weights(weights, x.shape[-1])).to(y.device)
    first, last = band(rows, columns, window, slope, open_end)
    # Row i takes part in diagonals begin[i] <= k <= end[i]. Both ascend, so a diagonal's rows are a contiguous run.
    begin, end = np.arange(rows) + first, np.arange(rows) + last
    backwards = x.flip(1)  # along a diagonal j grows while i falls
    # Cell (k - j, j) of diagonal k stands at j + 1; before the first one there is C(-1, -1) = 0 alone.
    older = y.new_full((*batch, columns + 1), torch.inf)
    newer = older.clone()
    older[..., 0] = 0
    cost = y.new_full(batch, torch.inf)
    for k in range(rows + columns - 1):
        top, bottom = int(np.searchsorted(end, k)), int(np.searchsorted(begin, k, "right")) - 1
        filled = torch.full_like(newer, torch.inf)
        if top <= bottom:
            here, left = slice(k - bottom + 1, k - top + 2), slice(k - bottom, k - top + 1)
            local = (backwards[:, None, rows - 1 - bottom : rows - top] - y[:, :, left]).square()
            if len(weight):
                local *= weight
            before = torch.minimum(torch.minimum(older[..., left], newer[..., left]), newer[..., here])
            if open_begin and top == 0:
                before[..., -1] = 0  # row 0 is the last of its diagonal
            filled[..., here] = local.sum(-1) + before
            if bottom == rows - 1 and (open_end or k == end[-1]):
                cost = torch.minimum(cost, filled[..., here.start])
        older, newer = newer, filled
    finite = torch.isfinite(x).all(2).all(1)[:, None] & torch.isfinite(y).all(3).all(2)
    return torch.where(finite, cost, torch.inf)


def _check(x: Tensor, y: Tensor) -> None:
    shapes = f"got x {tuple(x.shape)} and y {tuple(y.shape)}"
    if x.ndim != 3 or y.ndim != 4 or len(x) != len(y) or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"expected x (S, N, D) with y (S, B, M, D), {shapes}")
    if 0 in (*x.shape[1:], *y.shape[2:]):
        raise ValueError(f"expected x and y with at least one frame and dimension, {shapes}")
    if x.dtype != torch.float32 or y.dtype != torch.float32 or x.device != y.device:
        raise ValueError(
            f"expected float32 tensors on one device, got x {x.dtype} on {x.device} and y {y.dtype} on {y.device}"
        )

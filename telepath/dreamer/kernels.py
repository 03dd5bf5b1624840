"""What stands between two matrix products, each as one pass over memory.

A batch of states is small, so an update would spend more on calling and allocating than on arithmetic: normalising and
SiLU alone are a dozen operations of torch there and back. Here they are one loop each way, compiled by Numba.

Everything is written into arrays that the caller has made. Arrays are (B, n), rows one behind the other. Each kernel is
written twice: the loop, for float32 on the CPU, and the same in torch's operations, for anything else; tests hold them
against each other. Numbers that are not finite pass through both.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import extending, njit, types
from torch import Tensor
from torch.nn import functional as F

from telepath.dreamer.networks import symexp
from telepath.episodes import Array
from telepath.runtime.compiled import compiled

EPSILON = 1e-5
"""Of torch's layer normalisation."""

_intrinsic: Any = extending.intrinsic  # untyped: callers do not pass the first parameter, the typing context
# Sums may be taken in any order and products fused; what is not finite stays so.
_loop = partial(compiled, fastmath={"reassoc", "contract", "nsz", "arcp"})
_f32 = np.float32
aten = torch.ops.aten
"""In torch's form what it has as one operation is one: on a GPU each costs its start, whatever its size."""


@_intrinsic
def _from_bits(typing: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""
    return types.float32(types.int32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.FloatType())


@njit(inline="always", error_model="numpy")
def _exp(x: Any) -> Any:
    """e^x to two units in the last place, in operations that a compiler can do for many x at once.

    x = k ln 2 + r with a whole number k and |r| <= ln(2) / 2, and a polynomial for e^r (Cephes, ``expf``). Ends at
    e^-87 and e^88, just inside of what a float32 holds.
    """
    power, rest = _exp_parts(x)
    return (rest + _f32(1)) * power


@njit(inline="always", error_model="numpy")
def _expm1(x: Any) -> Any:
    """e^x - 1, as exact where x is small; ends as ``_exp`` does."""
    power, rest = _exp_parts(x)
    return rest * power + (power - _f32(1))


@njit(inline="always", error_model="numpy")
def _exp_parts(x: Any) -> Any:
    """2^k and e^r - 1."""
    inside = _f32(-87.0) if x < _f32(-87.0) else _f32(88.0) if x > _f32(88.0) else x
    k = np.floor(inside * _f32(1.44269504) + _f32(0.5))
    r = inside - k * _f32(0.693359375) + k * _f32(2.12194440e-4)
    p = _f32(1.9875691500e-4)
    p = p * r + _f32(1.3981999507e-3)
    p = p * r + _f32(8.3334519073e-3)
    p = p * r + _f32(4.1665795894e-2)
    p = p * r + _f32(1.6666665459e-1)
    p = p * r + _f32(5.0000001201e-1)
    return _from_bits((np.int32(k) + np.int32(127)) << np.int32(23)), p * (r * r) + r


@njit(inline="always", error_model="numpy")
def _sigmoid(x: Any) -> Any:
    return _f32(1) / (_f32(1) + _exp(-x))


@njit(inline="always", error_model="numpy")
def _tanh(x: Any) -> Any:
    return _f32(1) - _f32(2) / (_f32(1) + _exp(x + x))


@njit(inline="always", error_model="numpy")
def _silu_slope(x: Any) -> Any:
    """The derivative of silu(x) = x sigmoid(x)."""
    gate = _sigmoid(x)
    return gate * (_f32(1) + x * (_f32(1) - gate))


@njit(inline="always", error_model="numpy")
def _softplus(x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), with a polynomial for the logarithm (Cephes, ``logf``)."""
    small = _exp(-abs(x))
    upper = small > _f32(0.41421356)
    f = _f32(0.5) * small - _f32(0.5) if upper else small  # 1 + f lies around 1 and is 1 + small, or half of it
    p = _f32(7.0376836292e-2)
    p = p * f - _f32(1.1514610310e-1)
    p = p * f + _f32(1.1676998740e-1)
    p = p * f - _f32(1.2420140846e-1)
    p = p * f + _f32(1.4249322787e-1)
    p = p * f - _f32(1.6668057665e-1)
    p = p * f + _f32(2.0000714765e-1)
    p = p * f - _f32(2.4999993993e-1)
    p = p * f + _f32(3.3333331174e-1)
    logarithm = f - _f32(0.5) * f * f + p * f * f * f + (_f32(0.69314718) if upper else _f32(0))
    return logarithm + (x if x > _f32(0) else _f32(0))


def _by_device(loop: Any) -> Callable:
    """The decorated function, which is written in torch, with ``loop`` in its place for float32 on the CPU."""

    def decorate(in_torch: Callable) -> Callable:
        @wraps(in_torch)
        def kernel(first: Tensor, *others: Any) -> None:
            if first.device.type == "cpu" and first.dtype == torch.float32:
                loop(first.numpy(), *[other.numpy() if isinstance(other, Tensor) else other for other in others])
            else:
                in_torch(first, *others)

        return kernel

    return decorate


# ----------------------------------------------------------------------------------------------------------
# A hidden layer: silu(norm(x + bias) scale + shift)


@_loop
def _norm_silu(x: Array, bias: Array, scale: Array, shift: Array, out: Array, inverse: Array) -> None:
    rows, width = x.shape
    for i in range(rows):
        mean = _f32(0)
        for j in range(width):
            x[i, j] += bias[j]
            mean += x[i, j]
        mean /= _f32(width)
        square = _f32(0)
        for j in range(width):
            x[i, j] -= mean
            square += x[i, j] * x[i, j]
        inverse[i] = _f32(1) / np.sqrt(square / _f32(width) + _f32(EPSILON))
        for j in range(width):
            x[i, j] *= inverse[i]
            y = x[i, j] * scale[j] + shift[j]
            out[i, j] = y * _sigmoid(y)


@_by_device(_norm_silu)
def norm_silu(x: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, out: Tensor, inverse: Tensor) -> None:
    """Layer normalisation and SiLU of a product x (B, n) with its bias (n,); x is left normalised.

    scale, shift: (n,), of the normalisation. Written: x, out (B, n), and inverse (B,), 1 / standard deviation.
    """
    x += bias
    normed, _, deviation = torch.native_layer_norm(x, x.shape[1:], None, None, EPSILON)
    x.copy_(normed)
    inverse.copy_(deviation.squeeze(-1))
    aten.silu.out(torch.addcmul(shift, x, scale), out=out)


@_loop
def _norm_silu_back(d: Array, normed: Array, inverse: Array, scale: Array, shift: Array, sums: Array) -> None:
    rows, width = d.shape
    for i in range(rows):
        mean, along = _f32(0), _f32(0)
        for j in range(width):
            d[i, j] *= _silu_slope(normed[i, j] * scale[j] + shift[j])
            mean += d[i, j] * scale[j]
            along += d[i, j] * scale[j] * normed[i, j]
        mean /= _f32(width)
        along /= _f32(width)
        if len(sums):
            for j in range(width):
                sums[1, j] += d[i, j] * normed[i, j]
                sums[2, j] += d[i, j]
        for j in range(width):
            d[i, j] = inverse[i] * (d[i, j] * scale[j] - mean - normed[i, j] * along)
        if len(sums):
            for j in range(width):
                sums[0, j] += d[i, j]


@_by_device(_norm_silu_back)
def norm_silu_back(d: Tensor, normed: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor, sums: Tensor) -> None:
    """The way back through ``norm_silu``: d (B, n), the gradient of its ``out``, becomes that of its product.

    sums: (3, n), to which the gradients of bias, scale and shift are added; or (0, n) where nobody asks for them.
    """
    silu_back(d, torch.addcmul(shift, normed, scale))
    if len(sums):
        sums[1] += (d * normed).sum(0)
        sums[2] += d.sum(0)
    d *= scale
    mean, along = d.mean(-1, keepdim=True), (d * normed).mean(-1, keepdim=True)
    d.sub_(mean).addcmul_(normed, along, value=-1)
    d *= inverse.unsqueeze(-1)
    if len(sums):
        sums[0] += d.sum(0)


# ----------------------------------------------------------------------------------------------------------
# SiLU alone


@_loop
def _silu(x: Array, out: Array) -> None:
    rows, width = x.shape
    for i in range(rows):
        for j in range(width):
            out[i, j] = x[i, j] * _sigmoid(x[i, j])


@_by_device(_silu)
def silu(x: Tensor, out: Tensor) -> None:
    """out = silu(x), both (B, n)."""
    aten.silu.out(x, out=out)


@_loop
def _silu_back(d: Array, x: Array) -> None:
    rows, width = d.shape
    for i in range(rows):
        for j in range(width):
            d[i, j] *= _silu_slope(x[i, j])


@_by_device(_silu_back)
def silu_back(d: Tensor, x: Tensor) -> None:
    """d (B, n), the gradient of silu(x), becomes that of x (B, n)."""
    aten.silu_backward.grad_input(d, x, grad_input=d)


# ----------------------------------------------------------------------------------------------------------
# From the units in which states are predicted to their own


@_loop
def _unsquash(x: Array, scale: Array, shift: Array) -> None:
    rows, width = x.shape
    for i in range(rows):
        for j in range(width):
            size = abs(x[i, j])
            grown = _f32(np.inf) if size > _f32(88) else _expm1(size)  # there ``_exp`` ends
            x[i, j] = (-grown if x[i, j] < _f32(0) else grown) * scale[j] + shift[j]


@_by_device(_unsquash)
def unsquash(x: Tensor, scale: Tensor, shift: Tensor) -> None:
    """x (B, n) becomes symexp(x) scale + shift; scale and shift are (n,)."""
    torch.addcmul(shift, symexp(x), scale, out=x)


# ----------------------------------------------------------------------------------------------------------
# The recurrent cell (Cho et al. 2014, with torch's gates r, z, n), on features: deter and stoch side by side

# Many short loops: of longer ones, or where an array is read and written at two places, a compiler cannot rule out that
# one turn needs what another wrote, and would take them one at a time.


@_loop
def _gru(from_x: Array, from_h: Array, bias_x: Array, bias_h: Array, before: Array, after: Array, gates: Array) -> None:
    rows, _, deter = from_x.shape
    for i in range(rows):
        k = i if len(gates) == rows else 0
        for g in range(2):
            for j in range(deter):
                gates[k, g, j] = _sigmoid(from_x[i, g, j] + bias_x[g, j] + (from_h[i, g, j] + bias_h[g, j]))
        for j in range(deter):
            gates[k, 3, j] = from_h[i, 2, j] + bias_h[2, j]
        for j in range(deter):
            after[i, j] = _tanh(from_x[i, 2, j] + bias_x[2, j] + gates[k, 0, j] * gates[k, 3, j])
        for j in range(deter):
            gates[k, 2, j] = after[i, j]
        for j in range(deter):
            after[i, j] = gates[k, 2, j] + gates[k, 1, j] * (before[i, j] - gates[k, 2, j])


@_by_device(_gru)
def gru(
    from_x: Tensor,
    from_h: Tensor,
    bias_x: Tensor,
    bias_h: Tensor,
    before: Tensor,
    after: Tensor,
    gates: Tensor,
) -> None:
    """The next recurrent state from the products (B, 3, D) of input and state, and their biases (3, D).

    Read of ``before`` and written of ``after``, (B, D or more), are the first D columns. Written besides are gates
    (B, 4, D): r, z, n and what r lets through of the state; or (1, 4, D), room to work in, where nobody asks for them.
    """
    if len(gates) < len(from_x):
        gates = gates.new_empty(len(from_x), *gates.shape[1:])
    r, z, n, kept = gates.unbind(1)
    from_x, from_h = from_x + bias_x, from_h + bias_h
    torch.sigmoid(from_x[:, :2] + from_h[:, :2], out=gates[:, :2])
    kept.copy_(from_h[:, 2])
    torch.tanh(torch.addcmul(from_x[:, 2], r, kept), out=n)
    torch.lerp(n, before[:, : r.shape[1]], z, out=after[:, : r.shape[1]])


@_loop
def _gru_back(d: Array, gates: Array, before: Array, d_from_x: Array, d_from_h: Array) -> None:
    rows, deter = d.shape
    one = _f32(1)
    for i in range(rows):
        for j in range(deter):
            d_from_x[i, 2, j] = d[i, j] * (one - gates[i, 1, j]) * (one - gates[i, 2, j] * gates[i, 2, j])
        for j in range(deter):
            z = gates[i, 1, j]
            d_from_x[i, 1, j] = d[i, j] * (before[i, j] - gates[i, 2, j]) * z * (one - z)
        for j in range(deter):
            r = gates[i, 0, j]
            d_from_x[i, 0, j] = d_from_x[i, 2, j] * gates[i, 3, j] * r * (one - r)
        for g in range(2):
            for j in range(deter):
                d_from_h[i, g, j] = d_from_x[i, g, j]
        for j in range(deter):
            d_from_h[i, 2, j] = d_from_x[i, 2, j] * gates[i, 0, j]
        for j in range(deter):
            d[i, j] *= gates[i, 1, j]


@_by_device(_gru_back)
def gru_back(d: Tensor, gates: Tensor, before: Tensor, d_from_x: Tensor, d_from_h: Tensor) -> None:
    """The way back through ``gru``: d (B, D), the gradient of the state after, becomes what of it the state before gets
    past the gates. Written: the gradients of the products, (B, 3, D).
    """
    r, z, n, kept = gates.unbind(1)
    past = d * z
    d_n = aten.tanh_backward(d - past, n)
    d_z = aten.sigmoid_backward(d * (before[:, : d.shape[1]] - n), z)
    d_r = aten.sigmoid_backward(d_n * kept, r)
    torch.stack([d_r, d_z, d_n], 1, out=d_from_x)
    torch.stack([d_r, d_z, d_n * r], 1, out=d_from_h)
    d.copy_(past)


# ----------------------------------------------------------------------------------------------------------
# The stochastic part of a state, and the action


@_loop
def _draw(out: Array, noise: Array, least: float, after: Array) -> None:
    rows, stoch = noise.shape
    deter, smallest = after.shape[1] - stoch, _f32(least)
    for i in range(rows):
        for j in range(stoch):
            after[i, deter + j] = out[i, j] + (_softplus(out[i, stoch + j]) + smallest) * noise[i, j]


@_by_device(_draw)
def draw(out: Tensor, noise: Tensor, least: float, after: Tensor) -> None:
    """A sample: out (B, 2S) is read as mean and, through a softplus and above ``least``, standard deviation.

    noise: (B, S), unit Gaussian. Written are the last S columns of ``after``.
    """
    stoch = noise.shape[1]
    torch.addcmul(out[:, :stoch], F.softplus(out[:, stoch:]) + least, noise, out=after[:, -stoch:])


@_loop
def _draw_back(d: Array, out: Array, noise: Array, d_out: Array) -> None:
    rows, stoch = noise.shape
    for i in range(rows):
        for j in range(stoch):
            d_out[i, j] = d[i, j]
            d_out[i, stoch + j] = d[i, j] * noise[i, j] * _sigmoid(out[i, stoch + j])


@_by_device(_draw_back)
def draw_back(d: Tensor, out: Tensor, noise: Tensor, d_out: Tensor) -> None:
    """The way back through ``draw``: from d (B, S), the sample's gradient, to d_out (B, 2S), that of ``out``."""
    stoch = noise.shape[1]
    d_out[:, :stoch] = d
    torch.mul(d * noise, torch.sigmoid(out[:, stoch:]), out=d_out[:, stoch:])


@njit(inline="always", error_model="numpy")
def _clip(x: Any) -> Any:
    return _f32(-1) if x < _f32(-1) else _f32(1) if x > _f32(1) else x


@_loop
def _act(out: Array, noise: Array, least: float, most: float, state: Array, inputs: Array, entropy: Array) -> None:
    rows, actions = noise.shape
    stoch = inputs.shape[1] - actions
    deter, smallest, range_ = state.shape[1] - stoch, _f32(least), _f32(most - least)
    for i in range(rows):
        for j in range(stoch):
            inputs[i, j] = state[i, deter + j]
        entropy[i] = _f32(actions * NAT)
        for j in range(actions):
            std = smallest + range_ * _sigmoid(out[i, actions + j])
            inputs[i, stoch + j] = _clip(_clip(out[i, j]) + std * noise[i, j])
            entropy[i] += np.log(std)


@_by_device(_act)
def act(out: Tensor, noise: Tensor, least: float, most: float, state: Tensor, inputs: Tensor, entropy: Tensor) -> None:
    """A policy's action, and the input of the recurrent cell made of it.

    out: (B, 2A), read as a mean, clipped to [-1, 1], and a standard deviation between ``least`` and ``most``; noise:
    (B, A); state: (B, D + S). Written: inputs (B, S + A), stoch and the clipped sample, and entropy (B,) in nats.
    """
    actions = noise.shape[1]
    mean, std = out[:, :actions].clamp(-1, 1), least + (most - least) * torch.sigmoid(out[:, actions:])
    inputs[:, :-actions] = state[:, state.shape[1] + actions - inputs.shape[1] :]
    inputs[:, -actions:] = (mean + std * noise).clamp(-1, 1)
    torch.sum(std.log() + NAT, -1, out=entropy)


NAT = 1.4189385332046727
"""Entropy of a Gaussian of standard deviation 1, in nats: (1 + ln 2 pi) / 2."""

"""Filtering a sequence through the recurrent state-space model, with its backward pass written out.

    x_t = silu(a_t + U s_{t-1})                               a: action's part of the cell's input, for all t at once
    h_t = GRU(h_{t-1}, x_t)                                   Cho et al. 2014, with torch's gates
    p_t = silu(e_t + V h_t)                                   e: embedded observation, for all t at once
    (m_t, w_t) = W p_t + b,   sigma_t = softplus(w_t) + min_std,   s_t = m_t + sigma_t * noise_t

A batch is small, so what autograd spends on these thirty small operations a step is more than the arithmetic. Written
out, a step back needs only the products that lead to the step before it; the gradients of the weights are one large
product each, over all steps at once.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class FilterWeights(NamedTuple):
    """stoch (H, S): U; GRU input_gates (3D, H), recurrent_gates (3D, D) and their biases (3D,); deter (H, D): V;
    output (2S, H) and output_bias (2S,).
    """

    stoch: Tensor
    input_gates: Tensor
    input_bias: Tensor
    recurrent_gates: Tensor
    recurrent_bias: Tensor
    deter: Tensor
    output: Tensor
    output_bias: Tensor


class Filtered(NamedTuple):
    """deter (T, B, D), stoch (T, B, S), and the posterior's mean and std (T, B, S)."""

    deter: Tensor
    stoch: Tensor
    mean: Tensor
    std: Tensor


def filter_sequence(
    action: Tensor, embedding: Tensor, noise: Tensor, min_std: float, weights: FilterWeights
) -> Filtered:
    """Filter from the zero state. action, embedding (T, B, H): a and e; noise (T, B, S), zeros for posterior means."""
    return Filtered(*_Filter.apply(action, embedding, noise, min_std, *weights))


class _Filter(torch.autograd.Function):
    """``filter_sequence`` for autograd. The names are those of the module's docstring; r, z, n are the GRU's gates."""

    @staticmethod
    def forward(ctx: Any, action: Tensor, embedding: Tensor, noise: Tensor, min_std: float, *tensors: Tensor) -> Any:
        w = FilterWeights(*tensors)
        (steps, batch, _), deter, stoch = action.shape, w.deter.shape[1], w.stoch.shape[1]
        # One row more than steps: row t is the state before step t, so row t + 1 is what step t leaves.
        h, s = action.new_zeros(steps + 1, batch, deter), action.new_zeros(steps + 1, batch, stoch)
        x_in, p_in = torch.empty_like(action), torch.empty_like(embedding)
        x, p = torch.empty_like(action), torch.empty_like(embedding)
        rz, n, recurrent_n = (action.new_empty(steps, batch, size * deter) for size in (2, 1, 1))
        out, std = action.new_empty(steps, batch, 2 * stoch), torch.empty_like(noise)
        u, v, o = w.stoch.t(), w.deter.t(), w.output.t()
        gates_x, gates_h = w.input_gates.t(), w.recurrent_gates.t()
        for t in range(steps):
            torch.addmm(action[t], s[t], u, out=x_in[t])
            torch.mul(x_in[t], torch.sigmoid(x_in[t]), out=x[t])
            from_x = torch.addmm(w.input_bias, x[t], gates_x)
            from_h = torch.addmm(w.recurrent_bias, h[t], gates_h)
            torch.add(from_x[:, : 2 * deter], from_h[:, : 2 * deter], out=rz[t]).sigmoid_()
            r, z = rz[t, :, :deter], rz[t, :, deter:]
            recurrent_n[t] = from_h[:, 2 * deter :]
            torch.addcmul(from_x[:, 2 * deter :], r, recurrent_n[t], out=n[t]).tanh_()
            torch.lerp(n[t], h[t], z, out=h[t + 1])
            torch.addmm(embedding[t], h[t + 1], v, out=p_in[t])
            torch.mul(p_in[t], torch.sigmoid(p_in[t]), out=p[t])
            torch.addmm(w.output_bias, p[t], o, out=out[t])
            torch.add(F.softplus(out[t, :, stoch:]), min_std, out=std[t])
            torch.addcmul(out[t, :, :stoch], std[t], noise[t], out=s[t + 1])
        ctx.save_for_backward(h, s, x_in, p_in, x, p, rz, n, recurrent_n, out, noise, *tensors)
        return h[1:].clone(), s[1:].clone(), out[..., :stoch].clone(), std

    @staticmethod
    def backward(ctx: Any, d_deter: Tensor, d_stoch: Tensor, d_mean: Tensor, d_std: Tensor) -> Any:
        h, s, x_in, p_in, x, p, rz, n, recurrent_n, out, noise, *tensors = ctx.saved_tensors
        w = FilterWeights(*tensors)
        steps, deter, stoch = len(noise), w.deter.shape[1], w.stoch.shape[1]
        r, z = rz[..., :deter], rz[..., deter:]
        # What each gradient is multiplied with, for all steps at once: dz/dh_t and so on.
        to_z = (h[:-1] - n) * z * (1 - z)
        to_n = (1 - z) * (1 - n.square())
        to_r = recurrent_n * r * (1 - r)
        to_x, to_p, to_w = silu_slope(x_in), silu_slope(p_in), torch.sigmoid(out[..., stoch:])
        d_out, d_x, d_p = torch.empty_like(out), torch.empty_like(x), torch.empty_like(p)
        d_from_x, d_from_h = (h.new_empty(*n.shape[:2], 3 * deter) for _ in range(2))
        later_h, later_s = torch.zeros_like(h[0]), torch.zeros_like(s[0])
        for t in reversed(range(steps)):
            d_s = d_stoch[t] + later_s
            torch.add(d_mean[t], d_s, out=d_out[t, :, :stoch])
            torch.mul(torch.addcmul(d_std[t], d_s, noise[t]), to_w[t], out=d_out[t, :, stoch:])
            torch.mul(d_out[t] @ w.output, to_p[t], out=d_p[t])
            d_h = torch.addmm(d_deter[t] + later_h, d_p[t], w.deter)
            d_n = torch.mul(d_h, to_n[t], out=d_from_x[t, :, 2 * deter :])
            torch.mul(d_h, to_z[t], out=d_from_x[t, :, deter : 2 * deter])
            torch.mul(d_n, to_r[t], out=d_from_x[t, :, :deter])
            d_from_h[t, :, : 2 * deter] = d_from_x[t, :, : 2 * deter]
            torch.mul(d_n, r[t], out=d_from_h[t, :, 2 * deter :])
            later_h = torch.addmm(d_h * z[t], d_from_h[t], w.recurrent_gates)
            torch.mul(d_from_x[t] @ w.input_gates, to_x[t], out=d_x[t])
            later_s = d_x[t] @ w.stoch
        gradients = FilterWeights(
            stoch=product(d_x, s[:-1]),
            input_gates=product(d_from_x, x),
            input_bias=d_from_x.sum((0, 1)),
            recurrent_gates=product(d_from_h, h[:-1]),
            recurrent_bias=d_from_h.sum((0, 1)),
            deter=product(d_p, h[1:]),
            output=product(d_out, p),
            output_bias=d_out.sum((0, 1)),
        )
        return d_x, d_p, None, None, *gradients


def silu_slope(x: Tensor) -> Tensor:
    """The derivative of silu: sigmoid(x) (1 + x (1 - sigmoid(x)))."""
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


def product(outer: Tensor, inner: Tensor) -> Tensor:
    """Sum over steps and batch of the outer products of (T, B, M) and (T, B, N): (M, N)."""
    return outer.flatten(0, 1).t() @ inner.flatten(0, 1)

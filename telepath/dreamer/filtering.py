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
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from telepath.dreamer.kernels import draw, draw_back, gru, gru_back, silu, silu_back


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
        tensors = tuple(tensor.detach() for tensor in tensors)
        action, embedding, w = action.detach(), embedding.detach(), FilterWeights(*tensors)
        (steps, batch, _), deter, stoch = action.shape, w.deter.shape[1], w.stoch.shape[1]
        new = action.new_empty
        # One row more than steps: row t is the state before step t, so row t + 1 is what step t leaves.
        states = new(steps + 1, batch, deter + stoch)
        states[0].zero_()
        x_in, p_in, x, p = (torch.empty_like(each) for each in (action, embedding, action, embedding))
        gates, out = new(steps, batch, 4, deter), new(steps, batch, 2 * stoch)
        from_x, from_h = new(batch, 3 * deter), new(batch, 3 * deter)
        products = from_x.view(batch, 3, deter), from_h.view(batch, 3, deter)
        biases = w.input_bias.view(3, deter), w.recurrent_bias.view(3, deter)
        u, v, o = w.stoch.t(), w.deter.t(), w.output.t()
        gates_x, gates_h = w.input_gates.t(), w.recurrent_gates.t()
        before, *later = states.unbind(0)
        parts = (action, embedding, noise, x_in, p_in, x, p, gates, out)
        for after, a, e, eps, x_in_t, p_in_t, x_t, p_t, gates_t, out_t in zip(
            later, *(part.unbind(0) for part in parts), strict=True
        ):
            torch.addmm(a, before[:, deter:], u, out=x_in_t)
            silu(x_in_t, x_t)
            torch.mm(x_t, gates_x, out=from_x)
            torch.mm(before[:, :deter], gates_h, out=from_h)
            gru(*products, *biases, before, after, gates_t)
            torch.addmm(e, after[:, :deter], v, out=p_in_t)
            silu(p_in_t, p_t)
            torch.addmm(w.output_bias, p_t, o, out=out_t)
            draw(out_t, eps, min_std, after)
            before = after
        ctx.save_for_backward(states, x_in, p_in, x, p, gates, out, noise, *tensors)
        std = F.softplus(out[..., stoch:]) + min_std
        return states[1:, :, :deter].clone(), states[1:, :, deter:].clone(), out[..., :stoch].clone(), std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_deter: Tensor, d_stoch: Tensor, d_mean: Tensor, d_std: Tensor) -> Any:
        states, x_in, p_in, x, p, gates, out, noise, *tensors = ctx.saved_tensors
        w = FilterWeights(*tensors)
        (steps, batch, stoch), deter = noise.shape, w.deter.shape[1]
        # What reaches a step's output besides the sample drawn of it.
        beside = torch.cat([d_mean, d_std * torch.sigmoid(out[..., stoch:])], -1)
        d_out, d_x, d_p = torch.empty_like(out), torch.empty_like(x), torch.empty_like(p)
        d_from_x, d_from_h = (states.new_empty(steps, batch, 3 * deter) for _ in range(2))
        d_h, d_s, later_s = (states.new_zeros(batch, size) for size in (deter, stoch, stoch))
        parts = (states[:-1], d_deter, d_stoch, noise, beside, x_in, p_in, gates, out, d_x, d_p, d_out)
        grids = (each.view(steps, batch, 3, deter) for each in (d_from_x, d_from_h))
        rows = zip(*(part.unbind(0) for part in (*parts, d_from_x, d_from_h, *grids)), strict=True)
        for row in reversed(list(rows)):
            before, to_h, to_s, eps, to_out, x_in_t, p_in_t, gates_t, out_t, d_x_t, d_p_t, d_out_t, *d_from = row
            torch.add(to_s, later_s, out=d_s)
            draw_back(d_s, out_t, eps, d_out_t)
            d_out_t += to_out
            torch.mm(d_out_t, w.output, out=d_p_t)
            silu_back(d_p_t, p_in_t)
            d_h.add_(to_h).addmm_(d_p_t, w.deter)
            gru_back(d_h, gates_t, before, *d_from[2:])
            d_h.addmm_(d_from[1], w.recurrent_gates)
            torch.mm(d_from[0], w.input_gates, out=d_x_t)
            silu_back(d_x_t, x_in_t)
            torch.mm(d_x_t, w.stoch, out=later_s)
        h, s = states.split([deter, stoch], -1)
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


def product(outer: Tensor, inner: Tensor) -> Tensor:
    """Sum over steps and batch of the outer products of (T, B, M) and (T, B, N): (M, N)."""
    return outer.flatten(0, 1).t() @ inner.flatten(0, 1)

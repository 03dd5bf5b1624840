"""Imagining along a policy, with its backward pass written out, as in ``filtering``.

    a_t = clip(mean + std * noise)       mean, std: the policy's, in state (h_t, s_t)
    x_t = silu(C [s_t, a_t] + c)
    h_t+1 = GRU(h_t, x_t)                Cho et al. 2014, with torch's gates
    p_t = silu(norm(P h_t+1 + b))        layer normalisation with its own scale and shift
    (m_t, w_t) = O p_t + o,   sigma_t = softplus(w_t) + min_std,   s_t+1 = m_t + sigma_t * noise_t

The gradient runs through the dynamics and the actions to the policy's weights; what the policy sees is given (Hafner et
al. 2020). So the way back has two parts: from state to state, with a gradient for each action on the way, and from all
actions at once to the weights. The dynamics themselves get none: a behavior imagines with copies that nobody trains.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from telepath.dreamer.kernels import act, draw, draw_back, gru, gru_back, norm_silu, norm_silu_back, silu, silu_back
from telepath.dreamer.perceptron import Trace, Weights, back, through


class Dynamics(NamedTuple):
    """cell (H, S + A): C; GRU input_gates (3D, H), recurrent_gates (3D, D) and their biases (3D,); prior (H, D): P with
    its normalisation's scale and shift (H,); output (2S, H): O. The other biases are c, b and o.
    """

    cell: Tensor
    cell_bias: Tensor
    input_gates: Tensor
    input_bias: Tensor
    recurrent_gates: Tensor
    recurrent_bias: Tensor
    prior: Tensor
    prior_bias: Tensor
    scale: Tensor
    shift: Tensor
    output: Tensor
    output_bias: Tensor


class Noise(NamedTuple):
    """Unit Gaussian noise of K steps: of actions (K, B, A) and of stochastic states (K, B, S)."""

    action: Tensor
    stoch: Tensor


class Limits(NamedTuple):
    """Smallest and largest standard deviation of an action, smallest one of a stochastic state."""

    least: float
    most: float
    stoch: float


def imagine_along(
    start: Tensor, noise: Noise, limits: Limits, policy: Weights, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """States (K + 1, B, D + S), h and s side by side, the first one ``start`` (B, D + S); and entropies (K, B)."""
    feature, entropy = _Imagine.apply(start, noise, limits, len(policy), *policy, *dynamics)
    return feature, entropy


def along_means(start: Tensor, actions: Tensor, w: Dynamics) -> Iterator[Tensor]:
    """The states (B, D + S) after each of the actions (M, B, A), beginning at ``start`` and along the prior means.

    Each one is good until the next one is asked for; no gradient runs back. One step lies in a core's cache, all of
    them do not: so there is room for two that take turns, and who needs to look at a state does so while it is there.
    """
    (width, deter), (batch, _), new = w.prior.shape, start.shape, start.new_empty
    before, after = (_Place.of(start, actions.shape[-1], deter) for _ in range(2))
    x_in, x, p_in, p = (new(batch, size) for size in (len(w.cell), len(w.cell), width, width))
    from_x, from_h, gates, inverse = new(batch, 3 * deter), new(batch, 3 * deter), new(1, 4, deter), new(batch)
    products = from_x.view(batch, 3, deter), from_h.view(batch, 3, deter)
    biases = w.input_bias.view(3, deter), w.recurrent_bias.view(3, deter)
    cell, gates_x, gates_h, prior = w.cell.t(), w.input_gates.t(), w.recurrent_gates.t(), w.prior.t()
    # Along the mean nobody asks for the standard deviation, the other half of the prior's output.
    stoch = start.shape[1] - deter
    mean, mean_bias = w.output[:stoch].t(), w.output_bias[:stoch]
    before.feature.copy_(start)
    for action in actions:
        before.action.copy_(action)
        torch.addmm(w.cell_bias, before.inputs, cell, out=x_in)
        silu(x_in, x)
        torch.mm(x, gates_x, out=from_x)
        torch.mm(before.deter, gates_h, out=from_h)
        gru(*products, *biases, before.row, after.row, gates)
        torch.mm(after.deter, prior, out=p_in)
        norm_silu(p_in, w.prior_bias, w.scale, w.shift, p, inverse)
        torch.addmm(mean_bias, p, mean, out=after.stoch)
        yield after.feature
        before, after = after, before


class _Place(NamedTuple):
    """Room for states and the actions taken there, (B, D + S + A): all of it, and parts that lie side by side, so that
    none has to be put together.
    """

    row: Tensor
    deter: Tensor
    stoch: Tensor
    feature: Tensor
    action: Tensor
    inputs: Tensor

    @staticmethod
    def of(start: Tensor, actions: int, deter: int) -> "_Place":
        batch, size = start.shape
        row = start.new_empty(batch, size + actions)
        return _Place(row, row[:, :deter], row[:, deter:size], row[:, :size], row[:, size:], row[:, deter:])


class _Way(NamedTuple):
    """What the way back needs of K steps; the names are those of the module's docstring, sizes those of the layers."""

    feature: Tensor
    policy_out: Tensor
    x_in: Tensor
    gates: Tensor
    p_normed: Tensor
    p_inverse: Tensor
    out: Tensor

    @staticmethod
    def room(steps: int, start: Tensor, actions: int, w: Dynamics) -> "_Way":
        (width, deter), (batch, _) = w.prior.shape, start.shape
        new = start.new_empty
        return _Way(
            feature=new(steps + 1, *start.shape),
            policy_out=new(steps, batch, 2 * actions),
            x_in=new(steps, batch, len(w.cell)),
            gates=new(steps, batch, 4, deter),
            p_normed=new(steps, batch, width),
            p_inverse=new(steps, batch),
            out=new(steps, batch, len(w.output)),
        )


class _Imagine(torch.autograd.Function):
    """``imagine_along`` for autograd."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, noise: Noise, limits: Limits, count: int, *tensors: Tensor) -> Any:
        tensors = tuple(tensor.detach() for tensor in tensors)
        policy, w = tensors[:count], Dynamics(*tensors[count:])
        (steps, batch, actions), deter = noise.action.shape, w.prior.shape[1]
        way, trace = _Way.room(steps, start, actions, w), Trace.room(policy, steps, batch)
        entropy = start.new_empty(steps, batch)
        inputs, x, p = (start.new_empty(batch, size) for size in (w.cell.shape[1], len(w.cell), len(w.prior)))
        from_x, from_h = (start.new_empty(batch, 3 * deter) for _ in range(2))
        cell, gates_x, gates_h = w.cell.t(), w.input_gates.t(), w.recurrent_gates.t()
        prior, output = w.prior.t(), w.output.t()
        products = from_x.view(batch, 3, deter), from_h.view(batch, 3, deter)
        biases = w.input_bias.view(3, deter), w.recurrent_bias.view(3, deter)
        way.feature[0] = start
        before, *states = way.feature.unbind(0)
        rows = zip(states, *(part.unbind(0) for part in (*way[1:], *noise, entropy)), trace.unbind(), strict=True)
        for after, policy_out, x_in, gates, p_normed, p_inverse, out, a_noise, s_noise, nats, layers in rows:
            policy_out.copy_(through(before, policy, layers))
            act(policy_out, a_noise, limits.least, limits.most, before, inputs, nats)
            torch.addmm(w.cell_bias, inputs, cell, out=x_in)
            silu(x_in, x)
            torch.mm(x, gates_x, out=from_x)
            torch.mm(before[:, :deter], gates_h, out=from_h)
            gru(*products, *biases, before, after, gates)
            torch.mm(after[:, :deter], prior, out=p_normed)
            norm_silu(p_normed, w.prior_bias, w.scale, w.shift, p, p_inverse)
            torch.addmm(w.output_bias, p, output, out=out)
            draw(out, s_noise, limits.stoch, after)
            before = after
        ctx.noise, ctx.limits, ctx.count, ctx.layers = noise, limits, count, len(trace.out)
        ctx.save_for_backward(*tensors, *way, *trace.normed, *trace.inverse, *trace.out)
        return way.feature, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_feature: Tensor, d_entropy: Tensor) -> Any:
        saved, sizes = ctx.saved_tensors, (ctx.count, len(Dynamics._fields), len(_Way._fields), *[ctx.layers] * 3)
        taken = iter(saved)
        policy, dynamics, kept, *traced = (list(islice(taken, size)) for size in sizes)
        w, way, trace = Dynamics(*dynamics), _Way(*kept), Trace(*traced)
        d_action = along(d_feature, ctx.noise.stoch, way, w)
        d_out = behind_the_action(d_action, d_entropy, way.policy_out, ctx.noise.action, ctx.limits)
        seen = way.feature[:-1].flatten(0, 1)
        gradients = back(d_out.flatten(0, 1), seen, policy, trace.flatten())
        return None, None, None, None, *gradients, *[None] * len(w)


def along(d_feature: Tensor, noise: Tensor, way: _Way, w: Dynamics) -> Tensor:
    """The gradients of the actions (K, B, A) from those of the states (K + 1, B, D + S)."""
    (steps, batch, stoch), deter = noise.shape, w.prior.shape[1]
    new = d_feature.new_empty
    d_inputs, d_h = new(steps, batch, w.cell.shape[1]), d_feature.new_zeros(batch, deter)
    d_s, later_s = new(batch, stoch), d_feature.new_zeros(batch, stoch)
    d_out, d_p, d_x = new(batch, len(w.output)), new(batch, len(w.prior)), new(batch, len(w.cell))
    d_from_x, d_from_h, nobody = new(batch, 3 * deter), new(batch, 3 * deter), new(0, len(w.prior))
    products = d_from_x.view(batch, 3, deter), d_from_h.view(batch, 3, deter)
    of_h, of_s = (part.unbind(0)[1:] for part in d_feature.split([deter, stoch], -1))
    rows = zip(
        way.feature.unbind(0)[:-1],
        of_h,
        of_s,
        noise.unbind(0),
        d_inputs.unbind(0),
        *(part.unbind(0) for part in way[2:]),
        strict=True,
    )
    for before, to_h, to_s, s_noise, d_input, x_in, gates, p_normed, p_inverse, out in reversed(list(rows)):
        torch.add(to_s, later_s, out=d_s)
        draw_back(d_s, out, s_noise, d_out)
        torch.mm(d_out, w.output, out=d_p)
        norm_silu_back(d_p, p_normed, p_inverse, w.scale, w.shift, nobody)
        d_h.add_(to_h).addmm_(d_p, w.prior)
        gru_back(d_h, gates, before, *products)
        d_h.addmm_(d_from_h, w.recurrent_gates)
        torch.mm(d_from_x, w.input_gates, out=d_x)
        silu_back(d_x, x_in)
        torch.mm(d_x, w.cell, out=d_input)
        later_s = d_input[:, :stoch]
    return d_inputs[..., stoch:]


def behind_the_action(d: Tensor, d_entropy: Tensor, out: Tensor, noise: Tensor, limits: Limits) -> Tensor:
    """The gradient of the policy's output (K, B, 2A) from those of actions (K, B, A) and entropies (K, B).

    It passes the clip of the action as if there were none, and the bound of the mean where a step of descent leads
    inward (``networks.Bounded``).
    """
    mean, raw = out.chunk(2, -1)
    share = torch.sigmoid(raw)
    std = limits.least + (limits.most - limits.least) * share
    d_std = d * noise + d_entropy.unsqueeze(-1) / std
    outward = (mean.abs() > 1) & (d * mean < 0)
    return torch.cat([d.masked_fill(outward, 0.0), d_std * (limits.most - limits.least) * share * (1 - share)], -1)

import torch
from torch import Tensor
from torch.nn import functional as F

from telepath.dreamer.filtering import Filtered, FilterWeights, filter_sequence

MIN_STD = 0.1


def by_autograd(action: Tensor, embedding: Tensor, noise: Tensor, weights: FilterWeights) -> Filtered:
    """The same equations, one operation after the other."""
    h = action.new_zeros(action.shape[1], weights.deter.shape[1])
    s = action.new_zeros(action.shape[1], weights.stoch.shape[1])
    gates = weights.input_gates, weights.recurrent_gates, weights.input_bias, weights.recurrent_bias
    steps = []
    for t in range(len(action)):
        h = torch.gru_cell(F.silu(action[t] + s @ weights.stoch.t()), h, *gates)
        hidden = F.silu(embedding[t] + h @ weights.deter.t())
        mean, raw = F.linear(hidden, weights.output, weights.output_bias).chunk(2, -1)
        std = F.softplus(raw) + MIN_STD
        s = mean + std * noise[t]
        steps.append((h, s, mean, std))
    return Filtered(*(torch.stack(part) for part in zip(*steps, strict=True)))


def inputs() -> tuple[Tensor, Tensor, Tensor, FilterWeights]:
    """T 6, B 3, H 7, D 5, S 4, in double precision."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    shapes = [(7, 4), (15, 7), (15,), (15, 5), (15,), (7, 5), (8, 7), (8,)]
    noise = draw(6, 3, 4).detach()
    return draw(6, 3, 7), draw(6, 3, 7), noise, FilterWeights(*(draw(*shape) for shape in shapes))


def test_filtering_is_what_the_equations_say() -> None:
    action, embedding, noise, weights = inputs()
    ours = filter_sequence(action, embedding, noise, MIN_STD, weights)
    for mine, theirs in zip(ours, by_autograd(action, embedding, noise, weights), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_every_gradient_is_autograds() -> None:
    action, embedding, noise, weights = inputs()
    wanted = [action, embedding, *weights]
    generator = torch.Generator().manual_seed(1)
    pulls = [torch.randn(6, 3, size, generator=generator, dtype=torch.float64) for size in (5, 4, 4, 4)]

    def gradients(filtered: Filtered) -> tuple[Tensor, ...]:
        loss = sum(((pull * part).sum() for pull, part in zip(pulls, filtered, strict=True)), torch.tensor(0.0))
        return torch.autograd.grad(loss, wanted)

    ours = gradients(filter_sequence(action, embedding, noise, MIN_STD, weights))
    for mine, theirs in zip(ours, gradients(by_autograd(action, embedding, noise, weights)), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().sum() > 0


def test_gradient_checks_numerically() -> None:
    action, embedding, noise, weights = inputs()
    short = slice(0, 3)

    def f(a: Tensor, e: Tensor, *tensors: Tensor) -> Filtered:
        return filter_sequence(a, e, noise[short], MIN_STD, FilterWeights(*tensors))

    given = (action[short].detach().requires_grad_(), embedding[short].detach().requires_grad_(), *weights)
    assert torch.autograd.gradcheck(lambda *x: tuple(f(*x)), given)

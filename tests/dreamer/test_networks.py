import torch
from torch.distributions import Independent, Normal, kl_divergence

from telepath.dreamer.networks import Bounded, EnsembleMLP, Gaussian, kl, symexp, symlog


def random_gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(5, 3, generator=generator), 0.2 + torch.rand(5, 3, generator=generator))


def reference(p: Gaussian) -> Independent:
    return Independent(Normal(p.mean, p.std), 1)


def test_kl_and_entropy_and_likelihood_agree_with_torch() -> None:
    p, q = random_gaussian(0), random_gaussian(1)
    torch.testing.assert_close(kl(p, q), kl_divergence(reference(p), reference(q)))
    torch.testing.assert_close(p.entropy(), reference(p).entropy())
    torch.testing.assert_close(p.negative_log_likelihood(q.mean), -reference(p).log_prob(q.mean))


def test_the_second_half_of_an_output_is_a_standard_deviation_not_a_variance() -> None:
    gaussian = Gaussian.from_output(torch.zeros(20000, 2), min_std=1.0)
    sample = gaussian.sample(torch.Generator().manual_seed(0))
    assert abs(sample.std() - (1 + torch.log(torch.tensor(2.0)))) < 0.03


def test_symexp_undoes_symlog() -> None:
    x = torch.tensor([-1000.0, -1.0, -1e-3, 0.0, 0.5, 70.0])
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_ensemble_members_are_independent_networks() -> None:
    ensemble = EnsembleMLP(3, 4, 8, 2)
    x = torch.randn(5, 6, 4)
    out = ensemble(x)
    assert out.shape == (3, 5, 6, 2)
    hidden = torch.nn.functional.silu(x @ ensemble.weight_in[1] + ensemble.bias_in[1])
    torch.testing.assert_close(out[1], hidden @ ensemble.weight_out[1] + ensemble.bias_out[1])


def test_a_bounded_value_can_come_back_but_not_go_further_out() -> None:
    x = torch.tensor([-3.0, -3.0, 0.5, 0.5, 3.0, 3.0], requires_grad=True)
    slope = torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    bounded = Bounded.apply(x)
    assert bounded.tolist() == [-1.0, -1.0, 0.5, 0.5, 1.0, 1.0]
    (slope * bounded).sum().backward()
    # Descent moves x against its gradient: from -3 only up, from 3 only down.
    assert x.grad is not None
    assert x.grad.tolist() == [-1.0, 0.0, -1.0, 1.0, 0.0, 1.0]

import pytest
import torch

from telepath.dreamer.networks import Gaussian, kl, symexp
from telepath.dreamer.rssm import Latent, Observed, WorldModel, world_model_loss
from telepath.settings import DreamerSettings


@pytest.fixture
def model(small: DreamerSettings) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(3, 2, small)


def sequence(length: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    observation = torch.randn(length, batch, 3, generator=generator)
    action = torch.rand(length, batch, 2, generator=generator)
    return observation, action


def test_stepwise_filtering_equals_the_sequence(model: WorldModel) -> None:
    observation, action = sequence(5, 2)
    whole = model.observe(observation, action, None).latent
    latent = model.initial(2)
    for t in range(5):
        latent, _ = model.observe_step(latent, action[t], model.embed(observation[t]), None)
        torch.testing.assert_close(latent.feature, whole.at(t).feature)


def test_imagination_is_the_prior_of_the_same_recurrence(model: WorldModel) -> None:
    observation, action = sequence(4, 2)
    observed = model.observe(observation, action, None)
    imagined = model.imagine_step(observed.latent.at(2), action[3])
    torch.testing.assert_close(imagined.deter, observed.latent.deter[3])
    torch.testing.assert_close(imagined.stoch, observed.prior.mean[3])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_imagining_and_decoding_are_what_the_equations_say(
    model: WorldModel, dtype: torch.dtype, tolerance: float
) -> None:
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # norms and biases that begin at 1 and 0 show no mistake
    model.fit_units(torch.randn(50, 3, dtype=dtype) * torch.tensor([0.1, 1.0, 50.0], dtype=dtype) + 2)
    action = torch.rand(6, 5, 2, dtype=dtype, requires_grad=True)
    latent = Latent(torch.randn(5, model.deter, dtype=dtype), torch.randn(5, model.stoch, dtype=dtype))
    imagined = [feature.clone() for feature in model.imagine(latent, action)]
    assert len(imagined) == 6
    decode = model.decoding(5)
    for t, feature in enumerate(imagined):
        deter = model.recur(latent, action[t])
        latent = Latent(deter, model.prior(deter).mean)
        torch.testing.assert_close(feature, latent.feature, rtol=tolerance, atol=tolerance)
        state = symexp(model.decoder(latent.feature)) * model.spread + model.center
        torch.testing.assert_close(decode(feature), state, rtol=tolerance, atol=tolerance)
    features = torch.stack(imagined)
    torch.testing.assert_close(model.decode(features), torch.stack([decode(feature) for feature in imagined]))
    assert not any(each.requires_grad for each in (features, model.decode(features)))


def test_what_is_squashed_is_restored_in_the_units_of_the_observations(model: WorldModel) -> None:
    observation = torch.randn(500, 3) * torch.tensor([0.1, 1.0, 50.0]) + torch.tensor([5.0, 0.0, -3.0])
    model.fit_units(observation)
    restored = model.codec.restore(model.squash(observation), model.center, model.spread)
    torch.testing.assert_close(restored, observation, rtol=1e-4, atol=1e-4)
    assert model.squash(observation).std(0).max() < 1.0


def test_kl_is_balanced_and_free_below_the_free_nats(model: WorldModel, small: DreamerSettings) -> None:
    prior = Gaussian(torch.zeros(2, 3, 4, requires_grad=True), torch.ones(2, 3, 4))
    posterior = Gaussian(torch.full((2, 3, 4), 2.0, requires_grad=True), torch.ones(2, 3, 4))
    latent = Latent(torch.zeros(2, 3, 12), torch.zeros(2, 3, 4))
    observation, terminal = torch.zeros(2, 3, 3), torch.zeros(2, 3)
    settings = small.model_copy(update={"free_nats": 1.0, "kl_balance": 0.8, "kl_scale": 1.0})
    loss = world_model_loss(model, Observed(latent, prior, posterior), observation, terminal, settings)
    assert float(loss.kl) == pytest.approx(float(kl(posterior, prior).mean().detach())) == pytest.approx(8.0)
    loss.total.backward()
    # Both KL gradients have the same size here, so what reaches each side is its weight.
    share = prior.mean.grad.abs().sum() / (prior.mean.grad.abs().sum() + posterior.mean.grad.abs().sum())  # type: ignore[union-attr]
    assert float(share) == pytest.approx(0.8)
    free = settings.model_copy(update={"free_nats": 9.0})
    prior.mean.grad = None
    world_model_loss(model, Observed(latent, prior, posterior), observation, terminal, free).total.backward()
    assert prior.mean.grad is None or float(prior.mean.grad.abs().sum()) == 0  # type: ignore[unreachable]

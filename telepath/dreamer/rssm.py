"""The world model: a recurrent state-space model with Gaussian latents (Hafner et al. 2019, "PlaNet").

    deter_t  = GRU(deter_{t-1}, [stoch_{t-1}, action_t])       action_t led to observation t
    prior    p(stoch_t | deter_t)
    posterior q(stoch_t | deter_t, observation_t)
    decoder  p(observation_t | deter_t, stoch_t)

All sequences are time-major: (T, B, ...). How observations enter and leave the networks is the codec's matter
(``encoders``): states in units of their spread and through ``symlog``, frames through convolutions.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from telepath.dreamer.encoders import codec_for
from telepath.dreamer.filtering import FilterWeights, filter_sequence
from telepath.dreamer.imagining import Dynamics, along_means
from telepath.dreamer.networks import MIN_STD, Gaussian, kl, linear, mlp, noise_like
from telepath.observations import Observation
from telepath.settings import DreamerSettings


class Latent(NamedTuple):
    """The state of the model: ``deter`` (..., deter) recurrent, ``stoch`` (..., stoch) sampled."""

    deter: Tensor
    stoch: Tensor

    @property
    def feature(self) -> Tensor:
        """Both parts side by side, (..., deter + stoch): what every head reads."""
        return torch.cat([self.deter, self.stoch], -1)

    def detach(self) -> "Latent":
        """The same state, cut off from the gradient."""
        return Latent(self.deter.detach(), self.stoch.detach())

    def to(self, device: torch.device) -> "Latent":
        """The same state on a device."""
        return Latent(self.deter.to(device), self.stoch.to(device))

    def at(self, index: Any) -> "Latent":
        """Index the leading dimensions of both parts alike."""
        return Latent(self.deter[index], self.stoch[index])


class Observed(NamedTuple):
    """What filtering a sequence gives, all time-major: states, prior and posterior."""

    latent: Latent
    prior: Gaussian
    posterior: Gaussian


class WorldModel(nn.Module):
    """Dynamics and observations; it knows no reward, so source and target share it as it is."""

    center: Tensor
    spread: Tensor

    def __init__(self, observation: Observation | int, action_dim: int, settings: DreamerSettings):
        """``observation``: a number means a state of that many dimensions."""
        super().__init__()
        self.observation = Observation.of(observation)
        self.codec = codec_for(self.observation, settings)
        self.observation_dim, self.action_dim = self.observation.state_dim, action_dim
        self.deter, self.stoch = settings.deter, settings.stoch
        hidden = settings.hidden
        self.feature_dim = self.deter + self.stoch
        self.register_buffer("center", torch.zeros(self.observation_dim))
        self.register_buffer("spread", torch.ones(self.observation_dim))
        self.encoder = self.codec.encoder()
        self.cell_input = linear(self.stoch + action_dim, hidden)
        self.cell = nn.GRUCell(hidden, self.deter)
        self.prior_net = mlp(self.deter, hidden, 1, 2 * self.stoch)
        self.posterior_from_deter = linear(self.deter, hidden)
        self.posterior_from_embedding = linear(hidden, hidden)
        self.posterior_output = linear(hidden, 2 * self.stoch)
        self.decoder = self.codec.decoder(self.feature_dim)
        self.continuation_net = mlp(self.feature_dim, hidden, 1, 1)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.center.device

    def fit_units(self, observation: Tensor) -> None:
        """Choose the units of the states, from all observations so far (n, ...): their mean and standard deviation.

        Otherwise the fastest dimensions, which have the largest numbers, would be all that is reconstructed. To be
        called again as the replay grows: in units of random flailing, an upright walker is ten deviations off, where
        ``symlog`` resolves little.
        """
        if not self.observation_dim:
            return
        state = self.codec.state(observation)
        self.center.copy_(state.mean(0))
        self.spread.copy_(state.std(0).clamp(min=1e-2))

    def squash(self, observation: Tensor) -> Tensor:
        """Observations (..., *shape) as the networks see them: flat, (..., n) float32, in tame units."""
        return self.codec.squash(observation, self.center, self.spread)

    @torch.no_grad()
    def read(self, observation: Tensor) -> Tensor:
        """Observations (..., *shape) -> (..., ``codec.read_dim``): what other networks are given of them."""
        return self.codec.read(self.encoder, self.squash, observation)

    def initial(self, batch: int) -> Latent:
        """The state before the first observation: zeros, (B, ...)."""
        weight = self.cell_input.weight
        return Latent(weight.new_zeros(batch, self.deter), weight.new_zeros(batch, self.stoch))

    def recur(self, latent: Latent, action: Tensor) -> Tensor:
        """The next deterministic state (..., deter) after ``action`` (..., A)."""
        inputs = F.silu(self.cell_input(torch.cat([latent.stoch, action], -1)))
        return self.cell(inputs, latent.deter)

    def prior(self, deter: Tensor) -> Gaussian:
        """What the model expects of stoch (..., stoch) before it sees the observation, given ``deter`` (..., deter)."""
        return Gaussian.from_output(self.prior_net(deter))

    def posterior(self, deter: Tensor, embedding: Tensor) -> Gaussian:
        """What it believes of stoch once it has seen it; ``embedding`` is ``embed(observation)``."""
        hidden = F.silu(self.posterior_from_deter(deter) + embedding)
        return Gaussian.from_output(self.posterior_output(hidden))

    def embed(self, observation: Tensor) -> Tensor:
        """(..., *shape) -> (..., hidden): the part of the posterior that needs no recurrence."""
        return self.posterior_from_embedding(F.silu(self.encoder(self.squash(observation))))

    @torch.no_grad()
    def decode(self, feature: Tensor) -> Tensor:
        """(..., feature) -> the expected observation (..., *shape), as the environment would give it."""
        flat = feature.reshape(-1, feature.shape[-1])
        return self.decoding(len(flat))(flat).reshape(*feature.shape[:-1], *self.observation.shape)

    def decoding(self, batch: int) -> Callable[[Tensor], Tensor]:
        """``decode`` for features (batch, feature), as often as one likes, with the room for it made once."""
        return self.codec.decoding(self.decoder, self.center, self.spread, batch)

    def continuation(self, feature: Tensor) -> Tensor:
        """(..., feature) -> the probability (...) that the task has not ended in this state."""
        return torch.sigmoid(self.continuation_net(feature).squeeze(-1))

    def observe_step(
        self, latent: Latent, action: Tensor, embedding: Tensor, generator: torch.Generator | None
    ) -> tuple[Latent, Gaussian]:
        """Filter one observation, (B, ...). Without a generator the state holds the posterior mean, not a sample."""
        deter = self.recur(latent, action)
        posterior = self.posterior(deter, embedding)
        stoch = posterior.mean if generator is None else posterior.sample(generator)
        return Latent(deter, stoch), posterior

    def observe(self, observation: Tensor, action: Tensor, generator: torch.Generator | None) -> Observed:
        """Filter sequences from the initial state: observation (T, B, *shape), action (T, B, A).

        A sequence lies within one episode; the action of an episode's record 0 is zero.
        """
        noise = action.new_zeros(*action.shape[:2], self.stoch)
        if generator is not None:
            noise = noise_like(noise, generator)
        from_stoch, from_action = self.cell_input.weight.split([self.stoch, self.action_dim], 1)
        filtered = filter_sequence(
            F.linear(action, from_action, self.cell_input.bias),
            self.embed(observation) + self.posterior_from_deter.bias,
            noise,
            MIN_STD,
            FilterWeights(
                stoch=from_stoch,
                input_gates=self.cell.weight_ih,
                input_bias=self.cell.bias_ih,
                recurrent_gates=self.cell.weight_hh,
                recurrent_bias=self.cell.bias_hh,
                deter=self.posterior_from_deter.weight,
                output=self.posterior_output.weight,
                output_bias=self.posterior_output.bias,
            ),
        )
        states = Latent(filtered.deter, filtered.stoch)
        return Observed(states, self.prior(states.deter), Gaussian(filtered.mean, filtered.std))

    def imagine_step(self, latent: Latent, action: Tensor) -> Latent:
        """One step of states (B, ...) after ``action`` (B, A), without an observation: along the prior mean."""
        (feature,) = self.imagine(latent, action.unsqueeze(0))
        return self.as_latent(feature)

    def imagine(self, start: Latent, actions: Tensor) -> Iterator[Tensor]:
        """The features (B, F) of the states after each of the actions (M, B, A), along the prior means.

        Each one is good until the next one is asked for; no gradient runs back.
        """
        weights = Dynamics(*(weight.detach() for weight in self.dynamics()))
        return along_means(start.feature.detach(), actions.detach(), weights)

    def as_latent(self, feature: Tensor) -> Latent:
        """The state whose ``feature`` (..., feature) this is."""
        return Latent(*feature.split([self.deter, self.stoch], -1))

    def dynamics(self) -> Dynamics:
        """The weights that imagination takes."""
        first, norm, _, last = self.prior_net
        return Dynamics(
            cell=self.cell_input.weight,
            cell_bias=self.cell_input.bias,
            input_gates=self.cell.weight_ih,
            input_bias=self.cell.bias_ih,
            recurrent_gates=self.cell.weight_hh,
            recurrent_bias=self.cell.bias_hh,
            prior=first.weight,  # type: ignore[arg-type]
            prior_bias=first.bias,  # type: ignore[arg-type]
            scale=norm.weight,  # type: ignore[arg-type]
            shift=norm.bias,  # type: ignore[arg-type]
            output=last.weight,  # type: ignore[arg-type]
            output_bias=last.bias,  # type: ignore[arg-type]
        )


class WorldModelLoss(NamedTuple):
    """The loss to minimise and its parts, scalars in nats a step."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def world_model_loss(
    model: WorldModel, observed: Observed, observation: Tensor, terminal: Tensor, settings: DreamerSettings
) -> WorldModelLoss:
    """Reconstruction, continuation and balanced KL with free nats (Hafner et al. 2021, eq. 2 and algorithm 2).

    observation (T, B, *shape); terminal (T, B) in {0, 1}: an end by the clock is no end, so the value is
    bootstrapped there.

    The prior is pulled to the posterior with weight ``kl_balance`` and the posterior to the prior with the rest.
    Below ``free_nats`` a KL costs nothing.
    """
    feature = observed.latent.feature
    reconstruction = 0.5 * (model.squash(observation) - model.decoder(feature)).square().sum(-1).mean()
    alive = model.continuation_net(feature).squeeze(-1)
    continuation = F.binary_cross_entropy_with_logits(alive, 1 - terminal)
    prior, posterior = observed.prior, observed.posterior
    train_prior = kl(posterior.detach(), prior).mean().clamp(min=settings.free_nats)
    train_posterior = kl(posterior, prior.detach()).mean().clamp(min=settings.free_nats)
    balanced = settings.kl_balance * train_prior + (1 - settings.kl_balance) * train_posterior
    total = settings.reconstruction_scale * reconstruction + continuation + settings.kl_scale * balanced
    return WorldModelLoss(total, reconstruction.detach(), train_prior.detach())

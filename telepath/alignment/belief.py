"""The prior-belief network: from a few observations, without actions, to where the target's world model stands.

It reads a sequence of observations and the seconds between them and gives a Gaussian over the model's latent at the
last one. It is trained on random subsets of target trajectories (random length, random skips), so it knows no control
rate of its own ("temporally invariant") and can be asked about source observations, which come at another rate. The
seconds are given because velocities cannot be told from frames at unknown distances.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from telepath.dreamer.learner import Figures, descend, optimizer_of, resume, tensors_of
from telepath.dreamer.networks import Gaussian, mlp
from telepath.dreamer.replay import Replay
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.runtime.device import continue_from, generator_on, sent
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.runtime.store import load_state
from telepath.settings import BeliefSettings

MEMORY = 100
"""Updates over which the belief net's error is averaged."""


class BeliefNet(nn.Module):
    """Observations (K, B, R) and the seconds since the one before (K, B) -> Gaussian over [deter, stoch] (B, F).

    Observations come as the world model reads them out to others (``WorldModel.read``): a state's own numbers, or a
    frame's embedding.
    """

    squared_error: Tensor
    updates: Tensor

    def __init__(self, read_dim: int, feature_dim: int, settings: BeliefSettings, *, keeps_error: bool = False):
        """``keeps_error``: whether ``error`` is part of what is saved; it is for whoever compares latents."""
        super().__init__()
        self.encoder = mlp(read_dim + 2, settings.hidden, 1, settings.hidden)
        self.recurrent = nn.GRU(settings.hidden, settings.hidden)
        self.head = mlp(settings.hidden + read_dim, settings.hidden, 2, 2 * feature_dim)
        self.min_std = settings.min_std
        self.register_buffer("squared_error", torch.ones(feature_dim), persistent=keeps_error)
        self.register_buffer("updates", torch.zeros(()), persistent=keeps_error)

    @classmethod
    def of(cls, model: WorldModel, settings: BeliefSettings) -> "BeliefNet":
        """An untrained network for a world model."""
        keeps_error = model.observation.has_frames
        return cls(model.codec.read_dim, model.feature_dim, settings, keeps_error=keeps_error)

    @property
    def error(self) -> Tensor:
        """Root mean square error (F,) of the mean on the last subsets: how well each dimension can be told."""
        return self.squared_error.sqrt().clamp(min=self.min_std)

    @torch.no_grad()
    def note_error(self, mean: Tensor, feature: Tensor) -> None:
        """Let what was believed (B, F) and what was so (B, F) count towards ``error``."""
        self.updates.add_(1).clamp_(max=MEMORY)
        self.squared_error.lerp_((mean - feature).square().mean(0), 1 / self.updates)

    @classmethod
    def load(cls, path: Path, model: WorldModel, settings: BeliefSettings) -> "BeliefNet":
        """Read the network that was trained for ``model``."""
        net = cls.of(model, settings)
        stored = load_state(path, kind="belief")
        try:
            net.load_state_dict(stored["weights"])
        except (KeyError, TypeError, AttributeError, RuntimeError):
            raise UserError(f"{path}: does not fit the world model; run `dvc repro` to remake it") from None
        return net

    def forward(self, observation: Tensor, seconds: Tensor, known: Tensor) -> Gaussian:
        """The belief at the last frame.

        observation (K, B, R) as the world model reads it out (``read``); seconds (K, B); known (K, B) in {0, 1}: 0
        marks padding in front of shorter sequences; the last frame is always known.
        """
        # log turns the wide range of distances into a few units; padding reads as zeros with its flag down.
        inputs = torch.cat([observation, (seconds.unsqueeze(-1) + 1e-3).log(), known.unsqueeze(-1)], -1)
        hidden, _ = self.recurrent(self.encoder(inputs * known.unsqueeze(-1)))
        return Gaussian.from_output(self.head(torch.cat([hidden[-1], observation[-1]], -1)), self.min_std)


def to_latent(feature: Tensor, model: WorldModel) -> Latent:
    """Split [deter, stoch] (..., F) into a latent; deter is kept in the GRU's range (-1, 1)."""
    deter, stoch = feature.split([model.deter, model.stoch], -1)
    return Latent(deter.clamp(-1, 1), stoch)


class Subsets(NamedTuple):
    """Random subsets of trajectories, time-major and right-aligned: what the belief net sees, and the latents it must
    find.

    observation (K, B, R), seconds (K, B), known (K, B), feature (B, F).
    """

    observation: Tensor
    seconds: Tensor
    known: Tensor
    feature: Tensor


def random_subsets(
    observation: Tensor,
    feature: Tensor,
    step_seconds: float,
    settings: BeliefSettings,
    count: int,
    rng: np.random.Generator,
) -> Subsets:
    """Draw ``count`` subsets from filtered windows, observation (T, B, R) and feature (T, B, F).

    Each one ends at a random record, holds 1..``frames`` records and skips 1..``max_skip`` records between two. Half of
    them keep one skip throughout, as a source at another rate would; the others draw each skip anew.
    """
    length, batch = observation.shape[:2]
    frames = settings.frames
    last, row = rng.integers(0, length, count), rng.integers(0, batch, count)
    skip = rng.integers(1, settings.max_skip + 1, (frames, count))
    regular = rng.random(count) < 0.5
    skip[:, regular] = skip[:1, regular]
    # back[k] = distance of frame k to the last one; frame K-1 is the last itself.
    back = np.concatenate([np.cumsum(skip[:-1][::-1], 0)[::-1], np.zeros((1, count), skip.dtype)])
    wanted = np.arange(frames)[::-1, None] < rng.integers(1, frames + 1, count)
    known = wanted & (back <= last)
    index = np.where(known, last - back, 0)
    seconds = np.zeros((frames, count), np.float32)
    seconds[1:] = np.where(known[:-1], np.diff(index, axis=0) * step_seconds, 0)
    device = observation.device
    flags, distance = (sent(each, device) for each in (known.astype(np.float32), seconds))
    return Subsets(observation[index, row] * flags.unsqueeze(-1), distance, flags, feature[last, row])


class BeliefLearner:
    """Fits the belief net to latents that the world model, not changed by it, infers with actions."""

    def __init__(
        self,
        net: BeliefNet,
        model: WorldModel,
        settings: BeliefSettings,
        step_seconds: float,
        rng: np.random.Generator,
    ):
        self.net, self.model, self.settings = net, model, settings
        self.step_seconds, self.rng = step_seconds, rng
        self.parameters = dict(net.named_parameters())
        self.optimizer = optimizer_of(self.parameters, settings.lr)

    def update(self, observation: Tensor, latent: Latent) -> Figures:
        """One step on filtered windows, (T, B, ...), detached."""
        subsets = random_subsets(
            self.model.read(observation),
            latent.feature,
            self.step_seconds,
            self.settings,
            self.settings.subsets,
            self.rng,
        )
        belief = self.net(subsets.observation, subsets.seconds, subsets.known)
        loss = belief.negative_log_likelihood(subsets.feature).mean() / subsets.feature.shape[-1]
        descend(self.optimizer, self.parameters, loss, 10.0, "belief net", tensors_of(subsets))
        self.net.note_error(belief.mean, subsets.feature)
        return {"belief": loss.detach()}

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "net": dict(self.net.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.net.load_state_dict(state["net"])
        resume(self.optimizer, state["optimizer"])
        self.rng.bit_generator.state = state["rng"]


class BeliefTraining:
    """The first fit of a belief net to a replay, resumably."""

    def __init__(self, model: WorldModel, replay: Replay, step_seconds: float, settings: BeliefSettings, seed: int):
        torch.manual_seed(seed)
        self.model, self.replay, self.settings = model, replay, settings
        self.net = BeliefNet.of(model, settings).to(model.device)
        self.learner = BeliefLearner(self.net, model, settings, step_seconds, np.random.default_rng(seed))
        self.generator = generator_on(model.device, seed)
        self.updates = 0

    def run(self, progress: Progress, scratch: Scratch) -> None:
        """Train, from the last checkpoint in ``scratch`` if there is one."""
        if state := scratch.load():
            self.updates = state["updates"]
            self.learner.restore(state["learner"])
            continue_from(self.generator, state["generator"])
        progress.advance(self.updates)
        while self.updates < self.settings.updates:
            batch = self.replay.sample(self.settings.batch, self.settings.length, self.learner.rng)
            with torch.no_grad():
                observed = self.model.observe(batch.observation, batch.action, self.generator)
            figures = self.learner.update(batch.observation, observed.latent)
            self.updates += 1
            progress.advance(1, **figures)
            scratch.save_if_due(self.state)

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "updates": self.updates,
            "learner": self.learner.state(),
            "generator": self.generator.get_state(),
        }


@torch.no_grad()
def believe(net: BeliefNet, model: WorldModel, prefix: Array, source_step_seconds: float) -> Gaussian:
    """The belief (S, F) at the last frame of source observations (S, K, *shape)."""
    observation = torch.from_numpy(np.ascontiguousarray(prefix.swapaxes(0, 1))).to(model.device)
    return believe_read(net, model.read(observation), source_step_seconds)


@torch.no_grad()
def believe_read(net: BeliefNet, read: Tensor, step_seconds: float) -> Gaussian:
    """The same of observations as the model reads them out, (K, S, R), ``step_seconds`` apart."""
    seconds = torch.full(read.shape[:2], step_seconds, device=read.device)
    seconds[0] = 0
    return net(read, seconds, torch.ones_like(seconds))


@torch.no_grad()
def initial_latents(
    belief: Gaussian, noise: Array, model: WorldModel, misfit: Callable[[Tensor], Tensor], keep: int
) -> tuple[Latent, Array]:
    """Turn belief (S, F) and noise (S, C, F) into the ``keep`` of C sampled latents that fit best.

    misfit: features (S, C, F) -> (S, C), how far what they decode to is from the last prefix frames. The first
    noise is zero by convention, so the mean always takes part. Returns latents (S, keep, ...) and their noise
    (S, keep, F), from which the same latents can be drawn again once model and belief have moved on.
    """
    samples = belief.mean.unsqueeze(1) + belief.std.unsqueeze(1) * torch.from_numpy(noise).to(model.device)
    latent = to_latent(samples, model)
    best = misfit(latent.feature).topk(keep, largest=False).indices
    rows = torch.arange(len(best)).unsqueeze(1)
    return latent.at((rows.to(model.device), best)), noise[rows.numpy(), best.cpu().numpy()]

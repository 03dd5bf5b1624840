"""How far what is imagined lies from what was observed: what CEM and DTW compare, for each kind of observation.

Source frames and imagined target latents must become vectors of one space. From states that is the decoded state. From
pixels there are two ways:

*decoded* (the original's): latents are decoded and compared pixel by pixel. Nothing is lost, and D = 12,288. But pixels
know no nearness: a ball that is a ball's width beside its place costs as much as one at the other end of the picture,
and large things of one colour outweigh small ones that matter.

*latent*: source frames go through the belief net, imagined latents are taken as they are. Of a latent not everything
can be told from frames: the recurrent part also holds which actions were taken, and the source's nobody knows here. So
the model's own posterior is no such space, but what the belief net expects of it, given the frames alone, is: the
conditional mean, in which whatever frames do not show is averaged out. Each dimension is measured in units of the
net's error on target data, so that a dimension that cannot be told counts for little. It sees several frames and the
seconds between them: velocities are in it, which no single frame shows. A frame costs ``deter + stoch`` numbers, and no
decoder has to run.

``benchmarks.distances`` measures which one finds the truer motion; README has its table. Latent does with a trained
model, at a fraction of the cost, so it is the default; with a model of 400 updates decoded frames had done better.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from telepath.alignment.belief import BeliefNet, believe_read
from telepath.alignment.projection import Projection
from telepath.alignment.rates import Rates
from telepath.alignment.segments import FrameScale, Scale, Segments
from telepath.dreamer.rssm import WorldModel
from telepath.observations import PIXELS
from telepath.settings import LabelSettings

ROLLOUTS = 512
"""Rollouts that a CPU imagines at a time: what a step of them touches stays in a core's cache, which makes the matrix
products faster than those of thousands, and what they leave behind is a few megabytes however many segments there are.
"""

FRAME_ROLLOUTS = 64
"""The same where each step of a rollout is 12,288 numbers: 100 MB for 32 steps."""


class Distance(Protocol):
    """A space in which squared distances are taken; models and belief are looked at as they are at each call.

    rollouts: how many rollouts are to be compared at a time on a CPU.
    """

    rollouts: int

    def reference(self, segments: Segments) -> Tensor:
        """The frames to be re-enacted, (S, N, E) float32, where the model is."""
        ...

    def imagined(self, feature: Tensor) -> Tensor:
        """Imagined latents (..., F) as (..., E)."""
        ...

    def imagining(self, batch: int) -> Callable[[Tensor], Tensor]:
        """``imagined`` for latents (batch, F), to be called step after step of as many rollouts."""
        ...

    def misfit(self, here: Tensor, feature: Tensor) -> Tensor:
        """How far what latents (S, C, F) decode to is from the observations ``here`` (S, *shape): (S, C)."""
        ...


def distance_for(model: WorldModel, belief: BeliefNet, scale: Scale, rates: Rates, settings: LabelSettings) -> Distance:
    """The distance that goes with a scale and the settings."""
    if isinstance(scale, FrameScale):
        return StateDistance(model, scale)
    assert isinstance(scale, Projection)
    if settings.distance == "decoded":
        return PixelDistance(model, scale)
    return LatentDistance(model, belief, scale, rates.source_step_seconds, settings.prefix)


class StateDistance:
    """Between states, in units of their spread."""

    rollouts = ROLLOUTS

    def __init__(self, model: WorldModel, scale: FrameScale):
        self.model, self.scale = model, scale
        self.inverse_spread = torch.from_numpy(scale.inverse).to(model.device)

    def reference(self, segments: Segments) -> Tensor:
        """(S, N, D)."""
        return torch.from_numpy(self.scale(segments.reference)).to(self.model.device)

    def imagined(self, feature: Tensor) -> Tensor:
        """(..., D) decoded."""
        return self.model.decode(feature) * self.inverse_spread

    def imagining(self, batch: int) -> Callable[[Tensor], Tensor]:
        """With the decoder's room made once."""
        decode = self.model.decoding(batch)
        return lambda feature: decode(feature).mul_(self.inverse_spread)

    def misfit(self, here: Tensor, feature: Tensor) -> Tensor:
        """Squared distance of decoded states."""
        return ((self.model.decode(feature) - here.unsqueeze(1)) * self.inverse_spread).square().sum(-1)


class PixelDistance:
    """Between frames, pixel by pixel: the mean squared difference in units of the pixels' spread."""

    rollouts = FRAME_ROLLOUTS

    def __init__(self, model: WorldModel, scale: Projection):
        self.model = model
        self.unit = 1 / (scale.spread * PIXELS**0.5)

    def reference(self, segments: Segments) -> Tensor:
        """(S, N, 12288)."""
        return self._pixels(torch.from_numpy(segments.reference).to(self.model.device))

    def imagined(self, feature: Tensor) -> Tensor:
        """(..., 12288) decoded."""
        return self.model.decoder(feature)[..., :PIXELS] * self.unit

    def imagining(self, batch: int) -> Callable[[Tensor], Tensor]:
        """Nothing of it can be made before."""
        return self.imagined

    def misfit(self, here: Tensor, feature: Tensor) -> Tensor:
        """Squared distance of decoded frames."""
        return (self.imagined(feature) - self._pixels(here).unsqueeze(1)).square().sum(-1)

    def _pixels(self, observation: Tensor) -> Tensor:
        return self.model.squash(observation)[..., :PIXELS] * self.unit


class LatentDistance:
    """Between imagined latents and what the belief net makes of source frames, in units of its error."""

    rollouts = ROLLOUTS

    def __init__(self, model: WorldModel, belief: BeliefNet, scale: Projection, step_seconds: float, prefix: int):
        """``prefix``: frames that the net sees at a time, the one that is placed the last of them."""
        self.model, self.belief, self.step_seconds, self.prefix = model, belief, step_seconds, prefix
        self.frames = PixelDistance(model, scale)

    def reference(self, segments: Segments) -> Tensor:
        """(S, N, F): where the model is believed to stand at each reference frame."""
        count, length = segments.reference.shape[:2]
        frames = [torch.from_numpy(part).to(self.model.device) for part in (segments.prefix, segments.reference)]
        read = torch.cat([self.model.read(part) for part in frames], 1).transpose(0, 1)
        windows = torch.stack([read[n + 1 : n + 1 + self.prefix] for n in range(length)], 1)
        belief = believe_read(self.belief, windows.flatten(1, 2), self.step_seconds)
        return self.imagined(belief.mean.reshape(length, count, -1).transpose(0, 1))

    def imagined(self, feature: Tensor) -> Tensor:
        """(..., F), in units of what the net is usually wrong by."""
        return feature / (self.belief.error * feature.shape[-1] ** 0.5)

    def imagining(self, batch: int) -> Callable[[Tensor], Tensor]:
        """A division each time."""
        return self.imagined

    def misfit(self, here: Tensor, feature: Tensor) -> Tensor:
        """By decoded frames: of its own samples the belief would always find the mean the best."""
        return self.frames.misfit(here, feature)

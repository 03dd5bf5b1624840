"""How observations enter a world model and leave it: a codec for each kind of observation.

A codec has no weights. It makes the two networks that the world model holds, and says what numbers go into the one and
come out of the other: ``squash`` turns records into flat float32 vectors, the decoder's output is in the same units,
and ``restore`` makes records of it. So a reconstruction error is a squared difference of two vectors, whatever is seen.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from telepath.dreamer.kernels import unsquash
from telepath.dreamer.networks import linear, mlp, symlog
from telepath.dreamer.perceptron import Trace, through
from telepath.observations import PIXELS, SIDE, Observation, frames_of
from telepath.runtime.device import half_precision
from telepath.settings import DreamerSettings

READ_AT_ONCE = 512
"""Frames that are embedded at a time where no gradient is wanted: their floats would be many times their bytes."""


class Codec(Protocol):
    """What a world model asks of a kind of observation. Records are (..., *shape), vectors (..., n) float32."""

    read_dim: int

    def encoder(self) -> nn.Module:
        """A network from vectors to (..., hidden)."""
        ...

    def decoder(self, feature_dim: int) -> nn.Module:
        """A network from features (..., feature_dim) to vectors."""
        ...

    def state(self, observation: Tensor) -> Tensor:
        """The state in records, (..., D): what has units."""
        ...

    def squash(self, observation: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """Records as vectors, the state in units of ``spread`` around ``center`` (D,)."""
        ...

    def restore(self, vector: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """Vectors as records; no gradient runs back."""
        ...

    def decoding(self, decoder: nn.Module, center: Tensor, spread: Tensor, batch: int) -> Callable[[Tensor], Tensor]:
        """From features (batch, feature_dim) to the records that ``decoder`` makes of them, as often as one likes; no
        gradient runs back.
        """
        ...

    def read(self, encoder: nn.Module, squash: Callable[[Tensor], Tensor], observation: Tensor) -> Tensor:
        """Records as other networks are given them, (..., read_dim)."""
        ...


def codec_for(observation: Observation, settings: DreamerSettings) -> Codec:
    """The codec of an observation."""
    if observation.has_frames:
        return PixelCodec(observation, settings)
    return VectorCodec(observation, settings)


def in_units(vector: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    """Squashed states (..., D) in the units of ``spread`` around ``center`` (D,); no gradient runs back."""
    state = vector.detach().clone(memory_format=torch.contiguous_format)
    unsquash(state.view(-1, len(center)), spread, center)
    return state


class VectorCodec:
    """States: in units of their spread, large values tamed by ``symlog``, through multilayer perceptrons."""

    def __init__(self, observation: Observation, settings: DreamerSettings):
        self.dim, self.settings = observation.state_dim, settings
        self.read_dim = self.dim

    def encoder(self) -> nn.Module:
        """(..., D) -> (..., hidden)."""
        return mlp(self.dim, self.settings.hidden, self.settings.layers - 1, self.settings.hidden)

    def decoder(self, feature_dim: int) -> nn.Module:
        """(..., feature_dim) -> (..., D)."""
        return mlp(feature_dim, self.settings.hidden, self.settings.layers, self.dim)

    def state(self, observation: Tensor) -> Tensor:
        """The records themselves."""
        return observation

    def squash(self, observation: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """(..., D) in units of their spread."""
        return symlog((observation - center) / spread)

    def restore(self, vector: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """(..., D) in their own units."""
        return in_units(vector, center, spread)

    def decoding(self, decoder: nn.Module, center: Tensor, spread: Tensor, batch: int) -> Callable[[Tensor], Tensor]:
        """With one loop between two matrix products: a search decodes a hundred thousand states a segment."""
        weights = [weight.detach() for weight in decoder.parameters()]
        trace = Trace.room(weights, batch)

        def decode(feature: Tensor) -> Tensor:
            state = through(feature, weights, trace)
            unsquash(state, spread, center)
            return state

        return decode

    def read(self, encoder: nn.Module, squash: Callable[[Tensor], Tensor], observation: Tensor) -> Tensor:
        """Their numbers, as the encoder gets them."""
        return squash(observation)


class PixelCodec:
    """Frames, scaled to [-0.5, 0.5], through convolutions (Hafner et al. 2020); behind them the state, if it is seen.

    A vector holds the frame's 12,288 numbers, pixel by pixel, then the state's D.
    """

    def __init__(self, observation: Observation, settings: DreamerSettings):
        self.dim, self.settings = observation.state_dim, settings
        self.read_dim = settings.hidden

    def encoder(self) -> nn.Module:
        """(..., n) -> (..., hidden)."""
        return FrameEncoder(self.dim, self.settings)

    def decoder(self, feature_dim: int) -> nn.Module:
        """(..., feature_dim) -> (..., n)."""
        return FrameDecoder(feature_dim, self.dim, self.settings)

    def state(self, observation: Tensor) -> Tensor:
        """(..., D) float32 from the bytes below the frame."""
        held = observation[..., SIDE:, :, :].flatten(-3)[..., : 4 * self.dim].contiguous()
        return held.view(torch.float32)

    def squash(self, observation: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """(..., *shape) uint8 -> (..., n) float32. Only here bytes become floats, on the device where they are used."""
        frame = frames_of(observation).flatten(-3).float().mul_(1 / 255).sub_(0.5)
        if self.dim == 0:
            return frame
        return torch.cat([frame, symlog((self.state(observation) - center) / spread)], -1)

    def restore(self, vector: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """(..., n) -> (..., *shape) uint8, rounded and clipped to what a camera gives."""
        grey = (vector[..., :PIXELS] + 0.5).mul_(255).round_().clamp_(0, 255).to(torch.uint8)
        frame = grey.unflatten(-1, (SIDE, SIDE, 3))
        if self.dim == 0:
            return frame
        state = in_units(vector[..., PIXELS:], center, spread).view(torch.uint8)
        width = SIDE * 3
        rows = nn.functional.pad(state, (0, -state.shape[-1] % width)).unflatten(-1, (-1, SIDE, 3))
        return torch.cat([frame, rows], -3)

    def decoding(self, decoder: nn.Module, center: Tensor, spread: Tensor, batch: int) -> Callable[[Tensor], Tensor]:
        """Through the convolutions."""
        return lambda feature: self.restore(decoder(feature), center, spread)

    def read(self, encoder: nn.Module, squash: Callable[[Tensor], Tensor], observation: Tensor) -> Tensor:
        """Their embeddings: what a convolution has learned for the world model, nobody needs to learn again."""
        shape = observation.shape[:-3]
        lots = observation.flatten(0, len(shape) - 1).split(READ_AT_ONCE)
        return torch.cat([encoder(squash(lot)) for lot in lots]).unflatten(0, shape)


STRIDES = 4
"""Convolutions that halve a frame's side, from 64 to 4."""


def widths(depth: int) -> list[int]:
    """Channels from the frame inwards."""
    return [3, *(depth * 2**k for k in range(STRIDES))]


class FrameEncoder(nn.Module):
    """Vectors (..., n) -> (..., hidden)."""

    def __init__(self, state_dim: int, settings: DreamerSettings):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths(settings.cnn_depth)):
            layers += [initialised(nn.Conv2d(before, after, 4, 2, 1), 16 * before), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        side = SIDE // 2**STRIDES
        self.output = linear(side * side * widths(settings.cnn_depth)[-1], settings.hidden)
        self.state = mlp(state_dim, settings.hidden, settings.layers - 1, settings.hidden) if state_dim else None

    def forward(self, vector: Tensor) -> Tensor:
        """The embedding; the convolutions in half precision where that is asked for."""
        flat = vector.reshape(-1, vector.shape[-1])
        # The numbers lie pixel by pixel: seen so, this is a channels-last tensor as it is.
        frame = flat[:, :PIXELS].unflatten(-1, (SIDE, SIDE, 3)).permute(0, 3, 1, 2)
        with half_precision(vector.device.type):
            embedding = self.output(self.convolutions(frame).flatten(1)).float()
        if self.state is not None:
            embedding = embedding + self.state(flat[:, PIXELS:])
        return embedding.reshape(*vector.shape[:-1], -1)


class FrameDecoder(nn.Module):
    """Features (..., F) -> vectors (..., n)."""

    def __init__(self, feature_dim: int, state_dim: int, settings: DreamerSettings):
        super().__init__()
        channels = widths(settings.cnn_depth)[::-1]
        self.side = SIDE // 2**STRIDES
        self.input = linear(feature_dim, self.side * self.side * channels[0])
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            # Of 16 weights 4 meet in a pixel: the others belong to its neighbours.
            layers += [nn.SiLU(), initialised(nn.ConvTranspose2d(before, after, 4, 2, 1), 4 * before)]
        self.convolutions = nn.Sequential(*layers)
        self.state = mlp(feature_dim, settings.hidden, settings.layers, state_dim) if state_dim else None

    def forward(self, feature: Tensor) -> Tensor:
        """The mean of what is observed."""
        flat = feature.reshape(-1, feature.shape[-1])
        with half_precision(feature.device.type):
            small = self.input(flat).unflatten(-1, (-1, self.side, self.side))
            frame = self.convolutions(small.contiguous(memory_format=torch.channels_last)).float()
        vector = frame.permute(0, 2, 3, 1).flatten(1)
        if self.state is not None:
            vector = torch.cat([vector, self.state(flat)], 1)
        return vector.reshape(*feature.shape[:-1], -1)


SILU_GAIN = 1.7
"""What makes up for the variance that SiLU takes."""


def initialised(layer: nn.Conv2d | nn.ConvTranspose2d, inputs: int) -> nn.Module:
    """With weights that preserve the variance, where ``inputs`` meet in an output and come through SiLU; zero bias."""
    nn.init.normal_(layer.weight, std=SILU_GAIN * inputs**-0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer

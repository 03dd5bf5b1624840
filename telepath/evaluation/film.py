"""The film: several agents side by side, each in its own environment, at the same simulated time.

What is filmed is an episode of the evaluation, the very same bits: same initial state, same noise, same return. The
clock is the simulator's frame, which source and target share whatever their control rates, so a slow agent is seen
between its decisions as well.
"""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from telepath.envs.render import Camera
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.envs.watch import watched
from telepath.episodes import Array
from telepath.evaluation.agents import COLOURS, FAINT, INK, NAMES
from telepath.evaluation.judge import EVALUATION_STREAM

SECONDS = 8.0
"""Simulated time that is shown, at its own pace."""

PICTURE_SECONDS = 0.06
"""Between two pictures, as nearly as the simulator's frames allow."""

SIDE = 176
"""Height and width of an agent's picture, pixels."""

GAP, HEAD, FOOT, CLOCK = 8, 24, 22, 24
"""Pixels between pictures, for the name above, for the return below, and for the clock."""

LARGEST = 2_500_000
"""Bytes of the film: it is committed, and loaded with the first page that people see."""

PALETTE = 256
"""Colours of the film: as many as a GIF may have."""


class Take(NamedTuple):
    """One agent's part: picture (P, H, W, 3) uint8, return and steps so far (P,). After its episode all stand still."""

    picture: Array
    total: Array
    step: Array


class Timing(NamedTuple):
    """frames of the simulator between two pictures, pictures in all, seconds of a frame."""

    stride: int
    pictures: int
    frame_seconds: float

    @staticmethod
    def of(frame_seconds: float, seconds: float = SECONDS) -> "Timing":
        """About ``PICTURE_SECONDS`` between pictures; the first shows the initial state."""
        stride = max(1, round(PICTURE_SECONDS / frame_seconds))
        return Timing(stride, 1 + round(seconds / (stride * frame_seconds)), frame_seconds)

    @property
    def seconds(self) -> Array:
        """Simulated time of every picture (P,)."""
        return np.arange(self.pictures) * self.stride * self.frame_seconds


def typical_episode(returns: pd.DataFrame) -> int:
    """The episode that is least unusual, the first of equals: nobody picks the one that looks best.

    returns: a row an episode, in order, and a column an agent. There, all agents together are nearest to their medians.
    """
    return int((returns - returns.median()).abs().sum(axis=1).to_numpy().argmin())


def shoot(environment: Environment, policy: Policy, timing: Timing, seed: int, episode: int, batch: int) -> Take:
    """Film episode number ``episode`` of an evaluation that has ``batch`` of them in lockstep.

    Raises ``NoGraphics`` where nothing can be rendered.
    """
    environment.reseed(seed, EVALUATION_STREAM + episode)
    observation, over = environment.reset(), False
    policy.reset(batch)
    with Camera(environment.physics, SIDE, SIDE) as camera:
        pictures, totals, steps = [camera.frame()], [0.0], [0]
        frames, total = 0, 0.0

        def see(reward: float) -> None:
            nonlocal frames, total
            frames, total = frames + 1, total + reward
            if frames % timing.stride == 0 and len(pictures) < timing.pictures:
                pictures.append(camera.frame())
                totals.append(total)
                steps.append(-(-frames // environment.action_repeat))

        with watched(environment, see):
            while not over and len(pictures) < timing.pictures:
                # A policy draws its noise for the whole batch; what the other rows observe does not matter to this one.
                action = policy.act(np.repeat(observation[None], batch, axis=0))[episode]
                step = environment.step(action)
                observation, over = step.observation, step.last
    missing = timing.pictures - len(pictures)
    last = -(-frames // environment.action_repeat)
    return Take(
        np.stack(pictures + pictures[-1:] * missing),
        np.array(totals + [total] * missing),
        np.array(steps + [last] * missing),
    )


def make_gif(takes: Mapping[str, Take], timing: Timing) -> bytes:
    """The film of the takes, which all have this timing.

    Where it would be larger than ``LARGEST``, every second picture is left out, if need be again.
    """
    data = encode(compose(takes, timing), timing)
    while len(data) > LARGEST and timing.pictures > 2:
        takes = {agent: Take(*(part[::2] for part in take)) for agent, take in takes.items()}
        timing = Timing(2 * timing.stride, (timing.pictures + 1) // 2, timing.frame_seconds)
        data = encode(compose(takes, timing), timing)
    return data


def compose(takes: Mapping[str, Take], timing: Timing) -> list[Image.Image]:
    """The takes side by side, with names, returns and steps so far, and the time."""
    width = len(takes) * (SIDE + GAP) - GAP
    font = ImageFont.load_default(13)
    composed = []
    for number, second in enumerate(timing.seconds):
        image = Image.new("RGB", (width, HEAD + SIDE + FOOT + CLOCK), "white")
        draw = ImageDraw.Draw(image)
        for column, (agent, take) in enumerate(takes.items()):
            left = column * (SIDE + GAP)
            middle = left + SIDE // 2
            draw.text((middle, HEAD // 2), NAMES[agent], INK, font, anchor="mm")
            image.paste(Image.fromarray(take.picture[number]), (left, HEAD))
            low = HEAD + SIDE
            draw.rectangle((left, low, left + SIDE - 1, low + 3), COLOURS[agent])
            words = f"return {take.total[number]:.0f}, step {take.step[number]}"
            draw.text((middle, low + FOOT // 2 + 3), words, INK, font, anchor="mm")
        low = HEAD + SIDE + FOOT + CLOCK // 2
        clock = f"{second:.1f} s"
        draw.text((width - 4, low), clock, INK, font, anchor="rm")
        draw.line((0, low, width - 52, low), FAINT, 2)
        draw.line((0, low, (width - 52) * number / max(1, timing.pictures - 1), low), INK, 4)
        composed.append(image)
    return composed


def shared_palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """The colours that are drawn as they are, and the best for what the cameras saw."""
    drawn = [
        ImageColor.getrgb(name) for name in ("white", "#CCCCCC", "#999999", "#666666", INK, FAINT, *COLOURS.values())
    ]
    some = pictures[:: max(1, len(pictures) // 8)]
    seen = np.concatenate([np.asarray(picture)[HEAD : HEAD + SIDE].reshape(-1, 3) for picture in some])
    # Every colour once: a ball of few pixels has the same claim to its colour as the sky.
    colours = Image.fromarray(np.unique(seen, axis=0)[None]).quantize(PALETTE - len(drawn), Image.Quantize.MEDIANCUT)
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in drawn for value in colour] + (colours.getpalette() or []))
    return palette


def encode(pictures: Sequence[Image.Image], timing: Timing) -> bytes:
    """A looping GIF, the same bytes for the same pictures.

    One palette for all and no dithering: what does not move then costs nothing.
    """
    palette = shared_palette(pictures)
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    # GIF counts in hundredths: rounding the times rather than the durations keeps the pace.
    ends = np.round(np.append(timing.seconds[1:], timing.seconds[-1] + 1.0) * 100)
    durations = (10 * np.diff(ends, prepend=0)).astype(int).tolist()
    data = io.BytesIO()
    first.save(data, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=True, disposal=1)
    return data.getvalue()

"""Re-enactments from pixels to look at: reference frames above imagined ones, joined along the warping path."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from telepath.episodes import Array
from telepath.evaluation.agents import FAINT
from telepath.evaluation.evidence import Reenactments
from telepath.evaluation.figures import drawing
from telepath.observations import frames_of

SHOWN = 12
"""Frames a strip, at most."""

APART = 1.5
"""Between the strips' lower edges, in frames."""


def drawn_strips(found: Reenactments, source_step: float, target_step: float, path: Path) -> None:
    """Best, median and worst alignment below each other. Steps in seconds; time 0 is where both begin."""
    order = np.argsort(found.cost, kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    with drawing(path, 7.2) as figure:
        for axes, (title, s) in zip(figure.subplots(3, 1, sharex=True), chosen.items(), strict=True):
            pairs = np.unique(found.path[s], axis=0)
            times = source_step * np.arange(1, found.reference.shape[1] + 1)
            imagined_times = target_step * np.arange(1, int(pairs[:, 1].max()) + 2)
            width = max(times[-1], imagined_times[-1]) / SHOWN
            draw_strip(axes, frames_of(found.reference[s]), times, APART, width)
            draw_strip(axes, frames_of(found.imagined[s]), imagined_times, 0.0, width)
            ends = np.stack(
                [
                    np.stack([times[pairs[:, 0]], np.full(len(pairs), APART)], 1),
                    np.stack([imagined_times[pairs[:, 1]], np.ones(len(pairs))], 1),
                ],
                1,
            )
            axes.add_collection(LineCollection(ends, colors=FAINT, linewidths=0.9))  # type: ignore[arg-type]
            axes.set(xlim=(0, width * (SHOWN + 1)), ylim=(0, APART + 1), aspect=width)
            axes.set_yticks([0.5, APART + 0.5], ["target, imagined", "source, observed"])
            axes.set_title(f"{title}: cost {found.cost[s]:.2g}", loc="left")
        axes.set_xlabel("seconds")


def draw_strip(axes: Axes, frames: Array, times: Array, low: float, width: float) -> None:
    """Frames (T, H, W, 3) around their times (n,) seconds, as many as fit side by side; those beyond n are left out."""
    for t in np.unique(np.linspace(0, len(times) - 1, min(SHOWN, len(times))).round().astype(int)):
        left = times[t] - width / 2
        axes.imshow(frames[t], extent=(left, left + width, low, low + 1), interpolation="nearest", aspect="auto")

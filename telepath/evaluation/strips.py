"""Re-enactments to look at: reference frames above imagined ones, joined along the warping path.

From pixels the frames are those that were observed and imagined; from states they are rendered poses.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from telepath.episodes import Array
from telepath.evaluation.agents import BLUE, COLOURS
from telepath.evaluation.evidence import Reenactments
from telepath.evaluation.figures import drawing, telling_segments

SHOWN = 12
"""Frames a strip, at most."""

APART = 1.75
"""Between the strips' lower edges, in frames."""

MARGIN = 0.03
"""Left free round a frame, in frames."""

LINES = "#8A8A8A"


def drawn_strips(found: Reenactments, source_step: float, target_step: float, path: Path) -> None:
    """Best, median and worst alignment below each other. Steps in seconds; time 0 is where both begin.

    Of ``found`` reference and imagined are frames (S, N, H, W, 3) and (S, M, H, W, 3). Strips are as long as each other
    however long they last: what is matched lies nearly below each other where the pace is even.
    """
    with drawing(path, 6.9) as figure:
        for axes, (title, s) in zip(figure.subplots(3, 1), telling_segments(found.cost).items(), strict=True):
            pairs = np.unique(found.path[s], axis=0)
            reference, imagined = found.reference[s], found.imagined[s, : int(pairs[:, 1].max()) + 1]
            draw_strip(axes, reference, source_step, APART, COLOURS["source"], above=True)
            draw_strip(axes, imagined, target_step, 0.0, BLUE, above=False)
            before, after = places(len(reference))[pairs[:, 0]], places(len(imagined))[pairs[:, 1]]
            upper, lower = np.full(len(pairs), APART), np.ones(len(pairs))
            ends = np.stack([np.stack([before, upper], 1), np.stack([after, lower], 1)], 1)
            axes.add_collection(LineCollection(ends, colors=LINES, linewidths=0.9))  # type: ignore[arg-type]
            axes.set(xlim=(0, SHOWN), ylim=(-0.25, APART + 1.25), aspect="equal", xticks=[])
            axes.set_yticks([0.5, APART + 0.5], ["target", "source"], rotation=90, va="center")
            axes.tick_params(length=0)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            axes.set_title(f"{title}: cost {found.cost[s]:.2g}")


def shown_of(count: int) -> Array:
    """Which of ``count`` frames are shown: as many as fit, evenly."""
    return np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))


def places(count: int) -> Array:
    """Where the middles of ``count`` frames lie on a strip (count,): those that are shown evenly, the rest between."""
    shown = shown_of(count)
    return np.interp(np.arange(count), shown, np.linspace(0.5, SHOWN - 0.5, len(shown)))


def draw_strip(axes: Axes, frames: Array, step: float, low: float, colour: str, *, above: bool) -> None:
    """Frames (T, H, W, 3), as many as fit side by side, with their times in seconds above or below."""
    middles, reach = places(len(frames)), 0.5 - MARGIN
    for t in shown_of(len(frames)):
        extent = (middles[t] - reach, middles[t] + reach, low + MARGIN, low + 1 - MARGIN)
        axes.imshow(frames[t], extent=extent, interpolation="nearest")
        y, side = (low + 1.03, "bottom") if above else (low - 0.03, "top")
        axes.text(middles[t], y, f"{(t + 1) * step:.2f} s", fontsize=7.5, color=colour, ha="center", va=side)

"""Re-enactments to look at: reference frames above those imagined frames that the warping path matches with them.

From pixels the frames are those that were observed and imagined; from states they are rendered poses.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from telepath.episodes import Array
from telepath.evaluation.agents import BLUE, COLOURS
from telepath.evaluation.evidence import Reenactments
from telepath.evaluation.figures import drawing, telling_segments

SHOWN = 8
"""Pairs of frames a strip, at most."""

APART = 1.16
"""Between the strips' lower edges, in frames."""

MARGIN = 0.03
"""Left free round a frame, in frames."""

LINES = "#8A8A8A"

MOVED = 40
"""By how much a colour must differ from its usual value, of 255, to count as motion: a decoder's blur does not."""

AROUND = 0.06
"""Left free round what moves, as a share of its size."""


def drawn_strips(found: Reenactments, source_step: float, target_step: float, path: Path) -> None:
    """Best, median and worst alignment below each other. Steps in seconds; time 0 is where both begin.

    Of ``found`` reference and imagined are frames (S, N, H, W, 3) and (S, M, H, W, 3). Reference frames are shown at
    even times; below each stands what it is matched with, so that the target's times tell its pace.
    """
    with drawing(path, 8.3) as figure:
        for axes, (title, s) in zip(figure.subplots(3, 1), telling_segments(found.cost).items(), strict=True):
            pairs = shown_pairs(found.path[s])
            reference, imagined = found.reference[s, pairs[:, 0]], found.imagined[s, pairs[:, 1]]
            seen = moving_square(np.concatenate([reference, imagined]))
            draw_strip(axes, reference[:, *seen], source_step * (1 + pairs[:, 0]), APART, COLOURS["source"], above=True)
            draw_strip(axes, imagined[:, *seen], target_step * (1 + pairs[:, 1]), 0.0, BLUE, above=False)
            axes.vlines(np.arange(len(pairs)) + 0.5, 1, APART, LINES, linewidths=1.4)
            axes.set(xlim=(0, SHOWN), ylim=(-0.2, APART + 1.2), aspect="equal", xticks=[])
            axes.set_yticks([0.5, APART + 0.5], ["target", "source"], rotation=90, va="center")
            axes.tick_params(length=0)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            axes.set_title(f"{title}: cost {found.cost[s]:.2g}")


def shown_pairs(path: Array) -> Array:
    """What is shown of a path (L, 2): as many of its reference frames as fit, evenly, each with the middle one of those
    that it is matched with.
    """
    pairs = np.unique(path, axis=0)
    frames = np.unique(pairs[:, 0])
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int))]
    matched = [pairs[pairs[:, 0] == n, 1] for n in chosen]
    return np.stack([chosen, [others[len(others) // 2] for others in matched]], 1)


def moving_square(frames: Array) -> tuple[slice, slice]:
    """Rows and columns of the smallest square that holds whatever moves in frames (T, H, W, 3), with a margin.

    All of the frames where nothing moves, or everything because the camera does.
    """
    usual = np.median(frames, axis=0)
    moves = (np.abs(frames - usual) > MOVED).any(axis=(0, 3))
    height, width = moves.shape
    if not moves.any():
        return slice(0, height), slice(0, width)
    rows, columns = np.flatnonzero(moves.any(1)), np.flatnonzero(moves.any(0))
    extent = 1 + max(rows[-1] - rows[0], columns[-1] - columns[0])
    side = min(round(extent * (1 + 2 * AROUND)) + 2, height, width)

    def span(places: Array, length: int) -> slice:
        low = int(np.clip((places[0] + places[-1] + 1 - side) // 2, 0, length - side))
        return slice(low, low + side)

    return span(rows, height), span(columns, width)


def draw_strip(axes: Axes, frames: Array, seconds: Array, low: float, colour: str, *, above: bool) -> None:
    """Frames (T, H, W, 3) side by side, with their times above or below."""
    for t, (frame, second) in enumerate(zip(frames, seconds, strict=True)):
        extent = (t + MARGIN, t + 1 - MARGIN, low + MARGIN, low + 1 - MARGIN)
        axes.imshow(frame, extent=extent, interpolation="nearest")
        y, side = (low + 1.02, "bottom") if above else (low - 0.02, "top")
        axes.text(t + 0.5, y, f"{second:.2f} s", fontsize=9, color=colour, ha="center", va=side)

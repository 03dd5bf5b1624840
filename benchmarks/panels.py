"""Small panels side by side that all show a true return: for tables of many tasks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from telepath.evaluation.figures import drawing, thousands

COLUMNS = 3


@contextmanager
def return_panels(path: Path, titles: Sequence[str], along: str, legend_columns: int) -> Iterator[list[Axes]]:
    """A panel a title to draw on, three in a line at most, written to ``path`` at the end with one legend for all.

    along: what the returns are drawn over.
    """
    columns = min(COLUMNS, len(titles))
    lines = -(-len(titles) // columns)
    with drawing(path, 2.3 * lines + 0.9) as figure:
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        panels = list(axes.flat[: len(titles)])
        for axis in axes.flat[len(titles) :]:
            axis.set_axis_off()
        yield panels
        for axis, title in zip(panels, titles, strict=True):
            axis.set_title(title, fontsize=10)
            axis.set(xlim=(0, None), ylim=(0, 1000))
            axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            thousands(axis.xaxis)
        for axis in axes[:, 0]:
            axis.set_ylabel("true return")
        for axis in panels[-columns:]:  # the lowest of every column
            axis.set_xlabel(along)
        named: dict[str, Any] = {}
        for axis in panels:
            named |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=legend_columns)

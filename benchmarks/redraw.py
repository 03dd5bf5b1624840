"""Draw the committed measurements again, without measuring.

python -m benchmarks.redraw [--measured reports/benchmarks] [--grid reports/benchmark]
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import dreamer, dtw, labelling, table, updates
from telepath.config import load


def rows(path: Path) -> list[dict[Any, Any]]:
    """The rows of a measurement."""
    return pd.read_csv(path).to_dict("records")


def main(arguments: list[str] | None = None) -> None:
    """Read the tables and draw."""
    parser = argparse.ArgumentParser(description="Pictures of the benchmarks that are committed.")
    parser.add_argument("--measured", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--grid", type=Path, default=Path("reports/benchmark"))
    options = parser.parse_args(arguments)
    measured, grid = options.measured, options.grid
    dtw.draw(rows(measured / "dtw.csv"), measured / "dtw.png")
    sizes = rows(measured / "labelling-scale.csv")
    labelling.draw(rows(measured / "labelling.csv"), sizes, measured / "labelling.png")
    updates.draw(pd.read_csv(measured / "updates.csv"), measured / "updates.png")
    dreamer.draw(measured / "dreamer", measured / "dreamer" / "curves.png", load(Path("params.yaml")))
    table.draw(pd.read_csv(grid / "rounds.csv"), pd.read_csv(grid / "results.csv"), grid / "curves.png")


if __name__ == "__main__":
    main()

"""All rivals beside Telepath on the same targets, budgets and seeds: a table and a picture of finished cells.

    python -m benchmarks.grid --settings rivals --tasks ball_in_cup-catch --gaps rate --seeds 0 1 2
    python -m benchmarks.grid --settings rivals --tasks walker-walk --gaps "mass 1.5" --seeds 0 1 2
    python -m benchmarks.rivals

Writes reports/benchmark/rivals.csv (a row an agent, cell and seed), rivals.md and rivals.png. Returns are means over
the evaluation's episodes; *minutes* is what training took, on the threads that the grid gave a worker.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cells import RIVALS, SETTINGS
from benchmarks.table import CONFIDENCE, FOLDER, load_cells
from telepath.config import load
from telepath.evaluation.agents import BLUE, FAINT, INK
from telepath.evaluation.figures import drawing, percent
from telepath.evaluation.page import table
from telepath.evaluation.rivals import EVERYONE, what_it_sees
from telepath.evaluation.scores import mean_interval
from telepath.files import write_atomically

TRAINED = {"telepath": "train_target", "source": "train_source", "oracle": "train_oracle", "pada": "train_pada"}
"""Who of the main pipeline is trained, and in which stage; another rival's stage bears its name."""


def results(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """task, gap, seed, agent, return, steps (None: not trained in the target), minutes (None: not trained)."""
    rows = []
    for cell in cells:
        for agent in EVERYONE:
            if agent not in cell["returns"]:
                continue
            sample = cell["returns"][agent]
            steps = cell["target_steps"].get(agent, 0)
            key = (cell["task"], cell["gap"], cell["seed"], agent)
            rows.append((*key, sum(sample) / len(sample), steps or None, minutes(cell["stage_minutes"], agent)))
    columns = ["task", "gap", "seed", "agent", "return", "steps", "minutes"]
    return pd.DataFrame(rows, columns=columns).round(2)


def minutes(stages: dict[str, float], agent: str) -> float | None:
    """What an agent's training took, if it took place."""
    known = {name.rpartition("@")[2]: took for name, took in stages.items() if name.startswith("train")}
    return known.get(TRAINED.get(agent, agent))


def page(rows: pd.DataFrame, sees: dict[str, str]) -> str:
    """A table for each task and gap, in Markdown."""
    parts = [
        "# The rivals",
        "True return in the target, mean over seeds with the "
        f"{percent(CONFIDENCE)} interval over seeds (Student); the lowest and the highest seed; target steps, and "
        "minutes of training, means over seeds. Nobody but the oracle reads the target's reward. Made by "
        "`python -m benchmarks.rivals` of the cells that `python -m benchmarks.grid --settings rivals` has run.",
    ]
    for (task, gap), here in rows.groupby(["task", "gap"], sort=False):
        lines = []
        for agent in here["agent"].unique().tolist():
            runs = here[here["agent"] == agent]
            mean, low, high = mean_interval(runs["return"].to_numpy(), CONFIDENCE)
            among = [f"{low:.0f} to {high:.0f}", f"{runs['return'].min():.0f} to {runs['return'].max():.0f}"]
            steps, took = runs["steps"].mean(), runs["minutes"].mean()
            lines.append(
                [
                    f"**{EVERYONE[agent]}**" if agent == "telepath" else EVERYONE[agent],
                    f"{mean:.0f}",
                    *(among if len(runs) > 1 else ["–", "–"]),  # one seed says nothing of the others
                    f"{len(runs)}",
                    "–" if pd.isna(steps) else f"{steps:,.0f}",
                    "–" if pd.isna(took) else f"{took:.1f}",
                    sees.get(agent, "the target, with its reward"),
                ]
            )
        header = ["agent", "return", "interval", "seeds from", "seeds", "steps", "minutes", "what it may see"]
        parts += [f"## {task}, {gap}", table(header, lines, "lrrrrrrl")]
    return "\n\n".join([*parts, "![True returns by seed](rivals.png)"]) + "\n"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel for each task and gap: a bar to each agent's mean return, a dot for each seed."""
    panels = list(rows.groupby(["task", "gap"], sort=False))
    shown = [agent for agent in EVERYONE if agent in set(rows["agent"])]
    with drawing(path, height=0.28 * len(shown) + 1.2) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, ((task, gap), here) in zip(axes, panels, strict=True):
            mean = here.groupby("agent")["return"].mean().reindex(shown)
            colours = [BLUE if agent == "telepath" else FAINT for agent in shown]
            axis.barh([EVERYONE[agent] for agent in shown], mean, color=colours, height=0.7)
            axis.plot(here["return"], [shown.index(agent) for agent in here["agent"]], "o", color=INK, markersize=3)
            axis.set(title=f"{task}, {gap}", xlabel="true return", xlim=(0, 1000))
            axis.grid(visible=False, axis="y")
        axes[0].invert_yaxis()


def main() -> None:
    """Read the cells and write."""
    cells = [cell for cell in load_cells(FOLDER / "cells") if cell["setting"] == RIVALS]
    if not cells:
        raise SystemExit("no finished cells of rivals; run `python -m benchmarks.grid --settings rivals` first")
    rows = results(cells)
    params = load(Path("params.yaml")).model_copy(update={"setting": SETTINGS[0]})
    sees = {agent: what_it_sees(agent, params) for agent in EVERYONE if agent != "oracle"}
    write_atomically(FOLDER / "rivals.csv", rows.to_csv(index=False))
    write_atomically(FOLDER / "rivals.md", page(rows, sees))
    draw(rows, FOLDER / "rivals.png")
    print(f"{len(cells)} cells: {FOLDER / 'rivals.md'}")


if __name__ == "__main__":
    main()

"""All rivals beside Telepath on the same targets, budgets and seeds: a table and a picture of finished cells.

    python -m benchmarks.grid --settings rivals --tasks ball_in_cup-catch --gaps rate --seeds 0 1 2
    python -m benchmarks.grid --settings rivals --tasks walker-walk --gaps "mass 1.5" --seeds 0 1 2
    python -m benchmarks.rivals

Writes reports/benchmark/rivals.csv (a row an agent, cell and seed), rivals.md and rivals.png. Returns are means over
the evaluation's episodes; *minutes* is what training took, on the threads that the grid gave a worker, the source
agent's apart. Telepath, the oracle and the converged one are shown where the grid has run them for the same target.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cells import ORACLES, SETTINGS, Cell
from benchmarks.table import COLUMNS, CONFIDENCE, FOLDER, load_cells
from telepath.config import load
from telepath.evaluation.agents import BLUE, FAINT, INK
from telepath.evaluation.figures import drawing, percent
from telepath.evaluation.page import table
from telepath.evaluation.rivals import EVERYONE, ONLINE, RATES_ALONE, RIVALS, minutes_of, what_it_sees
from telepath.evaluation.scores import mean_interval
from telepath.files import write_atomically

SHOWN = {agent: name for agent, name in EVERYONE.items() if agent not in ORACLES} | {o: COLUMNS[o] for o in ORACLES}
"""Who is shown, in this order, under which name."""

UNCHANGED = ("zero_shot", "action_hold")
"""The source's policy in the target, without adaptation."""

HIGHEST = 1000
"""The return of an episode that is paid in full at every frame of our tasks."""


def results(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """task, gap, seed, agent, return, steps (None: not trained in the target), minutes (None: not trained, or not
    measured), source (which agent of the source; None: not needed, or not known), source_steps (told of Telepath's runs
    alone), kept (whether every episode of the judgement went as with the source's policy, unchanged or held), code.

    Of Telepath and oracles only those cells count beside which there are rivals, of the same seed where the oracle is
    not converged.
    """
    runs = {(cell["task"], cell["gap"], cell["seed"]) for cell in cells if cell["setting"] in RIVALS}
    unchanged = {
        (cell["task"], cell["gap"], cell["seed"]): [cell["returns"].get(agent) for agent in UNCHANGED]
        for cell in cells
        if cell["setting"] == SETTINGS[0]
    }
    rows = []
    for told in cells:
        cell = Cell(told["task"], told["gap"], told["setting"], told["seed"])
        seeds = {seed for *place, seed in runs if place == [cell.task, cell.gap]}
        if not seeds or (cell.setting != ORACLES[1] and cell.seed not in seeds):
            continue
        for agent, sample in told["returns"].items():
            name = cell.setting if cell.setting in ORACLES else agent
            steps = told["target_steps"] if agent == cell.agent else None
            took = minutes_of(agent, told["stage_minutes"])
            key = (cell.task, cell.gap, cell.seed, name)
            kept = steps is not None and sample in unchanged.get(key[:3], [])
            begun = (told.get("source"), told.get("source_steps"), kept, told["code"])
            rows.append((*key, sum(sample) / len(sample), steps, took, *begun))
    columns = ["task", "gap", "seed", "agent", "return", "steps", "minutes", "source", "source_steps", "kept", "code"]
    table = pd.DataFrame(rows, columns=columns).round(2)
    order = list(SHOWN)
    return table.sort_values(
        ["task", "gap", "seed", "agent"],
        key=lambda c: c.map(order.index) if c.name == "agent" else c,
        ignore_index=True,
    )


def page(rows: pd.DataFrame, sees: dict[str, str]) -> str:
    """A table for each task and gap, in Markdown."""
    parts = [
        "# The rivals",
        f"True return in the target, mean over seeds, with the {percent(CONFIDENCE)} interval over seeds (Student, cut "
        f"to 0 and {HIGHEST:,}), from three unlike ones on; the lowest and the highest seed; target steps, and "
        "minutes, means over seeds: of all training that an agent needs besides the source agent's, which stand in the "
        "first row, and which DARC and domain randomisation do without; a dash: not trained, or not measured. The "
        "target withholds its reward from everybody but the oracle; where the source's simulator *is* the target, a "
        "line below the table says who trains there. At equal control rates held actions are zero-shot. Made by "
        "`python -m benchmarks.rivals` of the cells that `python -m benchmarks.grid --settings rivals` has run.",
    ]
    for (task, gap), here in rows.groupby(["task", "gap"], sort=False):
        lines = []
        for agent in [known for known in SHOWN if known in set(here["agent"])]:
            runs = here[here["agent"] == agent]
            mean, low, high = mean_interval(runs["return"].to_numpy(), CONFIDENCE)
            interval = f"{max(0, low):.0f} to {min(HIGHEST, high):.0f}"
            among = f"{runs['return'].min():.0f} to {runs['return'].max():.0f}"
            steps, took = runs["steps"].mean(), runs["minutes"].mean()
            lines.append(
                [
                    f"**{SHOWN[agent]}**" if agent == "telepath" else SHOWN[agent],
                    f"{mean:.0f}",
                    # Two seeds say next to nothing of the others; random actions are the same ones in every seed.
                    interval if len(runs) > 2 and low < high else "–",
                    among if len(runs) > 1 else "–",
                    f"{len(runs)}",
                    "–" if pd.isna(steps) else f"{steps:,.0f}",
                    "–" if pd.isna(took) else f"{took:.1f}",
                    sees.get(agent, "the target, with its reward"),
                ]
            )
        header = ["agent", "return", "interval", "lowest to highest", "seeds", "steps", "minutes", "what it may see"]
        parts += [
            f"## {task}, {gap}",
            f"Code: commit {', '.join(here['code'].unique())}.",
            table(header, lines, "lrrrrrrl"),
            *([RATES_ALONE] if gap == "rate" else []),
            *strangers(here),
            *unlike_budgets(here),
            *missing_seeds(here),
            *keepers(here),
            slower(here),
        ]
    return "\n\n".join([*parts, "![True returns by seed](rivals.png)"]) + "\n"


def strangers(rows: pd.DataFrame) -> Iterator[str]:
    """Seeds whose agents of a task and gap do not all come from one source agent, as far as that is known."""
    begun = rows[~rows["agent"].isin([*ORACLES, *ONLINE])].groupby("seed")["source"].nunique(dropna=False)
    if seeds := ", ".join(str(seed) for seed in begun.index[begun > 1]):
        yield (
            f"Not all runs of seed {seeds} are known to begin with the same source agent: they are of machines, or of "
            "commits, that differ in a training's last bits."
        )


def unlike_budgets(rows: pd.DataFrame) -> Iterator[str]:
    """Seeds whose source agents were not trained for the same number of steps."""
    known = rows[rows["agent"] == "telepath"].dropna(subset="source_steps").groupby("source_steps")["seed"]
    if known.ngroups > 1:
        told = "; ".join(f"{steps:,.0f} (seed {enumerated(seeds)})" for steps, seeds in known)
        yield f"The source's steps differ between seeds: {told}. So a mean over them is one of two settings."


def missing_seeds(rows: pd.DataFrame) -> Iterator[str]:
    """Who was not run on all seeds: a mean over others says less than it seems to."""
    seeds = set(rows["seed"])
    lacking = {agent: seeds - set(runs) for agent, runs in rows.groupby("agent")["seed"] if agent != ORACLES[1]}
    if told := "; ".join(f"{SHOWN[agent]}: seed {enumerated(lacking[agent])}" for agent in SHOWN if lacking.get(agent)):
        yield f"Not run, so that their means are over other seeds: {told}."


def keepers(rows: pd.DataFrame) -> Iterator[str]:
    """Who ships the source's policy, so that its row says that this was found best, and no more of its training."""
    seeds = rows[rows["kept"]].groupby("agent")["seed"]
    told = "; ".join(
        f"{SHOWN[agent]} (seed {enumerated(seeds.get_group(agent))})" for agent in SHOWN if agent in seeds.groups
    )
    if told:
        yield f"Ships the source's policy, as it is or held: {told}."


def slower(rows: pd.DataFrame) -> str:
    """Whose training, its source agent's included where it begins with one, took longer than Telepath's whole run."""
    longer, compared = [], []
    for seed, runs in rows.groupby("seed"):
        took = runs.set_index("agent")["minutes"].dropna()
        if {"source", "telepath"} <= set(took.index):
            compared.append(seed)
            whole = took["source"] + took["telepath"]
            for agent in [rival for rival in RIVALS if rival in took.index]:
                minutes = took[agent] + (0 if agent in ONLINE else took["source"])
                if minutes > whole:
                    longer.append(f"{SHOWN[agent]} {minutes:.1f} of {whole:.1f} minutes (seed {seed})")
    if not compared:
        return "Whether anybody took longer than Telepath was not measured."
    told = "; ".join(longer) or "nobody"
    seeds = enumerated(compared)
    return f"Longer than Telepath, with the source agent's training for those who need it (seed {seeds}): {told}."


def enumerated(seeds: Iterable[Any]) -> str:
    """Seeds in their order, with commas."""
    return ", ".join(str(seed) for seed in sorted(seeds))


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel for each task and gap: a bar to each agent's mean return, a dot for each seed."""
    panels = list(rows.groupby(["task", "gap"], sort=False))
    shown = [agent for agent in SHOWN if agent in set(rows["agent"])]
    with drawing(path, height=0.28 * len(shown) + 1.2) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, ((task, gap), here) in zip(axes, panels, strict=True):
            mean = here.groupby("agent")["return"].mean().reindex(shown)
            colours = [BLUE if agent == "telepath" else FAINT for agent in shown]
            axis.barh([SHOWN[agent] for agent in shown], mean, color=colours, height=0.7)
            axis.plot(here["return"], [shown.index(agent) for agent in here["agent"]], "o", color=INK, markersize=3)
            axis.set(title=f"{task}, {gap}", xlabel="true return", xlim=(0, 1000))
            axis.grid(visible=False, axis="y")
        axes[0].invert_yaxis()


def main() -> None:
    """Read the cells and write."""
    cells = [cell for cell in load_cells(FOLDER / "cells") if cell["setting"] in (SETTINGS[0], *ORACLES, *RIVALS)]
    if all(cell["setting"] not in RIVALS for cell in cells):
        raise SystemExit("no finished cells of rivals; run `python -m benchmarks.grid --settings rivals` first")
    rows = results(cells)
    params = load(Path("params.yaml")).model_copy(update={"setting": SETTINGS[0]})
    sees = {agent: what_it_sees(agent, params) for agent in EVERYONE if agent != "oracle"}
    write_atomically(FOLDER / "rivals.csv", rows.to_csv(index=False))
    write_atomically(FOLDER / "rivals.md", page(rows, sees))
    draw(rows, FOLDER / "rivals.png")
    print(f"{len(rows)} rows: {FOLDER / 'rivals.md'}")


if __name__ == "__main__":
    main()

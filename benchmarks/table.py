"""The benchmark's tables and pictures, from the cells that `python -m benchmarks.grid` has finished.

    python -m benchmarks.table

Writes reports/benchmark/results.csv (a row an agent, cell and seed), rounds.csv (a row a round), curves.png and
index.md, and ablations.md where there are any. Returns are means over the evaluation's episodes. Intervals treat seeds
as the replicates: they resample the seeds within each cell, so one seed alone has none.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.bars import PLACE, RUN, bars, scores, stability
from benchmarks.cells import ABLATIONS, EXTRA, GAPS, RATES, SETTINGS, Cell, planned
from benchmarks.panels import return_panels
from telepath.evaluation.agents import BLUE, COLOURS, VERMILION
from telepath.evaluation.rivals import RIVALS, minutes_of
from telepath.evaluation.scores import iqm, mean_interval, stratified_interval

FOLDER = Path(__file__).resolve().parent.parent / "reports" / "benchmark"
CONFIDENCE = 0.95
COLUMNS = {
    "source": "source at home",
    "random": "random",
    "zero_shot": "zero-shot",
    "action_hold": "action hold",
    SETTINGS[0]: f"Telepath, {SETTINGS[0]}",
    SETTINGS[1]: f"Telepath, {SETTINGS[1]}",
    "oracle": "oracle, same steps",
    "converged oracle": "oracle, converged",
}

STYLES = {SETTINGS[0]: (BLUE, "o-"), SETTINGS[1]: (VERMILION, "s--")}
"""Colour and line of Telepath's rounds, by setting."""

LEVELS = {"source": "-", "zero_shot": ":", "oracle": "--"}
"""Line of those who are shown as levels."""


def load_cells(folder: Path) -> list[dict[str, Any]]:
    """All finished cells, in the grid's order."""
    cells = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    tasks, gaps = list(RATES), [*GAPS, EXTRA[1]]
    return sorted(cells, key=lambda c: (tasks.index(c["task"]), gaps.index(c["gap"]), c["setting"], c["seed"]))


def results(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """task, gap, setting, seed, agent (as in ``COLUMNS``), return, low, high (over episodes), steps, minutes, code.

    minutes: of all training in the target; None where not all of it was measured. Steps and minutes are told of those
    alone whom the cell has trained.
    """
    rows = []
    for cell in cells:
        for agent, sample in cell["returns"].items():
            mean, low, high = mean_interval(sample, CONFIDENCE)
            name = cell["setting"] if agent in ("telepath", "oracle") else agent
            key = (cell["task"], cell["gap"], cell["setting"], cell["seed"], name)
            took = minutes_of(Cell(*key[:4]).agent, cell["stage_minutes"])
            effort = (cell["target_steps"], took) if name == cell["setting"] else (None, None)
            rows.append((*key, mean, low, high, *effort, cell["code"]))
    columns = ["task", "gap", "setting", "seed", "agent", "return", "low", "high", "steps", "minutes", "code"]
    return pd.DataFrame(rows, columns=columns).astype({"steps": "Int64"}).round(3)


def rounds(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a round of every transfer: what was known without the true reward, and the true return."""
    parts = []
    for cell in cells:
        if cell.get("rounds"):
            part = pd.DataFrame(cell["rounds"])
            if "score" not in part:  # a cell of before policies were tried out in imagination
                part["score"] = part["inferred_return"]
            for place, key in enumerate(RUN):
                part.insert(place, key, cell[key])
            parts.append(part)
    if not parts:
        raise SystemExit("no finished transfer in reports/benchmark/cells; run `python -m benchmarks.grid` first")
    return pd.concat(parts, ignore_index=True)


SCORES = {
    "over source": "of the source at home",
    "over oracle": "of the oracle at the same steps",
    "over converged": "of the converged oracle",
    "normalised": "(J - random) / (source - random)",
    "closure": "gap closed, to the oracle at the same steps",
    "converged closure": "gap closed, to the converged oracle",
}
"""Columns of ``scores`` that are summed up, and how they are called."""


FEW = 4
"""Fewer values have no quarters to leave out."""


def summary(rows: pd.DataFrame, score: str) -> str:
    """How many runs have a score, its interquartile mean and its mean, and the mean's stratified interval."""
    middle = f"{iqm(rows[score].to_numpy()):.2f}" if len(rows) >= FEW else "–"
    strata = [part[score].to_numpy() for _, part in rows.groupby(PLACE, sort=False)]
    mean = stratified_interval(strata, CONFIDENCE)
    interval = f"{mean.low:.2f} to {mean.high:.2f}" if min(map(len, strata)) > 1 else "–"
    return f"{len(rows)} | {middle} | {mean.mean:.2f} | {interval}"


def progress(table: pd.DataFrame) -> str:
    """How much of what is planned has been run."""
    done = set(table[RUN].itertuples(index=False, name=None))
    wanted = pd.DataFrame([(cell.setting, tuple(cell) in done) for cell in planned() if cell.setting not in ABLATIONS])
    counts = wanted.groupby(0, sort=False)[1].agg(["sum", "size"])
    told = ", ".join(f"{found} of {total} {setting}" for setting, found, total in counts.itertuples(name=None))
    return f"Run so far, of what is planned: {told}. Whatever is said below to be met is met by these."


def page(table: pd.DataFrame, diary: pd.DataFrame) -> str:
    """The tables in Markdown, of ``results`` and ``rounds``."""
    held = stability(diary)
    lines = [
        "# Benchmark",
        "",
        "Mean true return over seeds (their number behind it), 20 evaluation episodes each. "
        "`python -m benchmarks.grid` runs the cells, `python -m benchmarks.table` writes this page. A dash: not run; "
        "of held actions at equal rates, the same as zero-shot. Of which commit a cell is stands below, at its rounds.",
        "",
        progress(table),
        "",
        "| task | gap | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for (task, gap), rows in table.groupby(PLACE, sort=False):
        cells = []
        for agent in COLUMNS:
            found = rows[rows["agent"] == agent].groupby("seed")["return"].mean()
            cells.append(f"{found.mean():.0f} ({len(found)})" if len(found) else "–")
        lines.append(f"| {task} | {gap} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Scores",
        "",
        f"Interquartile mean and mean over cells and seeds, with the {CONFIDENCE:.0%} interval of the mean that "
        "resamples seeds within cells; a dash where a cell has one seed alone. Of one cell with three seeds it reaches "
        "from the lowest to the highest, and holds the true mean three times in four rather than nineteen in twenty. "
        "A gap is closed from zero-shot (0) to "
        "the oracle (1); that is said only where the oracle is clearly better than zero-shot, and not clearly beaten.",
        "",
        "| Telepath | share | tasks | runs | IQM | mean | interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        scored = scores(table, setting)
        for score, name in SCORES.items():
            known = scored.dropna(subset=[score])
            parts = [("all", known), *((str(task), part) for task, part in known.groupby("task", sort=False))]
            lines += [
                f"| {setting} | {name} | {tasks} | {summary(part, score)} |" for tasks, part in parts if len(part)
            ]
    lines += ["", "## What is asked of it", "", "| of | asked | came out | met |", "|---|---|---|---|"]
    for whose, bar in bars(table, diary):
        met = "not known" if bar.met is None else "yes" if bar.met else "**no**"
        lines.append(f"| {whose} | {bar.asked} | {bar.found} | {met} |")
    lines += [
        "",
        "## Does it hold?",
        "",
        "Of every transfer: the lowest true return in the last third of the rounds, three of ten, and that of the "
        "round that was shipped, over the run's best, of 5 episodes each; and how the score by which it was chosen "
        "follows the true return.",
        "",
        "| task | gap | setting | seed | last third, lowest over best | shipped over best | r, score and true |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in held.to_dict("records"):
        score = "–" if pd.isna(run["correlation"]) else f"{run['correlation']:.2f}"
        key = " | ".join(str(run[part]) for part in RUN)
        lines.append(f"| {key} | {run['held']:.2f} | {run['shipped']:.2f} | {score} |")
    lines += [
        "",
        "## Rounds",
        "",
        "True return of every round over 5 episodes, what was shipped in bold. The first round is the source's policy "
        "as it came; in a faster target the second one is the same, held. A commit ends in -dirty where files "
        "differed.",
        "",
        "| task | gap | setting | seed | commit | rounds |",
        "|---|---|---|---|---|---|",
    ]
    commits = dict(zip(table[RUN].itertuples(index=False, name=None), table["code"], strict=True))
    for cell, trained in diary.groupby(RUN, sort=False):
        true = " ".join(
            f"**{value:.0f}**" if shipped else f"{value:.0f}"
            for value, shipped in zip(trained["return"], trained["shipped"], strict=True)
        )
        lines.append(f"| {' | '.join(map(str, cell))} | {commits[cell]} | {true} |")
    return "\n".join([*lines, "", "![True return of every round](curves.png)", ""])


def ablations(cells: list[dict[str, Any]]) -> str:
    """Telepath without one of its parts at a time, beside the whole of the same cells and seeds, in Markdown.

    Whoever begins with another source agent than the whole of its seed is left out, and so is the whole of a seed that
    nothing is compared with. Of every ablation and cell: the return of what was shipped, and the mean true return of
    the last three rounds, means over seeds; in brackets the seeds.
    """
    table, diary = results(cells), rounds(cells)
    last = diary.groupby(RUN, sort=False)["return"].apply(lambda true: true.tail(3).mean())
    shown = table[(table["agent"] == table["setting"]) & table["setting"].isin([SETTINGS[0], *ABLATIONS])]
    shown = shown.set_index(RUN).assign(last=last)[["return", "last"]].reset_index()
    source = {tuple(cell[key] for key in RUN): cell.get("source") for cell in cells}
    shown["source"] = [source[run] for run in shown[RUN].itertuples(index=False, name=None)]
    whole, without = shown[shown["setting"] == SETTINGS[0]], shown[shown["setting"] != SETTINGS[0]]
    without = without.merge(whole[[*PLACE, "seed", "source"]])
    shown = pd.concat([whole.merge(without[[*PLACE, "seed"]].drop_duplicates()), without])
    places = shown[PLACE].drop_duplicates()
    lines = [
        "| what is changed | " + " | ".join(f"{task}, {gap}" for task, gap in places.itertuples(index=False)) + " |"
    ]
    lines.append("|---" * (1 + len(places)) + "|")
    for setting in (SETTINGS[0], *ABLATIONS):
        columns = []
        for task, gap in places.itertuples(index=False):
            runs = shown[(shown["task"] == task) & (shown["gap"] == gap) & (shown["setting"] == setting)]
            seeds = ", ".join(map(str, sorted(runs["seed"])))
            columns.append(f"{runs['return'].mean():.0f}, {runs['last'].mean():.0f} ({seeds})" if len(runs) else "–")
        name = "nothing" if setting == SETTINGS[0] else setting
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(
        [
            "# Ablations",
            "",
            "Telepath *with source agent* without one of its parts at a time: true return of what was shipped (20 "
            "episodes), and of the last three rounds on the mean (5 episodes each); means over the seeds in brackets. "
            "`python -m benchmarks.grid --settings ablations` runs them, benchmarks/cells.py says what each changes.",
            "",
            *lines,
            "",
        ]
    )


def draw(diary: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    """True return of every round against target steps, a panel a task and gap; those without rounds as levels."""
    shown = list(diary.groupby(PLACE, sort=False))
    with return_panels(path, [f"{task}\n{gap}" for (task, gap), _ in shown], "target steps", 3) as panels:
        for panel, ((task, gap), runs) in zip(panels, shown, strict=True):
            here = table[(table["task"] == task) & (table["gap"] == gap)]
            for (setting, _), run in runs.groupby(["setting", "seed"], sort=False):
                colour, line = STYLES[str(setting)]
                panel.plot(run["steps"], run["return"], line, color=colour, markersize=4, label=COLUMNS[str(setting)])
                shipped = run[run["shipped"] == 1]
                (star,) = panel.plot(shipped["steps"], shipped["return"], "*", color=colour, label="shipped", zorder=5)
                star.set(markersize=13, markeredgecolor="white")
            for agent, style in LEVELS.items():
                level = here[here["agent"] == agent]["return"].mean()
                panel.axhline(level, color=COLOURS[agent], linestyle=style, label=COLUMNS[agent], zorder=1.5)


def main() -> None:
    """Read the cells and write."""
    finished = [cell for cell in load_cells(FOLDER / "cells") if cell["setting"] not in RIVALS]
    cells = [cell for cell in finished if cell["setting"] not in ABLATIONS]
    if not cells:
        raise SystemExit("no finished cells in reports/benchmark/cells; run `python -m benchmarks.grid` first")
    table, diary = results(cells), rounds(cells)
    table.to_csv(FOLDER / "results.csv", index=False)
    diary.to_csv(FOLDER / "rounds.csv", index=False)
    (FOLDER / "index.md").write_text(page(table, diary), encoding="utf-8")
    draw(diary, table, FOLDER / "curves.png")
    if len(finished) > len(cells):
        (FOLDER / "ablations.md").write_text(ablations(finished), encoding="utf-8")
    print(f"{len(cells)} cells: {FOLDER / 'index.md'}")


if __name__ == "__main__":
    main()

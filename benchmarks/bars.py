"""What is asked of the grid, and whether its finished cells show it: scores of every transfer, and bars for them."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from benchmarks.cells import ORACLES, SETTINGS
from telepath.evaluation.scores import correlation, gap_closure

PLACE = ["task", "gap"]
KEYS = [*PLACE, "seed"]

SOURCES = {"ball_in_cup-catch": 900, "walker-walk": 850, "cheetah-run": 600}
"""What a source agent is to make at home, by task, on the mean over seeds."""

FEASIBLE = 0.75
"""The share of the source at home that a cell is to reach where some oracle does."""

LOST = 0.85
"""Zero-shot, or action hold, is to be beaten where it makes less than this share of the source at home."""

HARMED = 0.95
"""No transfer is to make less than this share of zero-shot."""

STEPS = 25_000
"""Target steps that a transfer with the source's agent may take."""

HELD, NEAR = 0.85, 0.9
"""A run holds if the last third of its rounds stays within this share of its best one; what it ships is near the best
if it is within this one.
"""


def scores(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    """A row a task, gap and seed of a setting of Telepath: returns by agent, and what follows from them.

    Columns are the agents of ``results`` (the setting's own called "telepath"), and *over source*, *over oracle*,
    *over converged*: shares; *normalised*: (J - random) / (source - random); *closure* and *converged closure*: of the
    gap between zero-shot and an oracle. NaN: not run, or not defined. The converged oracle, of one seed, stands beside
    all of them.
    """
    rows = table.pivot_table(index=KEYS, columns="agent", values="return", sort=False)
    agents = ["source", "random", "zero_shot", "action_hold", setting, *ORACLES]
    rows = rows.reindex(columns=agents).rename(columns={setting: "telepath"})
    rows[ORACLES[1]] = rows.groupby(PLACE, sort=False)[ORACLES[1]].transform("mean")
    rows = rows[rows["telepath"].notna()]
    for name, other in {"over source": "source", "over oracle": ORACLES[0], "over converged": ORACLES[1]}.items():
        rows[name] = rows["telepath"] / rows[other]
    rows["normalised"] = (rows["telepath"] - rows["random"]) / (rows["source"] - rows["random"])
    for name, oracle in {"closure": ORACLES[0], "converged closure": ORACLES[1]}.items():
        known = rows[["telepath", "zero_shot", oracle]].itertuples(index=False, name=None)
        rows[name] = pd.Series([gap_closure(*returns) for returns in known], rows.index, dtype=float)
    return rows.reset_index()


def stability(diary: pd.DataFrame) -> pd.DataFrame:
    """A row a transfer: does it hold, was the choice good, and does the choice's score follow the true return?

    held: lowest true return in the last third of the rounds over the run's highest; shipped: the shipped round's over
    the highest; correlation: of score and true return over rounds.
    """
    rows = []
    for key, run in diary.groupby(["task", "gap", "setting", "seed"], sort=False):
        true = run["return"].to_numpy()
        last = true[-max(1, len(true) // 3) :]
        shipped = float(run.loc[run["shipped"] == 1, "return"].iloc[0])
        rows.append((*key, last.min() / true.max(), shipped / true.max(), correlation(true, run["score"].to_numpy())))
    return pd.DataFrame(rows, columns=["task", "gap", "setting", "seed", "held", "shipped", "correlation"])


class Bar(NamedTuple):
    """asked: in words; found: what came out, in words; met: None where nothing was run that could tell."""

    asked: str
    found: str
    met: bool | None


def least(asked: str, values: "pd.Series[float]", least: float) -> Bar:
    """Every value is to be at least this much; the index says of what it is."""
    if values.empty:
        return Bar(asked, "not run", None)
    found = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return Bar(asked, found, bool((values >= least).all()))


def often(asked: str, true: "pd.Series[bool]", share: float) -> Bar:
    """True is to be so large a share."""
    met = bool(true.mean() >= share) if len(true) else None
    return Bar(asked, f"{int(true.sum())} of {len(true)}" if len(true) else "not run", met)


def places(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """A column's mean over seeds, by task and gap, named in one string; those without a value are left out."""
    means = rows.groupby(PLACE, sort=False)[column].mean().dropna()
    return means.set_axis([f"{task}, {gap}" for task, gap in means.index])


def bars(table: pd.DataFrame, diary: pd.DataFrame) -> Iterator[tuple[str, Bar]]:
    """What is asked of each setting, and of the sources, of ``results`` and ``rounds``."""
    for setting, asked in {SETTINGS[0]: with_agent, SETTINGS[1]: trajectories}.items():
        rows = scores(table, setting)
        for bar in (*asked(rows, table), *safe(rows), *steady(diary[diary["setting"] == setting])):
            yield setting, bar
    for task, found in table[table["agent"] == "source"].groupby("task", sort=False):
        home = found.groupby("seed")["return"].mean()
        asked_of_it = f"{task}: at least {SOURCES[str(task)]}, mean over seeds"
        yield "source at home", Bar(asked_of_it, f"{home.mean():.0f} ({len(home)})", home.mean() >= SOURCES[str(task)])


def with_agent(rows: pd.DataFrame, table: pd.DataFrame) -> Iterator[Bar]:
    """With the source's agent: near the source, where that can be done, and no worse than an oracle."""
    shares = rows[[*PLACE, "over source"]].assign(oracle=rows[list(ORACLES)].max(axis=1) / rows["source"])
    means = shares.groupby(PLACE, sort=False).mean()
    tasks = means["over source"].groupby("task", sort=False).mean()
    yield least("0.9 of the source at home, mean of every task's cells", tasks, 0.9)
    possible = means[(means["oracle"] >= FEASIBLE) | (means["over source"] >= FEASIBLE)]
    asked = f"{FEASIBLE} of the source in every cell where some oracle, or this, has it"
    yield often(asked, possible["over source"] >= FEASIBLE, 1)
    unknown = means.drop(possible.index)
    if len(unknown):
        where = ", ".join(
            f"{task}, {gap}: {mine:.2f}, best oracle {'not run' if pd.isna(other) else f'{other:.2f}'}"
            for (task, gap), (mine, other) in zip(unknown.index, unknown.to_numpy(), strict=True)
        )
        yield Bar(f"cells where nobody has {FEASIBLE} of the source: an oracle that has converged says so", where, None)
    yield least("the oracle's return at the same steps, on the mean", overall(rows, "over oracle"), 1.0)
    mine = table[table["agent"] == SETTINGS[0]]["steps"]
    yield often(f"at most {STEPS:,} target steps", mine <= STEPS, 1)


def trajectories(rows: pd.DataFrame, table: pd.DataFrame) -> Iterator[Bar]:
    """From trajectories only: near an oracle that begins from nothing, too."""
    yield least("0.85 of the oracle at the same steps, on the mean", overall(rows, "over oracle"), 0.85)
    yield least("0.7 of the oracle at the same steps in every cell", places(rows, "over oracle"), 0.7)


def overall(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """The mean over cells of their means over seeds, if there are any."""
    means = places(rows, column)
    return pd.Series({f"mean of {len(means)} cells": means.mean()}) if len(means) else means


def safe(rows: pd.DataFrame) -> Iterator[Bar]:
    """Better than what costs nothing where that loses much, and never much worse."""
    for name, column in {"zero-shot": "zero_shot", "action hold": "action_hold"}.items():
        losing = rows[rows[column] < LOST * rows["source"]]
        asked = f"beats {name} where that loses more than {1 - LOST:.0%}"
        if len(losing) or rows.empty:
            yield often(asked, losing["telepath"] > losing[column], 1)
        else:
            yield Bar(asked, "loses so much nowhere", None)
    yield often(f"never more than {1 - HARMED:.0%} below zero-shot", rows["telepath"] >= HARMED * rows["zero_shot"], 1)


def steady(diary: pd.DataFrame) -> Iterator[Bar]:
    """Rounds that hold, and a choice that is good."""
    runs = stability(diary)
    yield often(f"within {1 - HELD:.0%} of its best over the last third, in 80% of the runs", runs["held"] >= HELD, 0.8)
    yield often(f"ships within {1 - NEAR:.0%} of its best round, in 90% of the runs", runs["shipped"] >= NEAR, 0.9)

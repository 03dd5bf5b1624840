"""What is asked of the grid, and whether its finished cells show it: scores of every transfer, and bars for them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd

from benchmarks.cells import EXTRA, ORACLES, SETTINGS
from telepath.evaluation.scores import correlation, gap_closure, ratio

PLACE = ["task", "gap"]
RUN = [*PLACE, "setting", "seed"]

WITH_AGENT, TRAJECTORIES = SETTINGS
SAME_STEPS, CONVERGED = ORACLES

SOURCES = {"ball_in_cup-catch": 900, "walker-walk": 850, "cheetah-run": 600}
"""What a source agent is to make at home, by task, on the mean over seeds."""

FEASIBLE = 0.75
"""The share of the source at home that a cell is to reach where some oracle does."""

LOST = 0.85
"""Zero-shot, or action hold, is to be beaten where it makes less than this share of the source at home."""

HARMED = 0.95
"""No transfer is to make less than this share of zero-shot."""

STEPS, MINUTES = 25_000, 15
"""Target steps that a transfer with the source's agent may take, and minutes of a core."""

HELD, NEAR = 0.85, 0.9
"""A run holds if the last third of its rounds stays within this share of its best one; what it ships is near the best
if it is within this one.
"""

SEEDS = 3
"""Seeds that make a mean over seeds."""


def scores(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    """A row a task, gap and seed of a setting of Telepath: returns by agent, and what follows from them.

    Columns are the agents of ``results`` (the setting's own called "telepath"), and *over source*, *over oracle*,
    *over converged*: shares; *normalised*: (J - random) / (source - random); *closure* and *converged closure*: of the
    gap between zero-shot and an oracle. NaN: not run, or not defined. The converged oracle, of one seed, stands beside
    all of them.
    """
    here = table[table["setting"].isin([setting, *ORACLES])]
    rows = here.pivot_table(index=[*PLACE, "seed"], columns="agent", values="return", sort=False)
    agents = ["source", "random", "zero_shot", "action_hold", setting, *ORACLES]
    rows = rows.reindex(columns=agents).rename(columns={setting: "telepath"})
    rows[CONVERGED] = rows.groupby(PLACE, sort=False)[CONVERGED].transform("mean")
    rows = rows[rows["telepath"].notna()]

    def add(score: str, of: Callable[..., float | None], returns: pd.DataFrame) -> None:
        each = [of(*values) for values in returns.itertuples(index=False, name=None)]
        rows[score] = pd.Series(each, rows.index, dtype=float)

    for score, other in {"over source": "source", "over oracle": SAME_STEPS, "over converged": CONVERGED}.items():
        add(score, ratio, rows[["telepath", other]])
    add("normalised", ratio, rows[["telepath", "source"]].sub(rows["random"], axis=0))
    for score, oracle in {"closure": SAME_STEPS, "converged closure": CONVERGED}.items():
        add(score, gap_closure, rows[["telepath", "zero_shot", oracle]])
    return rows.reset_index()


def stability(diary: pd.DataFrame) -> pd.DataFrame:
    """A row a transfer: does it hold, was the choice good, and does the choice's score follow the true return?

    held: lowest true return in the last third of the rounds over the run's highest; longer: the same with one round
    more; shipped: the shipped round's over the highest; correlation: of score and true return over rounds. A third of
    ten rounds, of which the first one or two are the source's policy, is three.
    """
    rows = []
    for key, run in diary.groupby(RUN, sort=False):
        true = run["return"].to_numpy()
        third = max(1, len(true) // 3)
        held, longer = (true[-count:].min() / true.max() for count in (third, third + 1))
        shipped = float(run.loc[run["shipped"] == 1, "return"].iloc[0])
        rows.append((*key, held, longer, shipped / true.max(), correlation(true, run["score"].to_numpy())))
    return pd.DataFrame(rows, columns=[*RUN, "held", "longer", "shipped", "correlation"])


class Bar(NamedTuple):
    """asked: in words; found: what came out so far, in words; met: None where nothing was run that could tell."""

    asked: str
    found: str
    met: bool | None


def at_least(asked: str, values: "pd.Series[float]", bar: float) -> Bar:
    """Every value is to be at least this much; the index says of what it is."""
    if values.empty:
        return Bar(asked, "not run", None)
    return Bar(asked, ", ".join(f"{name} {value:.2f}" for name, value in values.items()), bool((values >= bar).all()))


def often(asked: str, true: "pd.Series[bool]", share: float = 1.0) -> Bar:
    """True is to be so large a share."""
    if true.empty:
        return Bar(asked, "not run", None)
    return Bar(asked, f"{int(true.sum())} of {len(true)}", bool(true.mean() >= share))


def by_place(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """A column's mean over seeds, by task and gap; those without a value are left out."""
    return rows.groupby(PLACE, sort=False)[column].mean().dropna()


def overall(means: "pd.Series[float]", name: str = "") -> "pd.Series[float]":
    """The mean of cells, called by their number, if there are any."""
    return pd.Series({f"{name} mean of {len(means)} cells".lstrip(): means.mean()}) if len(means) else means


def bars(table: pd.DataFrame, diary: pd.DataFrame) -> Iterator[tuple[str, Bar]]:
    """What is asked of each setting, and of the sources, of ``results`` and ``rounds``."""
    for setting, own in {WITH_AGENT: with_agent, TRAJECTORIES: trajectories}.items():
        rows, efforts = scores(table, setting), table[table["agent"] == setting]
        for bar in (*own(rows, efforts), *safe(rows), *steady(diary[diary["setting"] == setting])):
            yield setting, bar
    sources = table[(table["agent"] == "source") & (table["gap"] != EXTRA[1])]
    for task, found in sources.groupby("task", sort=False):
        home, least = found.groupby("seed")["return"].mean(), SOURCES[str(task)]
        said = f"{home.mean():.0f} (seeds: {len(home)})"
        met = bool(home.mean() >= least) if len(home) >= SEEDS else None
        yield "source at home", Bar(f"{task}: {least}, mean of {SEEDS} seeds", said, met)


def with_agent(rows: pd.DataFrame, efforts: pd.DataFrame) -> Iterator[Bar]:
    """With the source's agent: near the source where that can be done, no worse than an oracle, after few steps.

    efforts: steps and minutes of its runs, minutes None where they were not measured.
    """
    yield often(f"at most {STEPS:,} target steps", efforts["steps"] <= STEPS)
    yield often(f"at most {MINUTES} minutes of a core, of whatever kind", efforts["minutes"].dropna() <= MINUTES)
    mine = by_place(rows, "over source")
    tasks = [overall(found, str(task)) for task, found in mine.groupby("task", sort=False)]
    asked = "0.9 of the source at home, mean of every task's cells"
    yield at_least(asked, pd.concat(tasks) if tasks else mine, 0.9)
    home = rows["source"]
    shares = {name: by_place(rows.assign(share=rows[name] / home), "share").reindex(mine.index) for name in ORACLES}
    oracles = pd.DataFrame(shares)
    able = oracles.max(axis=1) >= FEASIBLE
    yield often(f"{FEASIBLE} of the source in every cell where an oracle has as much", mine[able] >= FEASIBLE)
    asked = f"{FEASIBLE} of the source in cells where no oracle was seen to have as much"
    low = mine[~able & (mine < FEASIBLE)]
    said = [f"{task}, {gap}: {low[task, gap]:.2f}, {told(oracles.loc[(task, gap)])}" for task, gap in low.index]
    found = "; ".join([f"{int((~able).sum()) - len(low)} of {int((~able).sum())}", *said])
    yield Bar(asked, found, None)
    yield at_least("the oracle's return at the same steps, on the mean", overall(by_place(rows, "over oracle")), 1.0)


def told(oracles: "pd.Series[float]") -> str:
    """What the oracles of a cell say of what can be done there."""
    known = ", ".join(f"{name} {share:.2f}" for name, share in oracles.dropna().items())
    return known or "no oracle run"


def trajectories(rows: pd.DataFrame, efforts: pd.DataFrame) -> Iterator[Bar]:
    """From trajectories only: near an oracle that begins from nothing, too."""
    means = by_place(rows, "over oracle")
    yield at_least("0.85 of the oracle at the same steps, on the mean", overall(means), 0.85)
    yield often("0.7 of the oracle at the same steps in every cell", means >= 0.7)


def safe(rows: pd.DataFrame) -> Iterator[Bar]:
    """Better than what costs nothing where that loses much, and never much worse."""
    for name, column in {"zero-shot": "zero_shot", "action hold": "action_hold"}.items():
        known = rows[rows[column].notna()]
        losing = known[known[column] < LOST * known["source"]]
        asked = f"beats {name} where that loses more than {1 - LOST:.0%}"
        if len(losing) or known.empty:
            yield often(asked, losing["telepath"] > losing[column])
        else:
            yield Bar(asked, f"loses so much in none of {len(known)}", None)
        yield often(f"never more than {1 - HARMED:.0%} below {name}", known["telepath"] >= HARMED * known[column])


def steady(diary: pd.DataFrame) -> Iterator[Bar]:
    """Rounds that hold, and a choice that is good."""
    runs = stability(diary)
    held = often(
        f"within {1 - HELD:.0%} of its best over the last third, in 80% of the runs", runs["held"] >= HELD, 0.8
    )
    longer = f"; with one round more {int((runs['longer'] >= HELD).sum())}" if len(runs) else ""
    yield held._replace(found=held.found + longer)
    yield often(f"ships within {1 - NEAR:.0%} of its best round, in 90% of the runs", runs["shipped"] >= NEAR, 0.9)

"""The rivals beside Telepath: one table, as CSV for machines and as Markdown for people."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from telepath.config import Params
from telepath.evaluation.agents import NAMES
from telepath.evaluation.evidence import Cost
from telepath.evaluation.figures import percent
from telepath.evaluation.findings import differences
from telepath.evaluation.page import PADA_SEES, SPENDERS, TELEPATH_SEES, sides, table
from telepath.evaluation.scores import mean_interval, significant
from telepath.files import write_atomically

RIVALS = {
    "pada": NAMES["pada"],
    "pada_model": "PADA, model of the target",
    "bco": "BCO",
    "aime": "AIME",
    "dtw": "DTW matching alone",
    "ot": "optimal transport (ROT)",
    "temporal_ot": "TemporalOT",
    "orca": "ordered coverage (ORCA)",
    "gaifo": "GAIfO",
    "darc": "DARC",
    "randomised": "domain randomisation",
}
"""Name of a rival, as in params.yaml -> what people call it."""

EVERYONE = NAMES | RIVALS
"""All agents that are shown, in their order: those of the main pipeline, PADA among them, then the other rivals."""

LABELLED = dict.fromkeys(
    ("ot", "temporal_ot", "orca", "gaifo"), "; of the source's rewards only episodes' returns and the range"
)
LABELLED["dtw"] = ""
"""Telepath's agent with other labels -> what it sees less of than Telepath does."""


ONLINE = ("darc", "randomised")
"""Those who learn in the source's simulator and begin without its agent."""

STAGES = (
    SPENDERS
    | {name: (f"train_rival@{name}",) for name in ("pada_model", "bco", "aime")}
    | {name: (*SPENDERS["telepath"][:-1], f"train_labelled@{name}") for name in LABELLED}
    | {name: (f"train_online@{name}",) for name in ONLINE}
)
"""Agent -> the stages that make it once there is a source agent, which DARC and domain randomisation do without."""


def minutes_of(agent: str, costs: Mapping[str, float]) -> float | None:
    """What an agent's stages took together, from minutes by stage; None where there are none, or not all are known."""
    known = [costs[stage] for stage in STAGES.get(agent, ()) if stage in costs]
    return sum(known) if known and len(known) == len(STAGES[agent]) else None


def what_it_sees(agent: str, params: Params) -> str:
    """What an agent of the table was allowed to see."""
    telepath = f"the source's {TELEPATH_SEES[params.setting]}; the target without reward"
    if agent in LABELLED:
        return telepath + LABELLED[agent]
    return {
        "source": "its home, with reward",
        "random": "nothing",
        "zero_shot": "the source's agent",
        "action_hold": "the source's agent",
        "telepath": telepath,
        "pada": PADA_SEES[params.rivals.pada.source],
        "pada_model": PADA_SEES["learned"],
        "bco": "the source's observations, and the returns of its episodes; the target without reward",
        "aime": "the source's observations, and the returns of its episodes; the target without reward",
        "oracle": "the target, with its reward",
        "darc": "the source's simulator with reward; the target without reward",
        "randomised": "the source's simulator with reward, altered at will; the target's control rate",
    }[agent]


class Effort(NamedTuple):
    """What an agent took to learn: steps in the target, and divergences of the simulators meanwhile."""

    steps: int
    divergences: int


def compare(
    returns: Sequence[pd.DataFrame], effort: Mapping[str, Effort], costs: Mapping[str, Cost], params: Params
) -> pd.DataFrame:
    """A row an agent: agent, sees, steps, minutes, return, low, high, divergences.

    returns: tables of agent, episode, return, divergences; effort: of those who learn for the target; costs: by stage,
    as far as they were measured. The interval of the mean return has the confidence of the settings; divergences are
    those of learning and of judgement.
    """
    took = {stage: cost.minutes for stage, cost in costs.items()}
    rows = []
    judged = pd.concat(returns, ignore_index=True)
    for agent in EVERYONE:
        own = judged[judged["agent"] == agent]
        if len(own):
            steps, diverged = effort.get(agent, Effort(0, 0))
            interval = mean_interval(own["return"].to_numpy(), params.evaluate.confidence)
            numbers = [significant(value) for value in interval]
            diverged += int(own["divergences"].sum())
            rows.append((agent, what_it_sees(agent, params), steps, minutes_of(agent, took), *numbers, diverged))
    columns = ["agent", "sees", "steps", "minutes", "return", "low", "high", "divergences"]
    return pd.DataFrame(rows, columns=columns).astype({"minutes": float}).round({"minutes": 2})


SHOWN = ["agent", "sees", "steps", "minutes", "return", "low", "high"]
"""Columns of the comparison that the page's table shows."""


def write_comparison(comparison: pd.DataFrame, params: Params, folder: Path) -> None:
    """Write ``folder``/rivals.csv and rivals.md.

    Of the settings it reads ``task``, ``seed``, ``gap``, the source's action repeat and ``evaluate``.
    """
    write_atomically(folder / "rivals.csv", comparison.to_csv(index=False))
    rows = [
        [
            f"**{NAMES[agent]}**" if agent == "telepath" else EVERYONE[agent],
            f"{steps:,}",
            "–" if pd.isna(minutes) else f"{minutes:.1f}",
            f"{mean:.0f}",
            f"{low:.0f} to {high:.0f}",
            sees,
        ]
        for agent, sees, steps, minutes, mean, low, high in comparison[SHOWN].itertuples(index=False)
    ]
    repeat = params.tasks[params.task].action_repeat
    gap = differences(params.gap, repeat)
    declared = "; ".join(f"`{name}` {' → '.join(sides(name, value, repeat))}" for name, value in gap.items())
    header = [
        "agent",
        "target steps",
        "minutes",
        "return",
        f"{percent(params.evaluate.confidence)} interval",
        "what it may see",
    ]
    sections = [
        f"# The rivals on {params.task}",
        f"Gap: {declared or 'none'}. Seeds: source {params.seed.source}, target {params.seed.target}.",
        table(header, rows, "lrrrrl"),
        f"True returns, means over {params.evaluate.episodes} episodes that begin in the same states for every agent "
        "in the target, with intervals of the mean. The target gave its reward to nobody in this table but the oracle. "
        "Target steps are those that an agent learnt from or was chosen by; a rival takes as many whole episodes as "
        "Telepath's budget holds. Minutes are those of all training that an agent needs besides the source agent's, "
        "which stand in the first row, and which DARC and domain randomisation do without; a dash where they were not "
        "measured.",
        *([RATES_ALONE] if set(gap) == {"action_repeat"} else []),
        *diverged(comparison),
        "What each rival is, with its paper and what differs from it: the modules of `telepath/baselines/`. Made by "
        "`make rivals`.",
    ]
    write_atomically(folder / "rivals.md", "\n\n".join(sections) + "\n")


RATES_ALONE = (
    "The two sides differ in their rate alone, so the source's simulator at the target's rate *is* the target: DARC "
    "learns there with reward, domain randomisation in variants of it, and PADA has nothing to mend where the "
    "source's actions are held. A comparison with these three needs another gap."
)
"""What a table of a gap in the control rate alone has to say of the rivals that have a simulator of the source."""


def diverged(comparison: pd.DataFrame) -> Iterator[str]:
    """Whose simulator diverged, if anyone's did."""
    counts = comparison.set_index("agent")["divergences"].to_dict()
    if told := ", ".join(f"{EVERYONE[str(agent)]} {count} times" for agent, count in counts.items() if count):
        yield f"The simulator diverged: {told}. Such an episode ends there, at its last finite observation."

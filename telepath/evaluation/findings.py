"""Findings: every number of the report, computed once from the evidence and the settings."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from telepath.config import Params
from telepath.episodes import Array
from telepath.evaluation.evidence import HELDOUT_POLICIES, Evidence, heldout_of
from telepath.evaluation.scores import Interval, correlation, gap_closure, iqm, mean_interval, ratio
from telepath.settings import GapSettings

AGENTS = ("source", "random", "zero_shot", "action_hold", "pada", "telepath", "oracle")
"""All agents, in the order in which they are shown; action hold only where it applies."""

HEADLINES = (
    *(f"{agent}_return" for agent in AGENTS),
    "gap_closure",
    "telepath_over_source",
    "label_correlation",
    "alignment_cost_median",
    "source_steps",
    "target_steps",
)
"""The metrics by which runs are compared; the others are details."""

UNREWARDED = ("zero_shot", "action_hold", "pada")
"""Who else does without the target's reward, and with less work: what Telepath has to be better than."""

KEPT = ("as it is", "held at its own pace")

Metrics = dict[str, float | int | None]


class Choice(NamedTuple):
    """The shipped round beside the best one: round numbers, and their true returns.

    Of the shipped one also what was known when it was chosen: the inferred return of its training rollouts, and that
    of its last ones. kept: how the source's own policy was shipped, if it was; empty for one that was trained.
    """

    shipped: int
    shipped_return: float
    inferred_return: float
    final_score: float
    best: int
    best_return: float
    rounds: int
    kept: str

    @property
    def share(self) -> float | None:
        """True return of the shipped round over the best round's."""
        return ratio(self.shipped_return, self.best_return)


class Findings(NamedTuple):
    """What the page says in words.

    intervals: mean return per agent with its interval; iqms: interquartile means; gains: of Telepath over those who
    need no reward of the target either, episode by episode; labels: correlation of inferred with true reward per
    held-out policy; pace: seconds of the median re-enactment over those of its reference; choice: how well the shipped
    round was chosen; trainings: mean return per agent over trainings with other seeds, with the interval over these,
    and Telepath's share of the source as ``share``; empty where there is one alone; metrics: for metrics.json and
    details.json.
    """

    intervals: dict[str, Interval]
    iqms: dict[str, float]
    gains: dict[str, Interval]
    labels: dict[str, float | None]
    pace: float
    choice: Choice
    trainings: dict[str, Interval]
    metrics: Metrics

    def over(self, agent: str, other: str) -> float | None:
        """Mean return of one agent over another's."""
        return ratio(self.intervals[agent].mean, self.intervals[other].mean)


def find(evidence: Evidence, params: Params) -> Findings:
    """All the numbers."""
    samples = {
        agent: evidence.returns.loc[evidence.returns["agent"] == agent, "return"].to_numpy(np.float64)
        for agent in AGENTS
    }
    samples = {agent: sample for agent, sample in samples.items() if len(sample)}
    intervals = {agent: mean_interval(sample, params.evaluate.confidence) for agent, sample in samples.items()}
    choice = judge_choice(evidence.diary, evidence.rounds)
    labels = {}
    for policy in HELDOUT_POLICIES:
        held = heldout_of(evidence.heldout, policy)
        labels[policy] = correlation(held["true"], held["inferred"])
    metrics = (
        return_metrics(intervals)
        | reward_metrics(evidence, labels)
        | {
            "telepath_iqm": iqm(samples["telepath"]),
            "shipped_round": choice.shipped,
            "shipped_over_best": choice.share,
            "source_steps": int(evidence.facts["source_steps"]),
            "target_steps": int(evidence.facts["target_steps"]),
            "induced_gap": mean_divergence(evidence.gap["divergence"].to_numpy(np.float64)),
        }
    )
    iqms = {agent: iqm(sample) for agent, sample in samples.items()}
    # All begin in the same states, so much of the chance is common to them.
    episodes = evidence.returns.pivot_table("return", "episode", "agent")
    gains = {
        agent: mean_interval((episodes["telepath"] - episodes[agent]).dropna().to_numpy(), params.evaluate.confidence)
        for agent in UNREWARDED
        if agent in episodes
    }
    ratio_of_rates = params.tasks[params.task].action_repeat / params.gap.action_repeat
    trainings = over_trainings(evidence.trainings, params.evaluate.confidence)
    pace = median_pace(evidence.reenactments.path, ratio_of_rates)
    return Findings(intervals, iqms, gains, labels, pace, choice, trainings, metrics)


def over_trainings(trainings: pd.DataFrame, confidence: float) -> dict[str, Interval]:
    """Means over runs with other seeds, of which each one counts once however many episodes it was judged in."""
    if len(trainings) < 2:
        return {}
    returns = {agent: trainings[agent].to_numpy(np.float64) for agent in AGENTS if agent in trainings}
    if (returns["source"] > 0).all():
        returns["share"] = returns["telepath"] / returns["source"]
    return {name: mean_interval(sample, confidence) for name, sample in returns.items()}


def return_metrics(intervals: dict[str, Interval]) -> Metrics:
    """Means of all agents, and Telepath beside the others."""
    mean = {agent: interval.mean for agent, interval in intervals.items()}
    telepath = intervals["telepath"]
    return {f"{agent}_return": mean.get(agent) for agent in AGENTS} | {
        "telepath_return_low": telepath.low,
        "telepath_return_high": telepath.high,
        "gap_closure": gap_closure(telepath.mean, mean["zero_shot"], mean["oracle"]),
        "telepath_over_source": ratio(telepath.mean, mean["source"]),
        "telepath_over_oracle": ratio(telepath.mean, mean["oracle"]),
    }


def reward_metrics(evidence: Evidence, labels: Mapping[str, float | None]) -> Metrics:
    """How good labels, reward model, alignments and the choice by the rounds' scores are.

    Of the policies' correlations the lowest: over all records together, that one policy is paid and another is not
    would count as a success of the labels.
    """
    held, both = evidence.heldout, evidence.diary.merge(evidence.rounds, on="round")
    found = evidence.reenactments
    return {
        "label_correlation": min((r for r in labels.values() if r is not None), default=None),
        "reward_model_correlation": correlation(held["true"], held["predicted"]),
        "alignment_cost_median": float(np.median(found.cost)),
        "aligned_share": float(np.mean(found.cost < found.tau)),
        "selection_correlation": correlation(both["score"].to_numpy(), both["return"].to_numpy()),
    }


def judge_choice(diary: pd.DataFrame, rounds: pd.DataFrame) -> Choice:
    """The shipped round and the round whose true return was best (the first of equals)."""
    true = dict(zip(rounds["round"].tolist(), rounds["return"].tolist(), strict=True))
    row = diary.iloc[int(diary["shipped"].to_numpy().argmax())]
    shipped = int(row["round"])
    best = max(true, key=lambda number: true[number])
    inferred, final = float(row["inferred_return"]), float(row["final_score"])
    # Only the source agent's own rounds come before any update: as it is, and held at its own pace.
    kept = "" if row["updates"] else KEPT[min(shipped, 1)]
    return Choice(shipped, true[shipped], inferred, final, best, true[best], len(true), kept)


def median_pace(path: Array, ratio_of_rates: float) -> float:
    """How long re-enactments are against their references, both in seconds: 1 at an even pace.

    path (S, L, 2): (reference, imagined) pairs; ``ratio_of_rates``: target steps in the time of a source step.
    """
    reference, imagined = path[:, -1].T + 1
    return float(np.median(imagined / (reference * ratio_of_rates)))


def mean_divergence(divergence: Array) -> float:
    """The size of a gap in one number: mean divergence, the common start left out."""
    return float(divergence[1:].mean()) if len(divergence) > 1 else 0.0


def differences(gap: GapSettings, source_repeat: int) -> dict[str, float | int]:
    """The gap's keys that differ from the identity gap, with the target's value."""
    identity = GapSettings(action_repeat=source_repeat)
    return {
        name: getattr(gap, name) for name in GapSettings.model_fields if getattr(gap, name) != getattr(identity, name)
    }

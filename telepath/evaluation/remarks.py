"""Remarks: where a run falls short, read off its numbers, and whether it worked at all."""

from collections.abc import Iterator

import numpy as np

from telepath.evaluation.evidence import Evidence
from telepath.evaluation.findings import Findings
from telepath.evaluation.scores import Interval

GOOD_CORRELATION = 0.8
GOOD_CHOICE = 0.9
GOOD_TRANSFER = 0.85
FEW_ALIGNED = 0.5
UNEVEN = 0.2
OVERSHOOT = 1.25


def verdict(findings: Findings) -> str:
    """Did the transfer work? In a few words, from means and intervals: what was learned has to be better than what the
    source's policy does without learning, in whichever way it does best.
    """
    telepath, share = findings.intervals["telepath"], findings.metrics["telepath_over_source"]
    if findings.choice.kept:
        return f"The source's policy was kept, {findings.choice.kept}."
    closure, given = findings.metrics["gap_closure"], best_given(findings)
    if telepath.high < given.low:
        return "No."
    if telepath.low > given.high:
        return "Yes." if max(closure or 0, share or 0) >= GOOD_TRANSFER else "In part."
    if given.mean >= GOOD_TRANSFER * findings.intervals["source"].mean > 0:
        return "There was little to transfer."
    return "No." if telepath.mean <= given.mean else "Not clearly."


def best_given(findings: Findings) -> Interval:
    """What the source's policy scores in the target without learning, as it is or held."""
    found = [findings.intervals[agent] for agent in ("zero_shot", "action_hold") if agent in findings.intervals]
    return max(found, key=lambda interval: interval.mean)


def remarks(findings: Findings, evidence: Evidence) -> list[str]:
    """All that is to be said against this run; empty if nothing is."""
    return [
        *remarks_on_returns(findings),
        *remarks_on_trainings(evidence),
        *remarks_on_labels(findings, evidence),
        *remarks_on_choice(findings, evidence),
        *remarks_on_terms(findings, evidence),
    ]


def remarks_on_returns(findings: Findings) -> Iterator[str]:
    """Telepath against those who need less; differences episode by episode, as all begin in the same states."""
    found, gains = findings.intervals, findings.gains
    telepath = found["telepath"]
    if findings.choice.kept:
        yield (
            f"What is shipped is the source's policy, {findings.choice.kept}: nothing that was learned in "
            f"{findings.choice.rounds} rounds was inferred to do clearly better."
        )
    if gains["zero_shot"].high < 0:
        yield (
            f"Telepath is worse than doing nothing: it scores {telepath.mean:.0f}, and the unchanged source "
            f"policy {found['zero_shot'].mean:.0f}."
        )
    elif gains["zero_shot"].low <= 0:
        yield "Telepath is not clearly better than zero-shot: the difference may be chance."
    if "action_hold" in gains and gains["action_hold"].low <= 0 and not findings.choice.kept:
        yield (
            f"Holding the source's actions is enough: that scores {found['action_hold'].mean:.0f}, and "
            f"Telepath {telepath.mean:.0f}."
        )
    if "pada" in gains and gains["pada"].high < 0:
        yield (
            f"PADA, a rival that reads no reward of the target either, scores {found['pada'].mean:.0f}, more than "
            f"Telepath's {telepath.mean:.0f}."
        )
    if telepath.mean <= found["random"].high:
        yield f"Telepath is no better than random actions, which score {found['random'].mean:.0f}."
    if found["source"].mean <= found["random"].high:
        yield "The source itself scores no more at home than random actions do in the target. Train it first."


def remarks_on_trainings(evidence: Evidence) -> Iterator[str]:
    """The worst of the trainings with other seeds."""
    if len(evidence.trainings) < 2:
        return
    worst = min(evidence.trainings.to_dict("records"), key=lambda run: float(run["telepath"]) - float(run["source"]))
    if worst["telepath"] < GOOD_TRANSFER * worst["source"]:
        yield (
            f"With seed {worst['seed_target']} Telepath scores {worst['telepath']:.0f}, where the source scores "
            f"{worst['source']:.0f}: one training tells little."
        )


def remarks_on_labels(findings: Findings, evidence: Evidence) -> Iterator[str]:
    """Inferred reward and alignments."""
    for key, name in (("label_correlation", "inferred reward"), ("reward_model_correlation", "reward model")):
        value = findings.metrics[key]
        if value is None:
            yield f"Reward is constant in the held-out episodes: the {name} cannot be judged."
        elif value < GOOD_CORRELATION:
            yield f"The {name} correlates {value:.2f} with the true reward; {GOOD_CORRELATION} would be good."
    aligned = findings.metrics["aligned_share"]
    if aligned is not None and aligned < FEW_ALIGNED:
        yield (
            f"Only {100 * aligned:.0f} % of the segments were re-enacted at a cost below "
            f"{evidence.reenactments.tau:.2g}; the others hardly count."
        )
    if abs(findings.pace - 1) > UNEVEN:
        yield (
            f"The median re-enactment takes {findings.pace:.2f} times as long as its reference: the cost adds up over "
            "the cells of a warping path, and one that hurries has fewer."
        )
    history = np.median(evidence.reenactments.history, axis=1)
    if len(history) > 1 and history[-1] > 0.9 * history[0]:
        yield "The search gained less than 10 % after its first iteration: its guesses were not improved."


def remarks_on_choice(findings: Findings, evidence: Evidence) -> Iterator[str]:
    """The shipped round, and the score that chose it."""
    choice, selection = findings.choice, findings.metrics["selection_correlation"]
    if choice.share is not None and choice.share < GOOD_CHOICE:
        yield (
            f"Round {choice.shipped} was shipped at a true return of {choice.shipped_return:.0f}, more than "
            f"10 % under round {choice.best} with {choice.best_return:.0f}."
        )
    if selection is not None and selection < GOOD_CORRELATION:
        yield f"Over the rounds, score and true return correlate {selection:.2f}: the choice is chancy."
    true = evidence.rounds.sort_values("round")["return"].to_numpy()
    lowest = true[-max(1, len(true) // 3) :].min()
    if lowest < GOOD_TRANSFER * true.max():
        yield (
            f"It does not hold: over the last third of the rounds the true return falls to {lowest:.0f}, from "
            f"{true.max():.0f} at best."
        )
    if choice.inferred_return > OVERSHOOT * max(choice.shipped_return, 0):
        yield (
            f"The shipped round believed in a return of {choice.inferred_return:.0f} and got "
            f"{choice.shipped_return:.0f}: the labels flatter it."
        )


def remarks_on_terms(findings: Findings, evidence: Evidence) -> Iterator[str]:
    """What makes the comparison itself weaker."""
    found = findings.intervals
    if found["oracle"].mean < found["telepath"].low:
        yield "The oracle is below Telepath: it has not converged, and says nothing of what is possible here."
    elif findings.metrics["gap_closure"] is None:
        yield (
            "Gap closure is undefined, because the oracle is not more than 5 % above zero-shot: there is no "
            "gap to close, or the oracle has not converged."
        )
    steps, target = evidence.oracle_curve["steps"].max(), evidence.facts["target_steps"]
    if abs(steps - target) > 0.1 * target:
        yield f"The oracle had {steps:,} target steps and Telepath {target:,}: more than 10 % apart."
    if told := ", ".join(f"{count} times {where}" for where, count in divergences(evidence).items() if count):
        yield f"The simulator diverged: {told}. Such an episode ends there, at its last finite observation."


def divergences(evidence: Evidence) -> dict[str, int]:
    """How often the simulator diverged, by what it was needed for."""
    curves = evidence.source_curve, evidence.oracle_curve, evidence.pada_curve
    source, oracle, pada = (int(curve["divergences"].max()) if len(curve) else 0 for curve in curves)
    return {
        "in the source's training": source,
        "while Telepath learned in the target": evidence.facts["target_divergences"],
        "in the oracle's training": oracle,
        "while PADA adapted": pada,
        "in the evaluation": int(evidence.returns["divergences"].sum() + evidence.rounds["divergences"].sum()),
    }

"""The page: findings in plain sentences, as Markdown that any git host renders."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from telepath.alignment.rates import Rates
from telepath.config import Params
from telepath.evaluation.agents import NAMES
from telepath.evaluation.evidence import Evidence
from telepath.evaluation.figures import ALIKE, percent
from telepath.evaluation.findings import Findings, differences
from telepath.evaluation.remarks import remarks, verdict
from telepath.evaluation.scores import FEW

OBSERVED = {
    "state": "the state",
    "pixels": "frames of 64 x 64 pixels and nothing else",
    "pixels+state": "frames of 64 x 64 pixels, and the state",
}

PICTURES = (
    (
        "curves",
        "Return against steps: the source at home; the oracle and Telepath's rounds in the target",
        "Learning. In their training episodes source and oracle explore, but for those of the finalists at the end. "
        "Telepath's true return was recorded for this picture only; it saw the inferred one. Its last steps rolled out "
        "the finalists. Levels are those of the evaluation.",
    ),
    (
        "returns",
        "Bars of the true return of every agent, with intervals",
        "True return of every agent; diamonds, if there are any: means of other trainings.",
    ),
    (
        "rewards",
        "Inferred against true reward on held-out episodes of three policies, and over one episode",
        "Inferred against true reward a frame, on target episodes that were never trained on. Darker cells "
        "hold more steps. Where the true reward never changes, words say what was inferred. Below, an episode of the "
        "shipped policy.",
    ),
    (
        "cem",
        "Alignment cost over the iterations of the search, and at its end",
        "The search for re-enactments: alignment cost.",
    ),
    (
        "alignments",
        "Observations of three source segments and of their imagined re-enactments, with warping paths",
        "The best, the median and the worst re-enactment: the dimensions in which the source moves most. Thin lines "
        "join the frames that the warping path matches.",
    ),
    (
        "labels",
        "Alignment costs of source segments beside those of target pieces, and where in which episode segments begin",
        "What re-enactments cost, beside what the error of belief and model costs by itself: pieces of the "
        "exploration, re-enacted with the actions that made them. A search may come below, because it fits its actions "
        "to the model. "
        "Right, where in the source's episodes the segments begin; the source learned from the lower to the higher.",
    ),
    (
        "gap",
        "Divergence of target and source under the same actions, against seconds",
        "Divergence of target and source under the same actions, from the same states.",
    ),
)
"""File name, alternative text and caption of every picture."""


POSES_SHOW = "Strips of poses: eight frames of three source segments, each above what the target imagined for it"
POSES_CAPTION = (
    "The same three as poses. Below each source frame stands the target frame that the warping path matches with it: "
    "the times tell the pace. Both rows are seen through the same window, fitted to what moves. Nothing but "
    "observations is stored, so a pose is one that would be observed so"
)

FRAMES_CAPTION = (
    "The best, the median and the worst re-enactment: eight source frames each, above the frame that the warping path "
    "matches with it, cropped to what moves."
)

TELEPATH_SEES = {
    "trajectories only": "observations and rewards",
    "with source agent": "observations, rewards and agent",
}
"""What Telepath may see of the source, by setting."""

PADA_SEES = {
    "simulator": "the source's agent and simulator; the target without reward, its physics states while it learns",
    "learned": "the source's agent and transitions; the target without reward",
}
"""What PADA may see, by ``rivals.pada.source``."""


def write_page(findings: Findings, evidence: Evidence, params: Params) -> str:
    """The whole page."""
    sections = [
        f"# Telepath on {params.task}",
        f"Setting: *{params.setting}*. Observed: {OBSERVED[params.observation]}.",
        "## Did the transfer work?",
        answer(findings, evidence, params),
        film(evidence),
        "## The agents",
        agents(findings, evidence, params),
        "## How sure is that?",
        certainty(findings, evidence, params),
        "## The gap",
        gap(findings, evidence, params),
        "## What it cost",
        cost(evidence, params),
        "## How good are the labels?",
        labels(findings, evidence, params),
        "## Which round was shipped?",
        shipped(findings, evidence, params),
        "## Where it fails",
        shortcomings(findings, evidence),
        "## Pictures",
        *(f"![{alt}]({path})\n\n*{caption}*" for path, alt, caption in pictures(evidence, params)),
        "## Make it again",
        recipe(params),
    ]
    return "\n\n".join(sections) + "\n"


def pictures(evidence: Evidence, params: Params) -> list[tuple[str, str, str]]:
    """``PICTURES`` with their paths, worded for what was observed; poses after the alignments that they show."""
    found = [(f"figures/{name}.png", alt, caption) for name, alt, caption in PICTURES]
    after = [name for name, *_ in PICTURES].index("alignments")
    if params.observation != "state":
        found[after] = (*found[after][:2], FRAMES_CAPTION)
    if evidence.film.misfit is not None:
        off = f"at most {evidence.film.misfit:.1g} of a spread off" if evidence.film.misfit >= 1e-3 else "exactly"
        found.insert(after + 1, ("film/poses.png", POSES_SHOW, f"{POSES_CAPTION} ({off})."))
    if evidence.gap["divergence"].max() < ALIKE:
        # An empty plot: the section on the gap says that the two move alike.
        found = [picture for picture in found if picture[0] != "figures/gap.png"]
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table; ``align`` has an l or r for every column."""
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def share(value: float | None) -> str:
    """0.974 -> '97 %'; a dash where it is not defined."""
    return "–" if value is None else f"{100 * value:.0f} %"


def number(value: float | None) -> str:
    """Two decimals, or 'undefined'."""
    return "undefined" if value is None else f"{value:.2f}"


def times(rate: float) -> str:
    """How often the target decides, against the source."""
    if rate > 1:
        return "twice as often" if rate == 2 else f"{rate:g} times as often"
    return f"once every {1 / rate:g} source steps"


def answer(findings: Findings, evidence: Evidence, params: Params) -> str:
    """The verdict and what it rests on in a few sentences, also when it failed."""
    mean = {agent: interval.mean for agent, interval in findings.intervals.items()}
    over, closure = findings.metrics["telepath_over_source"], findings.metrics["gap_closure"]
    home = f"the source's {mean['source']:.0f} at home"
    beside = f", against {home}" if over is None else f": {share(over)} of {home}"
    if findings.choice.kept:
        scores = "It was inferred to do well enough, without reading the target's reward, and scores"
    else:
        scores = "Without reading the target's reward, Telepath scores"
    given = f"The unchanged source policy scores {mean['zero_shot']:.0f}"
    if "action_hold" in mean:
        given += f", and with its actions held for as long as at home {mean['action_hold']:.0f}"
    rivals = f"PADA, a rival without reward, scores {mean['pada']:.0f}, and " if "pada" in mean else ""
    oracle = f"an oracle trained with the target's reward {mean['oracle']:.0f}"
    if closure is not None and closure > 0:
        oracle += f", so that {share(closure)} of the way from zero-shot to it are done"
    others = f"{rivals}{oracle}" if rivals else f"An{oracle[2:]}".replace("reward ", "reward scores ", 1)
    count = evidence.returns.groupby("agent").size().min()
    certain = f"All this is of {count} episodes of one training (seeds {params.seed.source} and {params.seed.target})."
    if "share" in findings.trainings:
        found = findings.trainings["share"]
        certain = (
            f"Over {len(evidence.trainings)} trainings it scores {found.mean:.2f} of the source "
            f"({percent(params.evaluate.confidence)} interval {found.low:.2f} to {found.high:.2f})."
        )
    return f"**{verdict(findings)}** {scores} {mean['telepath']:.0f} there{beside}. {given}. {others}. {certain}"


def film(evidence: Evidence) -> str:
    """The film with what it shows, or why there is none."""
    shown = evidence.film
    if shown.missing:
        return (
            f"There is no film of the agents, because nothing could be rendered: {shown.missing}. "
            "Then `dvc repro -f -s film` and `dvc repro` make it."
        )
    names = ", ".join(NAMES[agent] for agent in shown.agents)
    returns = evidence.returns[evidence.returns["episode"] == shown.episode].set_index("agent")["return"]
    final = ", ".join(f"{NAMES[agent]} {returns[agent]:.0f}" for agent in shown.agents if agent in returns)
    return (
        f"![A film of {names}, side by side](film/film.gif)\n\n"
        f"*The first {shown.seconds:.0f} simulated seconds of the evaluation's most typical episode, number "
        f"{shown.episode}: the one in which all of them are nearest to their medians. Same initial state in the target "
        f"for everyone. Return of the whole episode: {final}.*"
    )


def agents(findings: Findings, evidence: Evidence, params: Params) -> str:
    """The table of agents."""
    held = int(params.tasks[params.task].action_repeat / params.gap.action_repeat)
    sees = {
        "source": "its home, with reward",
        "random": "nothing",
        "zero_shot": "the source policy",
        "action_hold": f"the source policy, every action held for {held} target steps",
        "pada": PADA_SEES[params.rivals.pada.source],
        "telepath": f"the source's {TELEPATH_SEES[params.setting]}; the target without reward",
        "oracle": "the target with reward",
    }
    rows = [
        [
            f"**{NAMES[agent]}**" if agent == "telepath" else NAMES[agent],
            f"{interval.mean:.0f}",
            f"{interval.low:.0f} to {interval.high:.0f}",
            f"{findings.iqms[agent]:.0f}",
            share(findings.over(agent, "source")),
            share(findings.over(agent, "oracle")),
            sees[agent],
        ]
        for agent, interval in findings.intervals.items()
    ]
    level = percent(params.evaluate.confidence)
    header = ["agent", "return", f"{level} interval", "IQM", "over source", "over oracle", "what it may see"]
    count = evidence.returns.groupby("agent").size().min()
    notes = (
        f"True returns, means over {count} episodes that begin in the same states for every agent in the "
        f"target, with intervals of the mean ({'resampled' if count >= FEW else 'Student'}). IQM is the mean of the "
        "middle half."
    )
    if "pada" in findings.intervals:
        notes += " PADA is a rival (Song et al. 2020); the others: `make rivals`."
    if "action_hold" not in findings.intervals:
        notes += " Holding actions does not apply: the target is not faster than the source."
    return table(header, rows, "lrrrrrl") + "\n\n" + notes


def certainty(findings: Findings, evidence: Evidence, params: Params) -> str:
    """What would another episode say, and another training?"""
    level = percent(params.evaluate.confidence)
    gains = ", ".join(
        f"{gain.mean:+.0f} ({gain.low:+.0f} to {gain.high:+.0f}) against {NAMES[agent]}"
        for agent, gain in findings.gains.items()
    )
    episodes = (
        f"*Over episodes*: episode by episode, Telepath scores {gains}; in brackets the {level} intervals. These, and "
        f"those above, are of one training (seeds {params.seed.source} and {params.seed.target}) and say nothing of "
        "how trainings differ."
    )
    if not findings.trainings:
        unknown = "*Over trainings*: not known. `make seeds` runs the same with other seeds and shows it here."
        return f"{episodes}\n\n{unknown}"
    return f"{episodes}\n\n{trainings(findings, evidence, level)}"


def trainings(findings: Findings, evidence: Evidence, level: str) -> str:
    """The agents' returns, training by training, and the intervals over these."""
    runs, found = evidence.trainings, findings.trainings
    alike = (runs["seed_source"] == runs["seed_target"]).all()
    seeds = [str(a) if alike else f"{a} and {b}" for a, b in runs[["seed_source", "seed_target"]].to_numpy()]
    rows = [
        [
            f"**{NAMES[agent]}**" if agent == "telepath" else NAMES[agent],
            *(f"{value:.0f}" for value in runs[agent]),
            f"{found[agent].mean:.0f}",
            f"{found[agent].low:.0f} to {found[agent].high:.0f}",
        ]
        for agent in NAMES
        if agent in found
    ]
    header = ["agent", *(f"seed {seed}" for seed in seeds), "mean", f"{level} interval"]
    code = ", ".join(f"`{commit[:7]}`" for commit in dict.fromkeys(runs["commit"]))
    words = f"*Over trainings*: {len(runs)} of them, each from its own seeds, from the source on."
    if "share" in found:
        share = found["share"]
        words += (
            f" Telepath scores {share.mean:.2f} of the source at home ({level} interval {share.low:.2f} to "
            f"{share.high:.2f}, over trainings)."
        )
    return f"{words}\n\n{table(header, rows, 'l' + 'r' * (len(header) - 1))}\n\nCode: commit {code}."


def gap(findings: Findings, evidence: Evidence, params: Params) -> str:
    """What differs, and how far that drives the two apart."""
    repeat = params.tasks[params.task].action_repeat
    declared = differences(params.gap, repeat)
    rates = Rates(repeat, params.gap.action_repeat, evidence.facts["frame_seconds"])
    if not declared:
        return "No gap was declared: the target is the source, without its reward."
    rows = [[f"`{name}`", *sides(name, value, repeat)] for name, value in declared.items()]
    words = [table(["gap", "source", "target"], rows, "lrr")]
    if rates.ratio != 1:
        words.append(
            f"A step lasts {rates.source_step_seconds:.3g} s at home and {rates.target_step_seconds:.3g} s "
            f"in the target, so the target decides {times(rates.ratio)}."
        )
    return "\n\n".join([*words, divergence(findings, evidence, rates.ratio)])


def sides(name: str, value: float, source_repeat: int) -> tuple[str, str]:
    """A gap key as source and target have it: multipliers as such, the rest as it is."""
    if name == "action_repeat":
        return f"{source_repeat} frames a step", f"{value:g} frames a step"
    if name.endswith("delay"):
        return "none", f"{value:g} step{'' if value == 1 else 's'}"
    if name.endswith("noise"):
        return "none", f"{value:g}"
    return "× 1", f"× {value:g}"


def divergence(findings: Findings, evidence: Evidence, rate: float) -> str:
    """The induced gap in a sentence."""
    size, last = findings.metrics["induced_gap"], evidence.gap.iloc[-1]
    if size is None or size < ALIKE:
        alike = "Under the same actions, held as long on both sides, the two move alike (induced gap 0)."
        rest = "All that separates them is when they decide." if rate != 1 else "The gap never shows."
        return f"{alike} {rest}"
    return (
        f"Under the same actions, from the same states, the two are {size:.2g} source spreads apart on "
        f"average over the first {last['seconds']:.3g} s (the induced gap), and {last['divergence']:.2g} at "
        "the end."
    )


SPENDERS = {
    "source": ("collect_source", "train_source"),
    "telepath": ("explore_target", "train_belief", "label", "train_target"),
    "pada": ("train_pada",),
    "oracle": ("train_oracle",),
}
"""Whose stages they are."""


def cost(evidence: Evidence, params: Params) -> str:
    """Steps, frames and updates; minutes and memory where the files that are here were made and measured."""
    home, away = params.tasks[params.task].action_repeat, params.gap.action_repeat
    source, target = evidence.facts["source_steps"], evidence.facts["target_steps"]
    oracle = int(evidence.oracle_curve["steps"].iloc[-1])
    adapted = evidence.pada_curve["steps"].tolist()[-1:]  # nothing where PADA does not apply
    rows = [
        ["source, at home", *spent(source, home, evidence.source_curve), *took(evidence, "source"), "yes"],
        ["Telepath, in the target", *spent(target, away, evidence.diary), *took(evidence, "telepath"), "no"],
        *(
            ["PADA, in the target", f"{pada:,}", f"{pada * away:,}", "–", *took(evidence, "pada"), "no"]
            for pada in adapted
        ),
        ["oracle, in the target", *spent(oracle, away, evidence.oracle_curve), *took(evidence, "oracle"), "yes"],
    ]
    header = ["who and where", "steps", "frames", "policy updates", "minutes", "memory", "reward read"]
    searches = "PADA has no policy to update: it learns how the target deviates and searches for every action. "
    return (
        table(header, rows, "lrrrrrl")
        + "\n\nA step is one decision of the agent, a frame one step of the simulator. Telepath's steps hold "
        "its reward-free exploration, all rounds, and the rollouts that chose the shipped one. "
        + (searches if adapted else "")
        + "Evaluation is not counted. Minutes and peak memory are those of the machine that made these files, start-up "
        "excluded; a dash where `make repro` did not measure them."
    )


def took(evidence: Evidence, who: str) -> list[str]:
    """Minutes and memory of all stages of one side; dashes unless all were measured."""
    costs = [evidence.costs[stage] for stage in SPENDERS[who] if stage in evidence.costs]
    if len(costs) < len(SPENDERS[who]):
        return ["–", "–"]
    return [f"{sum(cost.minutes for cost in costs):.1f}", f"{max(cost.mebibytes for cost in costs):,.0f} MiB"]


def spent(steps: int, action_repeat: int, log: pd.DataFrame) -> list[str]:
    """Steps, frames and updates of one side, for people."""
    return [f"{count:,}" for count in (steps, steps * action_repeat, int(log["updates"].iloc[-1]))]


def labels(findings: Findings, evidence: Evidence, params: Params) -> str:
    """Correlations, bias and alignment cost."""
    held, found, metrics = evidence.heldout, evidence.reenactments, findings.metrics
    told = ", ".join(f"{NAMES[policy]} {r:.2f}" for policy, r in findings.labels.items() if r is not None)
    constant = " and ".join(NAMES[policy] for policy, r in findings.labels.items() if r is None)
    each = "; ".join(filter(None, (told, constant and f"{constant}: undefined, the true reward never changes")))
    true, inferred = float(np.mean(held["true"])), float(np.mean(held["inferred"]))
    bias = f" In total, {share(inferred / true)} of the true reward was inferred." if true > 0 else ""
    first, last = np.median(found.history[0]), np.median(found.cost)
    unit = ", in units of each dimension's spread," if params.observation == "state" else ""
    return (
        f"On {len(held['true']):,} held-out target steps, the inferred reward correlates "
        f"{number(metrics['label_correlation'])} with the true one ({each}). The reward head of "
        f"the best trained round correlates {number(metrics['reward_model_correlation'])}.{bias}\n\n"
        f"{len(found.cost)} source segments were re-enacted in imagination. The search took the median "
        f"alignment cost from {first:.2g} after its first iteration to {last:.2g} (squared differences{unit} along the "
        "warping path, over the cells that an even pace has). The median re-enactment takes "
        f"{findings.pace:.2f} times as long as its reference. {share(metrics['aligned_share'])} of the segments ended "
        f"below {found.tau:.2g}, the cost at which a re-enactment counts 1/e: a multiple of what target trajectories "
        "cost when they are re-enacted with their own actions."
    )


def shipped(findings: Findings, evidence: Evidence, params: Params) -> str:
    """Which round, why, and whether that was a good choice."""
    choice, selection = findings.choice, findings.metrics["selection_correlation"]
    finals = evidence.diary.set_index("round")["final_score"].dropna()
    if choice.final_score >= finals.max():
        inferred = f"its inferred return was the highest ({choice.final_score:.0f})"
    else:
        inferred = (
            f"its inferred return was {choice.final_score:.0f}; that of round {finals.idxmax()}, "
            f"{finals.max():.0f}, is above it by less than a standard error"
        )
    if choice.shipped == choice.best:
        judgement = "That was the best choice: no round had a higher true return"
    elif evidence.rounds["low"][evidence.rounds["round"] == choice.best].min() <= choice.shipped_return:
        judgement = f"No round was clearly better: the highest true return is {choice.best_return:.0f}, of round "
        judgement += f"{choice.best}, with an interval that holds this one's"
    else:
        judgement = f"The best would have been round {choice.best}, with {choice.best_return:.0f}"
        judgement += ": a good choice all the same" if (choice.share or 0) >= 0.9 else ": a poor choice"
    given = f" **This round is the source's policy, {choice.kept}.**" if choice.kept else ""
    return (
        f"Round {choice.shipped} of {choice.rounds}, counted from 0. When the {len(finals)} finalists were rolled out "
        f"again, {inferred}. Its true return is {choice.shipped_return:.0f} over the first "
        f"{params.evaluate.curve_episodes} episodes. "
        f"{judgement}. Over all rounds, score and true return correlate {number(selection)}." + given
    )


def shortcomings(findings: Findings, evidence: Evidence) -> str:
    """The automatic remarks as a list."""
    found = remarks(findings, evidence)
    if not found:
        return "The automatic checks on returns, labels, alignments and the choice of the round found nothing."
    return "\n".join(f"- {remark}" for remark in found)


def recipe(params: Params) -> str:
    """The settings that name this run, and the command."""
    task = params.tasks[params.task]
    declared = differences(params.gap, task.action_repeat)
    rows = [
        ["`task`", params.task],
        ["`setting`", params.setting],
        ["`observation`", params.observation],
        *([f"`seed.{name}`", str(value)] for name, value in params.seed),
        *([f"`gap.{name}`", f"{value:g}"] for name, value in declared.items()),
        *([f"`tasks.{params.task}.{name}`", str(value)] for name, value in task),
        ["`evaluate.episodes`", str(params.evaluate.episodes)],
    ]
    return (
        table(["setting", "value"], rows, "ll")
        + "\n\nAll else is as in the `params.yaml` beside this report. With it, this makes every number and picture "
        "again:\n\n```sh\nmake repro\n```"
    )

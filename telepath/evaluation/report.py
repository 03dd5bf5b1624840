"""The report: figures, metrics.json, details.json, index.md and index.html. The same evidence gives the same bytes."""

import json
from collections.abc import Mapping
from pathlib import Path

from telepath.config import Params
from telepath.evaluation import figures
from telepath.evaluation.evidence import HELDOUT_POLICIES, Evidence, heldout_of
from telepath.evaluation.findings import AGENTS, HEADLINES, Findings, Metrics, find
from telepath.evaluation.html import self_contained
from telepath.evaluation.page import pictures, share, write_page
from telepath.evaluation.scores import ratio, significant
from telepath.evaluation.strips import drawn_strips
from telepath.files import write_atomically
from telepath.observations import frames_of


def write_report(evidence: Evidence, params: Params, folder: Path = Path("reports")) -> Metrics:
    """Write ``folder``/index.md, index.html, metrics.json (``HEADLINES``), details.json (the other metrics) and
    figures/*.png; returns all metrics as written.

    The film, if there is one, lies there already, as film/film.gif.

    Of the settings it reads ``task``, ``observation``, ``setting``, ``seed``, ``gap``, ``tasks.<task>``, ``evaluate``
    and ``rivals.pada.source``.
    """
    findings = find(evidence, params)
    draw(findings, evidence, params, folder / "figures")
    write_curves(evidence, folder / "curves")
    metrics = {name: significant(value) for name, value in sorted(findings.metrics.items())}
    headlines = {name: value for name, value in metrics.items() if name in HEADLINES}
    details = {name: value for name, value in metrics.items() if name not in HEADLINES}
    for name, chosen in (("metrics", headlines), ("details", details)):
        write_atomically(folder / f"{name}.json", json.dumps(chosen, indent=2, allow_nan=False) + "\n")
    page = write_page(findings, evidence, params)
    write_atomically(folder / "index.md", page)
    write_atomically(folder / "index.html", self_contained(page, folder))
    return metrics


def write_curves(evidence: Evidence, folder: Path) -> None:
    """What ``dvc plots`` draws, as small tables with a column for each line, which a clone has without any data."""
    rounds = evidence.diary.merge(evidence.rounds[["round", "return"]], on="round")
    rounds = rounds[["steps", "inferred_return", "return"]]
    tables = {
        "source": evidence.source_curve[["steps", "return"]].set_axis(["steps", "source"], axis=1),
        "oracle": evidence.oracle_curve[["steps", "return"]].set_axis(["steps", "oracle"], axis=1),
        "rounds": rounds.set_axis(["steps", "inferred return", "true return"], axis=1),
        "gap": evidence.gap[["seconds", "divergence"]],
    }
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def draw(findings: Findings, evidence: Evidence, params: Params, folder: Path) -> None:
    """All pictures of the page."""
    frame = evidence.facts["frame_seconds"]
    source_step = frame * params.tasks[params.task].action_repeat
    target_step = frame * params.gap.action_repeat
    levels = {agent: interval.mean for agent, interval in findings.intervals.items()}
    found, last = evidence.reenactments, HELDOUT_POLICIES[-1]
    episode = max(1, len(heldout_of(evidence.heldout, last)["true"]) // params.evaluate.heldout_episodes)
    confidence = params.evaluate.confidence
    figures.learning_curves(
        evidence.source_curve,
        evidence.oracle_curve,
        evidence.diary,
        evidence.rounds,
        levels,
        f"{figures.percent(confidence)} interval of {params.evaluate.curve_episodes} episodes",
        folder / "curves.png",
    )
    figures.return_bars(evidence.returns, evidence.trainings, confidence, folder / "returns.png")
    figures.rewards(evidence.heldout, HELDOUT_POLICIES, episode, target_step, folder / "rewards.png")
    figures.cem_progress(found.history, found.cost, found.tau, folder / "cem.png")
    if params.observation == "state":
        names = evidence.facts["observation_names"]
        figures.drawn_alignments(found, names, source_step, target_step, folder / "alignments.png")
    else:
        frames = found._replace(reference=frames_of(found.reference), imagined=frames_of(found.imagined))
        drawn_strips(frames, source_step, target_step, folder / "alignments.png")
    figures.label_origins(found, evidence.null, source_step, folder / "labels.png")
    if any(path == "figures/gap.png" for path, *_ in pictures(evidence, params)):
        figures.induced_gap(evidence.gap, folder / "gap.png")
    else:
        # One of an earlier run may lie there.
        (folder / "gap.png").unlink(missing_ok=True)


def summary_table(metrics: Mapping[str, float | int | None], report: Path = Path("reports/index.md")) -> str:
    """What a terminal shows at the end of a run: all returns, the scores, and where the report is."""
    lines = [f"{'true return of':<18}{'':>8}{'over source':>14}{'over oracle':>14}", "-" * 54]
    for agent in AGENTS:
        value = metrics[f"{agent}_return"]
        if value is not None:
            source, oracle = (share_of(value, metrics[f"{other}_return"]) for other in ("source", "oracle"))
            lines.append(f"{figures.NAMES[agent]:<18}{value:>8.0f}{source:>14}{oracle:>14}")
    lines.append("-" * 54)
    scores = {
        "gap closed": share(metrics["gap_closure"]),
        "inferred against true reward, r": words(metrics["label_correlation"]),
        "median alignment cost": words(metrics["alignment_cost_median"]),
        "source steps, with reward": words(metrics["source_steps"]),
        "target steps, without reward": words(metrics["target_steps"]),
    }
    lines += [f"{name:<40}{value:>14}" for name, value in scores.items()]
    return "\n".join([*lines, "", f"The report: {report}"])


def share_of(value: float, reference: float | None) -> str:
    """``value`` in per cent of a reference that may be missing."""
    return share(None if reference is None else ratio(value, reference))


def words(value: float | int | None) -> str:
    """A number for people: thousands apart, a dash for what is not defined."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"

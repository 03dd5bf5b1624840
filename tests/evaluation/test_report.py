import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from telepath.config import Params
from telepath.evaluation.evidence import Evidence, Film
from telepath.evaluation.findings import differences, find
from telepath.evaluation.page import write_page
from telepath.evaluation.remarks import remarks, verdict
from telepath.evaluation.report import summary_table, write_report

PROMISED = {
    "source_return",
    "random_return",
    "zero_shot_return",
    "action_hold_return",
    "pada_return",
    "telepath_return",
    "oracle_return",
    "gap_closure",
    "telepath_over_source",
    "target_steps",
    "source_steps",
    "label_correlation",
    "alignment_cost_median",
}
DETAILS = {"telepath_over_oracle", "reward_model_correlation", "selection_correlation", "induced_gap"}
HEADINGS = [
    "Did the transfer work?",
    "The agents",
    "How sure is that?",
    "The gap",
    "What it cost",
    "How good are the labels?",
    "Which round was shipped?",
    "Where it fails",
    "Pictures",
    "Make it again",
]


def with_gap(params: Params, **gap: float) -> Params:
    """The default task (source action repeat 6) with another gap."""
    task = params.tasks["ball_in_cup-catch"].model_copy(update={"action_repeat": 6})
    return params.model_copy(
        update={
            "task": "ball_in_cup-catch",
            "tasks": {"ball_in_cup-catch": task},
            "gap": type(params.gap)(**({"action_repeat": 3} | gap)),  # type: ignore[arg-type]
        }
    )


def test_trainings_with_other_seeds_have_intervals_of_their_own(
    make_evidence: Callable[..., Evidence], params: Params
) -> None:
    params, evidence = with_gap(params), make_evidence()
    page = write_page(find(evidence, params), evidence, params)
    assert "*Over trainings*: not known. `make seeds`" in page
    seeds = {"seed_source": [0, 1, 2], "seed_target": [0, 1, 2], "commit": ["a" * 40, "a" * 40, "b" * 40]}
    runs = pd.DataFrame(
        seeds | {"source": [900.0, 920.0, 880.0], "zero_shot": 200.0, "telepath": [890.0, 500.0, 885.0]}
    )
    evidence = evidence._replace(trainings=runs)
    findings = find(evidence, params)
    assert findings.trainings["telepath"].mean == pytest.approx(2275 / 3)
    assert findings.trainings["telepath"].low < 500 < 890 < findings.trainings["telepath"].high  # of three, one failed
    assert findings.trainings["share"].mean == pytest.approx((890 / 900 + 500 / 920 + 885 / 880) / 3)
    page = write_page(findings, evidence, params)
    assert "3 of them, each from its own seeds" in page
    assert re.search(r"\| \*\*Telepath\*\* \| 890 \| 500 \| 885 \| 758 \| \d+ to \d+ \|", page)
    assert "Code: commit `aaaaaaa`, `bbbbbbb`." in page
    assert "With seed 1 Telepath scores 500, where the source scores 920" in page


def test_the_report_is_whole_and_its_bytes_repeat(
    make_evidence: Callable[..., Evidence], params: Params, tmp_path: Path
) -> None:
    params = with_gap(params)
    metrics = write_report(make_evidence(), params, tmp_path / "one")
    write_report(make_evidence(), params, tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)

    page = (tmp_path / "one" / "index.md").read_text()
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    tables = [f"curves/{name}.csv" for name in ("gap", "oracle", "rounds", "source")]
    assert sorted([*linked, *tables, "index.html", "index.md", "details.json", "metrics.json"]) == list(map(str, files))
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    assert "dvc repro" in page
    assert "| PADA | " in page
    assert "| the source's agent and simulator; the target without reward" in page
    assert "| PADA, in the target | 14,696 | 44,088 | – | – | – | no |" in page
    assert re.search(r"\| source, at home \| 5,010 .*\| 3.8 \| 640 MiB \| yes \|", page)
    assert re.search(r"\| Telepath, in the target \| .*\| – \| – \| no \|", page)  # none of its stages was measured
    assert str(tmp_path) not in page
    assert "nan" not in page.lower()

    stored = json.loads((tmp_path / "one" / "metrics.json").read_text())
    details = json.loads((tmp_path / "one" / "details.json").read_text())
    assert stored | details == metrics
    assert list(stored) == sorted(stored)
    assert set(stored) == PROMISED
    assert set(details) >= DETAILS
    assert isinstance(details["shipped_round"], int)
    assert all(isinstance(stored[name], int) for name in ("source_steps", "target_steps"))


def test_the_film_is_shown_with_the_returns_of_its_episode(
    make_evidence: Callable[..., Evidence], params: Params, tmp_path: Path
) -> None:
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "film.gif").write_bytes(b"GIF89a film")
    made = make_evidence()._replace(film=Film("", ["source", "zero_shot", "telepath", "oracle"], 4, 7.98, None))
    made.returns.loc[(made.returns["agent"] == "telepath") & (made.returns["episode"] == 4), "return"] = 777.4
    write_report(made, with_gap(params), tmp_path)
    page = (tmp_path / "index.md").read_text()
    assert "](film/film.gif)" in page
    assert "Telepath 777, oracle" in page
    assert "There is no film" not in page
    assert base64.b64encode(b"GIF89a film").decode() in (tmp_path / "index.html").read_text()


def test_poses_are_shown_after_the_alignments(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made, params = make_evidence(), with_gap(params)
    found = find(made, params)
    assert "poses.png" not in write_page(found, made, params)
    page = write_page(found, made._replace(film=made.film._replace(misfit=0.0312)), params)
    assert "film/poses.png" in page
    assert page.index("figures/alignments.png") < page.index("film/poses.png") < page.index("figures/labels.png")
    assert "at most 0.03 of a spread off" in page


def test_the_gain_is_told_episode_by_episode(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made, params = make_evidence(), with_gap(params)
    # Returns that vary by hundreds from episode to episode, and a gain that does not.
    luck = made.returns["episode"] * 40.0
    made.returns["return"] = luck + made.returns["agent"].map({"telepath": 17.0}).fillna(0.0)
    found = find(made, params)
    assert found.gains["zero_shot"] == found.gains["action_hold"] == (17, 17, 17)
    assert found.intervals["telepath"].low < found.intervals["zero_shot"].high
    page = write_page(found, made, params)
    assert "scores +17 (+17 to +17) against zero-shot, +17 (+17 to +17) against action hold" in page
    assert "say nothing of how trainings differ" in page


def test_without_a_film_the_report_says_why_and_how_to_get_one(
    make_evidence: Callable[..., Evidence], params: Params, tmp_path: Path
) -> None:
    why = "no OpenGL without a screen; `apt install libosmesa6`"
    made = make_evidence()._replace(film=Film(why, [], 0, 0.0, None))
    write_report(made, with_gap(params), tmp_path)
    for name in ("index.md", "index.html"):
        page = (tmp_path / name).read_text()
        assert "There is no film of the agents" in page
        assert "apt install libosmesa6" in page
        assert "film.gif" not in page


def test_metrics_follow_from_the_tables(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence()
    exact = {"source": 900.0, "random": 30.0, "zero_shot": 100.0, "telepath": 700.0, "oracle": 900.0}
    made.returns["return"] = made.returns["agent"].map(exact)
    made = made._replace(returns=made.returns.dropna())
    found = find(made, with_gap(params, action_repeat=6, mass=2.0))
    assert found.metrics["gap_closure"] == 0.75
    assert found.metrics["telepath_over_source"] == pytest.approx(7 / 9)
    assert found.metrics["action_hold_return"] is None
    assert found.metrics["telepath_return_low"] == found.metrics["telepath_return"] == 700
    assert found.metrics["target_steps"] == 14985
    made.gap["divergence"] = [5.0] + [2.0] * (len(made.gap) - 1)
    assert find(made, params).metrics["induced_gap"] == 2


@pytest.mark.parametrize(
    ("zero_shot", "telepath", "oracle", "says"),
    [
        (12, 850, 905, "Yes."),
        (12, 850, 10, "Yes."),
        (12, 500, 905, "In part."),
        (300, 150, 905, "No."),
        (300, 330, 905, "Not clearly."),
        (870, 860, 875, "There was little to transfer."),
        (20, 200, 100, "In part."),  # an oracle that has not converged proves nothing
        (860, 780, 870, "No."),  # little to transfer, and that was spoilt
    ],
)
def test_the_verdict(
    make_evidence: Callable[..., Evidence],
    params: Params,
    zero_shot: float,
    telepath: float,
    oracle: float,
    says: str,
) -> None:
    levels = {"source": 880, "random": 40, "zero_shot": zero_shot, "telepath": telepath, "oracle": oracle}
    made = make_evidence(levels=levels)
    params = with_gap(params, action_repeat=6, mass=2.0)
    found = find(made, params)
    assert verdict(found) == says
    assert f"**{says}**" in write_page(found, made, params)


def test_a_good_run_draws_no_remark(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence()
    made = made._replace(reenactments=made.reenactments._replace(tau=1.0))
    found = find(made, with_gap(params))
    assert remarks(found, made) == []
    assert "found nothing" in write_page(found, made, with_gap(params))


def test_a_bad_run_is_told_so(make_evidence: Callable[..., Evidence], params: Params) -> None:
    levels = {"source": 880, "random": 170, "zero_shot": 300, "action_hold": 500, "pada": 400, "telepath": 150}
    levels["oracle"] = 905
    made = make_evidence(levels=levels, noise=1.5)
    made.diary["shipped"] = 0
    made.diary.loc[0, ["shipped", "final_score", "inferred_return", "score"]] = [1, 400, 400, 400]
    made.facts["target_divergences"] = 2
    made.oracle_curve.loc[made.oracle_curve.index >= 3, "divergences"] = 1
    made.returns.loc[made.returns["agent"] == "random", "divergences"] = 1
    made.rounds["divergences"] = 1
    made = made._replace(oracle_curve=made.oracle_curve[:20])
    told = " ".join(remarks(find(made, with_gap(params)), made))
    for words in (
        "worse than doing nothing",
        "Holding the source's actions is enough",
        "PADA, a rival that reads no reward",
        "no better than random",
        "The inferred reward correlates",
        "Only 33 % of the segments",
        "more than 10 % under round",
        "the choice is chancy",
        "the labels flatter it",
        "more than 10 % apart",
        "2 times while Telepath learned in the target, 1 times in the oracle's training, 30 times in the evaluation",
    ):
        assert words in told


def test_the_source_agents_own_that_was_kept_for_lack_of_a_clear_gain_is_said_to_be_so(
    make_evidence: Callable[..., Evidence], params: Params
) -> None:
    made = make_evidence()
    page = write_page(find(made, with_gap(params)), made, with_gap(params))
    assert "its inferred return was the highest" in page
    made.diary["shipped"], made.diary["final_score"] = 0, float("nan")
    made.diary.loc[0, ["shipped", "final_score", "updates"]] = [1, 400, 0]
    made.diary.loc[6, "final_score"] = 420
    page = write_page(find(made, with_gap(params)), made, with_gap(params))
    assert "When the 2 finalists were rolled out again, its inferred return was 400; that of round 6, 420," in page
    assert "**This round is the source's policy, as it is.**" in page
    assert "**The source's policy was kept, as it is.** It was inferred to do well enough" in page
    assert "- What is shipped is the source's policy, as it is: nothing that was learned" in page


def test_a_better_round_is_named_where_it_is_clearly_better(
    make_evidence: Callable[..., Evidence], params: Params
) -> None:
    made = make_evidence()
    shipped = int(made.diary["shipped"].argmax())
    other = 3 if shipped != 3 else 4
    made.rounds["return"] = 500.0
    made.rounds.loc[shipped, "return"] = 700.0
    made.rounds.loc[other, ["return", "low"]] = [720.0, 600.0]
    page = write_page(find(made, with_gap(params)), made, with_gap(params))
    assert f"No round was clearly better: the highest true return is 720, of round {other}" in page
    made.rounds.loc[other, ["return", "low"]] = [900.0, 800.0]
    page = write_page(find(made, with_gap(params)), made, with_gap(params))
    assert f"The best would have been round {other}, with 900: a poor choice" in page


def test_who_needs_less_and_is_as_good_is_named(make_evidence: Callable[..., Evidence], params: Params) -> None:
    levels = {"source": 880, "random": 40, "zero_shot": 20, "action_hold": 875, "pada": 860, "telepath": 760}
    made = make_evidence(levels=levels | {"oracle": 890})
    found = find(made, with_gap(params))
    assert verdict(found) == "No."
    page = write_page(found, made, with_gap(params))
    assert "and with its actions held for as long as at home 8" in page
    told = " ".join(remarks(found, made))
    assert "Holding the source's actions is enough" in told
    assert "PADA, a rival that reads no reward of the target either" in told


def test_differences_that_are_chance_are_no_failures(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence()
    better = made.returns["agent"].isin(["telepath", "pada"])
    made.returns.loc[better, "return"] = 900 + 5.0 * (made.returns["episode"] % 2)
    made.returns.loc[made.returns["agent"] == "pada", "return"] += 10 * (made.returns["episode"] % 3) - 9.0
    told = " ".join(remarks(find(made, with_gap(params)), made))
    assert "PADA" not in told


def test_rounds_that_fall_and_paths_that_hurry_are_told(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence()
    assert "does not hold" not in " ".join(remarks(find(made, with_gap(params)), made))
    made.rounds.loc[8, "return"] = 100.0
    path = made.reenactments.path.copy()
    path[..., 1] = path[..., 1] * 6 // 10
    made = made._replace(reenactments=made.reenactments._replace(path=path))
    found = find(made, with_gap(params))
    told = " ".join(remarks(found, made))
    assert "It does not hold: over the last third of the rounds the true return falls to 100, from" in told
    assert found.pace == pytest.approx(15 / 24)
    assert "The median re-enactment takes 0.62 times as long as its reference" in told


def test_what_was_observed_is_said_and_rivals_only_where_they_apply(
    make_evidence: Callable[..., Evidence], params: Params
) -> None:
    made = make_evidence()
    page = write_page(find(made, with_gap(params)), made, with_gap(params))
    assert "Observed: the state." in page
    assert "| `observation` | state |" in page
    seen = with_gap(params).model_copy(update={"observation": "pixels"})
    none = made.pada_curve[:0]
    made = made._replace(returns=made.returns[made.returns["agent"] != "pada"], pada_curve=none)
    page = write_page(find(made, seen), made, seen)
    assert "Observed: frames of 64 x 64 pixels and nothing else." in page
    assert "PADA" not in page
    assert "spread" not in page.partition("## How good are the labels?")[2].partition("##")[0]


def test_nothing_paid_gives_nulls_and_still_a_page(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence(levels=dict.fromkeys(("source", "random", "zero_shot", "telepath", "oracle"), 0.0))
    made.returns["return"] = 0.0
    made.rounds["return"] = 0.0
    made.heldout["true"][:] = 0
    found = find(made, with_gap(params))
    for name in ("gap_closure", "telepath_over_source", "label_correlation", "selection_correlation"):
        assert found.metrics[name] is None
    page = write_page(found, made, with_gap(params))
    assert "undefined" in page
    assert "nan" not in page.lower()


def test_only_the_keys_that_differ_are_a_gap(params: Params) -> None:
    assert differences(with_gap(params, action_repeat=6).gap, 6) == {}
    gap = with_gap(params, mass=1.5, observation_noise=0.1).gap
    assert differences(gap, 6) == {"action_repeat": 3, "mass": 1.5, "observation_noise": 0.1}


def test_the_page_names_the_gap(make_evidence: Callable[..., Evidence], params: Params) -> None:
    made = make_evidence(divergence=1.0)
    there = with_gap(params, mass=1.5, action_delay=1)
    page = write_page(find(made, there), made, there)
    assert "| `mass` | × 1 | × 1.5 |" in page
    assert "| `action_delay` | none | 1 step |" in page
    assert "| `action_repeat` | 6 frames a step | 3 frames a step |" in page
    assert "`gravity`" not in page
    assert "twice as often" in page
    none = with_gap(params, action_repeat=6)
    assert "No gap was declared" in write_page(find(made, none), made, none)


def test_the_summary_fits_a_terminal(make_evidence: Callable[..., Evidence], params: Params) -> None:
    metrics = dict(find(make_evidence(), with_gap(params)).metrics)
    text = summary_table(metrics)
    assert max(map(len, text.splitlines())) < 80
    assert text.endswith("reports/index.md")
    assert "action hold" in text
    metrics |= {"action_hold_return": None, "gap_closure": None, "label_correlation": None}
    text = summary_table(metrics)
    assert "action hold" not in text
    assert re.search(r"gap closed +–", text)

"""The whole pipeline, run by DVC on tiny settings in a copy of the project: what comes out, what reruns when."""

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from benchmarks.kills import digests
from benchmarks.tiny import TINY, Project, copy_project
from telepath.evaluation.rivals import EVERYONE

SOURCE = {"collect_source", "train_source"}
TARGET = {
    "explore_target",
    "train_belief",
    "label",
    "train_target",
    "train_oracle",
    "train_pada",
    "evaluate",
    "evaluate_oracle",
    "evaluate_pada",
    "film",
    "report",
}

AGAIN = """
import importlib, sys
from stages.harness import execute
for name in sys.argv[1:]:
    execute(importlib.import_module(f"stages.{name}").main, name)
"""

RIVALS = """
import importlib
from stages.costs import RIVAL_STAGES
from stages.harness import RIVALS, execute, read_stages
stages = read_stages(RIVALS)
for name in ("check_rivals", *RIVAL_STAGES, "evaluate_rival", "report_rivals"):
    for item in stages[name].get("matrix", {"rival": [""]})["rival"]:
        execute(importlib.import_module(f"stages.{name}").main, name, item)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("project"))
    # Here alone the whole pipeline runs, so here nothing is left out.
    project.set(**TINY | {"label.match.worth": 1.0})
    ran = project.repro()
    assert ran == {"check"} | SOURCE | TARGET
    return project


@pytest.mark.slow
class TestPipeline:
    """In this order: each test leaves the project reproduced."""

    def test_the_report_answers(self, project: Project) -> None:
        metrics = project.metrics()
        asked = {
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
        assert asked <= set(metrics)
        # 3 exploration episodes, 2 rounds of 1 episode or more, 1 finalist of 1 episode; within the budget of 2600.
        assert 3 * 334 + 3 * 334 <= metrics["target_steps"] <= 3 * 334 + 1600
        page = (project.folder / "reports" / "index.md").read_text()
        for picture in re.findall(r"\]\((\S+\.png)\)", page):
            assert (project.folder / "reports" / picture).stat().st_size > 1000

    def test_nothing_changed_nothing_runs(self, project: Project) -> None:
        assert project.repro() == set()

    @pytest.mark.parametrize("threads", ["1", "2"])
    def test_every_stage_run_again_leaves_the_same_bytes(self, project: Project, threads: str) -> None:
        # Again all in one process: no stage depends on what another one left in memory, either.
        whole = digests(project.folder)
        for name in ("data", "reports"):
            shutil.rmtree(project.folder / name)
        stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(project.environment, "TELEPATH_THREADS", threads)
            project.run(sys.executable, "-c", AGAIN, *stages)
        again = digests(project.folder)
        assert {name for name in whole.keys() | again.keys() if whole.get(name) != again.get(name)} == set()
        assert len(whole) > 20
        assert project.repro() == set()

    def test_without_opengl_the_report_says_so(self, project: Project) -> None:
        film, page = (project.folder / "reports" / name for name in ("film/film.gif", "index.md"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(project.environment, "TELEPATH_GL", "off")
            project.run("dvc", "repro", "-f", "-s", "film")
            project.repro()
            assert not film.exists()
            assert "There is no film of the agents" in page.read_text()
        # As the report says: the note is what the stage left, so it has to be told to try again.
        project.run("dvc", "repro", "-f", "-s", "film")
        project.repro()
        assert film.exists() == ("film/film.gif" in page.read_text())
        # From here on nobody looks at a film, and each one takes longer than a training.
        project.environment["TELEPATH_GL"] = "off"

    def test_a_word_that_mujoco_does_not_know_is_nothing_to_a_stage(self, project: Project) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(project.environment, "MUJOCO_GL", "nonsense")
            project.run("dvc", "repro", "-f", "-s", "check")
        assert project.repro() == set()

    def test_a_comment_reruns_nothing(self, project: Project) -> None:
        path = project.folder / "params.yaml"
        path.write_text("# a comment\n" + path.read_text())
        assert project.repro() == set()

    def test_the_target_s_budgets_stay_unread_by_the_source(self, project: Project) -> None:
        listed = project.run("dvc", "params", "diff", check=False)
        assert "Traceback" not in listed

    def test_evaluate_episodes_rerun_evaluation_and_report(self, project: Project) -> None:
        project.set(**{"evaluate.episodes": 3})
        assert project.repro() == {"check", "evaluate", "evaluate_oracle", "evaluate_pada", "film", "report"}

    def test_a_changed_dtw_reruns_labels_and_what_follows(self, project: Project) -> None:
        path = project.folder / "telepath" / "alignment" / "dtw.py"
        before = project.metrics()
        path.write_text(path.read_text() + "\n# changed\n")
        # The labels come out the same, bit for bit, so the stages behind them that do not run this code are spared.
        assert project.repro() == {"label", "train_target", "evaluate", "film", "report"} - self.unchanged(
            project, before
        )

    @staticmethod
    def unchanged(project: Project, before: dict[str, Any]) -> set[str]:
        return {"film", "report"} if project.metrics() == before else set()

    def test_a_gap_reruns_the_target_and_nothing_of_the_source(self, project: Project) -> None:
        project.run("git", "add", "-A")
        project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "before")
        out = project.run("dvc", "exp", "run", "-S", "gap.mass=2.0")
        # `check` looks at every new gap; the source stages wait for it and find its output unchanged.
        assert set(re.findall(r"Running stage '(\w+)'", out)) == {"check"} | TARGET

    def test_dvc_s_own_views_compare_it_with_what_was_before(self, project: Project) -> None:
        def view(*command: str) -> Any:
            return json.loads(project.run("dvc", *command, "--json").partition("\n")[0])

        assert view("params", "diff")["params.yaml"]["gap.mass"].items() >= {"old": 1.0, "new": 2.0}.items()
        changed = view("metrics", "diff")["reports/metrics.json"]
        assert "alignment_cost_median" in changed
        assert not {"source_return", "source_steps"} & set(changed)
        table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv")))
        assert {"telepath_return", "oracle_return", "gap.mass"} <= set(table.columns)
        assert set(table["gap.mass"]) == {1.0, 2.0}
        plots = view("plots", "diff", "HEAD")["data"]
        for name in ("training", "rounds", "gap"):
            (drawn,) = plots[name]
            assert {row["rev"] for row in drawn["content"]["data"]["values"]} == {"HEAD", "workspace"}
        assert len(plots["reports/figures/curves.png"]) == 2

    def test_other_seeds_run_beside_the_workspace_and_join_its_report(self, project: Project) -> None:
        before = project.metrics()
        table = project.folder / "seeds.csv"
        table.write_text(table.read_text().partition("\n")[0] + "\n")  # the project's own rows are of its settings
        summary = project.folder / "stages" / "summary.py"
        summary.write_text(summary.read_text() + "\n# changed\n")
        assert "so that a row can name its code" in project.run(sys.executable, "-m", "stages.seeds", "1", check=False)
        project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "as it is")
        project.run(sys.executable, "-m", "stages.seeds", "1", "0")
        assert project.metrics() == before
        assert project.repro() == {"report"}
        page = (project.folder / "reports" / "index.md").read_text()
        assert "| agent | seed 0 | seed 1 | mean |" in page
        rows = pd.read_csv(table)
        assert rows["telepath"][0] == before["telepath_return"]
        assert rows["seed_source"].tolist() == rows["seed_target"].tolist() == [0, 1]
        assert rows["source"][0] != rows["source"][1]
        # A second time DVC has all of it in its cache.
        again = project.run(sys.executable, "-m", "stages.seeds", "1")
        assert "Reproducing experiment 'seed-1'" in again
        assert set(re.findall(r"Running stage '(\w+)'", again)) <= {"film", "report"}
        assert pd.read_csv(table).equals(rows)
        assert project.repro() == set()

    def test_a_fresh_clone_with_the_cache_runs_nothing(self, project: Project, tmp_path: Path) -> None:
        clone = copy_of(project, tmp_path / "clone")
        clone.run("dvc", "cache", "dir", str(project.folder / ".dvc" / "cache"), "--local")
        assert clone.repro() == set()
        for out in ("data/source/agent.safetensors", "data/target/agent.safetensors", "data/evaluation/returns.csv"):
            assert (clone.folder / out).read_bytes() == (project.folder / out).read_bytes()

    def test_every_rival_is_adapted_judged_and_shown(self, project: Project) -> None:
        project.run(sys.executable, "-c", RIVALS)
        project.run(sys.executable, "-m", "stages.costs")
        project.run("dvc", "repro", "-s", "-f", "rivals/dvc.yaml:report_rivals")
        table = pd.read_csv(project.folder / "reports" / "rivals.csv").set_index("agent")
        assert list(table.index) == [name for name in EVERYONE if name != "action_hold" or name in table.index]
        trained = table.drop(index=["random", "zero_shot", "action_hold"], errors="ignore")
        assert (trained["minutes"] >= 0).all(), "each one's run time was measured"
        assert (table["low"] <= table["return"]).all()
        budget = sum(TINY[f"tasks.ball_in_cup-catch.{part}_steps"] for part in ("explore", "refine"))
        assert trained.drop(index=["source", "oracle", "randomised"])["steps"].between(1, budget).all()


def copy_of(project: Project, folder: Path) -> Project:
    """The files of a project without its data and cache, as a clone would have them."""
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns("data", "cache", "tmp", ".telepath"))
    return Project(folder)

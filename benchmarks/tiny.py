"""The project on tiny settings in a folder of its own: every stage in seconds. For tests, and for whoever kills it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
TINY: dict[str, Any] = {
    "tasks.ball_in_cup-catch.source_steps": 1200,
    "tasks.ball_in_cup-catch.explore_steps": 1000,
    "tasks.ball_in_cup-catch.refine_steps": 1600,
    "tasks.ball_in_cup-catch.refine_ratio": 0.01,
    "tasks.ball_in_cup-catch.horizon": 4,
    "source.seed_episodes": 4,
    "source.training.first_updates": 2,
    "source.training.update_ratio": 0.02,
    "source.training.finalists": 2,
    "source.training.final_episodes": 1,
    "dreamer.deter": 16,
    "dreamer.stoch": 6,
    "dreamer.hidden": 16,
    "dreamer.batch": 4,
    "dreamer.length": 16,
    "dreamer.imagined": 32,
    "explore.update_ratio": 0.01,
    "belief.hidden": 16,
    "belief.subsets": 16,
    "belief.updates": 10,
    "label.segments": 6,
    "label.null_segments": 4,
    "label.match.null_windows": 20,
    "label.match.worth": 0.0,  # its fit would take longer than all else together
    "label.cem.iterations": 2,
    "label.cem.population": 16,
    "target.rounds": 3,
    "target.first_updates": 6,
    "target.realign": 2,
    "target.imagined_batch": 32,
    "target.finalists": 1,
    "target.final_episodes": 1,
    "oracle.first_updates": 2,
    "oracle.final_episodes": 1,
    "rivals.pada.hidden": 16,
    "rivals.pada.update_ratio": 0.05,
    "rivals.pada.cem.iterations": 2,
    "rivals.pada.cem.population": 16,
    "rivals.pada_model.source_updates": 5,
    "rivals.pada_model.hidden": 16,
    "rivals.pada_model.update_ratio": 0.05,
    "rivals.pada_model.cem.iterations": 2,
    "rivals.pada_model.cem.population": 16,
    "rivals.bco.update_ratio": 0.02,
    "rivals.aime.update_ratio": 0.005,
    "rivals.ot.iterations": 10,
    "rivals.temporal_ot.iterations": 10,
    "rivals.gaifo.updates": 5,
    "rivals.randomised.variants": 2,
    "evaluate.episodes": 2,
    "evaluate.curve_episodes": 2,
    "evaluate.heldout_episodes": 1,
}


class Project:
    """A copy of the project with its own DVC cache."""

    def __init__(self, folder: Path):
        self.folder = folder
        # `python` and `dvc` are this environment's, and the stages' code is the copy's.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder)}

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command of this environment; returns what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, capture_output=True, timeout=1800
        )
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def repro(self) -> set[str]:
        """`dvc repro`; returns the stages that really ran."""
        return set(re.findall(r"Running stage '(\w+)'", self.run("dvc", "repro")))

    def set(self, **values: Any) -> None:
        """Set dotted keys of params.yaml, comments kept."""
        yaml = YAML()
        content = yaml.load(self.folder / "params.yaml")
        for key, value in values.items():
            *parents, leaf = key.split(".")
            node = content
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        yaml.dump(content, self.folder / "params.yaml")

    def metrics(self) -> dict[str, Any]:
        """What the report counts."""
        return json.loads((self.folder / "reports" / "metrics.json").read_text())


def copy_project(folder: Path) -> Project:
    """What git tracks or would track, committed in a repository of its own."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    project = Project(folder)
    project.run("git", "init", "-q")
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy")
    return project

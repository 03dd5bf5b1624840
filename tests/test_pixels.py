"""Every stage, in the pipeline's order, from pixels alone, on tiny settings; and the end where nothing is rendered."""

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import telepath
from benchmarks.pixels import overrides
from benchmarks.tiny import TINY
from stages.artefacts import EXPLORATION, LABELS, SOURCE_EPISODES, TARGET_AGENT
from stages.harness import execute
from telepath.config import load
from telepath.envs.gl import find_backend
from telepath.episodes import load_arrays
from telepath.errors import UserError
from telepath.observations import SIDE
from tests.unread import unread

ROOT = Path(__file__).resolve().parents[1]
TASK = "tasks.ball_in_cup-catch"
SMALLER: dict[str, Any] = {
    "observation": "pixels",
    f"{TASK}.action_repeat": 20,
    "gap.action_repeat": 10,
    f"{TASK}.source_steps": 350,
    f"{TASK}.explore_steps": 300,
    f"{TASK}.refine_steps": 500,
    "dreamer.cnn_depth": 2,
    "label.match.worth": 1.0,
    "explore.update_ratio": 0.02,
    "target.frames": 32,
    "evaluate.curve_episodes": 1,
}
STAGES = (
    "check",
    "collect_source",
    "train_source",
    "explore_target",
    "train_belief",
    "label",
    "train_target",
    "train_oracle",
    "evaluate",
    "evaluate_oracle",
    "train_pada",
    "evaluate_pada",
    "film",
    "report",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief_worth: None) -> Path:
    """A folder with the project's code and tiny settings from pixels, the current one."""
    for variable in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("telepath", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("dvc.yaml", "costs.csv", "seeds.csv"):
        shutil.copy(ROOT / name, tmp_path)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in (TINY | SMALLER).items():
        *path, leaf = key.split(".")
        node = settings
        for part in path:
            node = node[part]
        node[leaf] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    # Other tests in this process shall not notice.
    monkeypatch.setattr("stages.harness.be_deterministic", lambda: None)
    monkeypatch.setenv("TELEPATH_THREADS", str(torch.get_num_threads()))
    return tmp_path


def run(*stages: str) -> None:
    for name in stages:
        context = execute(importlib.import_module(f"stages.{name}").main, name)
        # Where frames are observed PADA is left out, so nothing is asked of its settings.
        assert not unread(context) or name.endswith("_pada"), name


@pytest.mark.slow
@pytest.mark.usefixtures("graphics")
def test_every_stage_works_from_pixels_alone(project: Path) -> None:
    run(*STAGES)
    for path in (SOURCE_EPISODES, EXPLORATION):
        assert load_arrays(path, ["observation"])["observation"].shape[1:] == (SIDE, SIDE, 3)
    labels = load_arrays(LABELS, ["observation", "basis", "replay_rate"])
    assert labels["observation"].shape[2:] == (SIDE, SIDE, 3)
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    assert {"source_return", "telepath_return", "oracle_return", "label_correlation"} <= set(metrics)
    assert (project / "reports" / "figures" / "alignments.png").stat().st_size > 1000
    agent = telepath.load(TARGET_AGENT)
    action, state = agent.act(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert action.shape == (2,)
    assert agent.act(np.zeros((1, SIDE, SIDE, 3), np.uint8), state)[0].shape == (1, 2)
    with pytest.raises(UserError, match="expected uint8"):
        agent.act(np.zeros((SIDE, SIDE, 3)))
    with pytest.raises(UserError, match=r"shape \(8,\); expected \(64, 64, 3\) or \(B, 64, 64, 3\)"):
        agent.act(np.zeros(8, np.uint8))


def test_without_opengl_a_pixel_run_ends_at_once_in_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telepath.envs.sight._CAMERAS", {})
    monkeypatch.setattr("telepath.envs.gl.failure_of", lambda backend: "its library is missing")
    monkeypatch.delenv("TELEPATH_GL", raising=False)
    find_backend.cache_clear()
    try:
        with pytest.raises(UserError, match="apt install libosmesa6") as caught:
            run("check")
    finally:
        find_backend.cache_clear()
    assert len(str(caught.value).splitlines()) == 1
    assert not os.path.exists("data/checked.txt")


@pytest.mark.parametrize("size", ["small", "full"])
def test_the_benchmark_s_settings_are_valid(project: Path, size: str) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in overrides("walker-walk", (2, 1), size, 1).items():
        *path, leaf = key.split(".")
        node = settings
        for part in path:
            node = node[part]
        assert leaf in node, key
        node[leaf] = value
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    params = load(project / "params.yaml")
    assert params.observation == "pixels"
    assert (params.tasks["walker-walk"].action_repeat, params.gap.action_repeat) == (2, 1)

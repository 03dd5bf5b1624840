"""The folder of a run from pixels in slots holds that run and no other, and says how it was made."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import pixels
from stages.harness import Context, fingerprint, read_stage
from telepath.config import load
from telepath.runtime.store import save_state

ROOT = Path(__file__).resolve().parents[1]
SLOT = ["--minutes=600", "--size=small"]


class FakeWorkspace:
    """Has the project's files and settings; its stages write what ``makes`` says, or fail."""

    makes: dict[str, str]
    folder: Path
    code = "abc1234"

    def __init__(self, number: str, threads: int):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in ("stages", "telepath"):
            (self.folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "dvc.yaml", self.folder)
        (self.folder / ".telepath").mkdir()
        (self.folder / ".telepath" / "scratch").symlink_to(self.folder.parent / "scratch")
        seeds = self.folder / "data" / "source" / "seed_episodes.npz"
        seeds.parent.mkdir(parents=True)
        seeds.write_text("episodes")

    def begin(self, overrides: dict[str, Any]) -> None:
        settings = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in overrides.items():
            *path, leaf = key.split(".")
            node = settings
            for part in path:
                node = node[part]
            node[leaf] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(settings))

    def repro(self, target: str) -> list[str]:
        for name, text in self.makes.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        if not self.makes:
            raise RuntimeError("stopped")
        return [target]


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of runs are."""
    monkeypatch.delenv("TELEPATH_DEVICE", raising=False)
    monkeypatch.setattr(pixels, "ROOT", tmp_path)
    monkeypatch.setattr(pixels, "stop_on_signals", lambda: None)
    monkeypatch.setattr(pixels, "Workspace", FakeWorkspace)
    monkeypatch.setattr(FakeWorkspace, "folder", tmp_path / "workspace", raising=False)
    makes = {"data/source/curve.csv": "source", "data/evaluation/returns.csv": "returns"}
    monkeypatch.setattr(FakeWorkspace, "makes", makes, raising=False)
    return tmp_path / "reports" / "pixels"


def interrupted(curve: list[tuple[int, int, float, int]], name: str, folder: Path) -> None:
    """Leave a checkpoint of a source training."""
    save_state(folder / "scratch" / name / "state.safetensors", {"curve": curve}, kind="checkpoint")


def test_slots_of_one_run_are_collected(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels.main([*SLOT, "--seed=3"])
    # A report that is committed between two slots is the same run: only its code and settings count.
    monkeypatch.setattr(FakeWorkspace, "code", "def5678")
    monkeypatch.setattr(FakeWorkspace, "makes", {"reports/metrics.json": "{}"})
    pixels.main([*SLOT, "--seed=3", "--source-only"])
    out = reports / "ball_in_cup-catch-small-3"
    assert {path.name for path in out.iterdir()} == {
        "source-curve.csv",
        "evaluation-returns.csv",
        "metrics.json",
        "slots.json",
    }
    told = json.loads((out / "slots.json").read_text())
    assert told["overrides"]["seed.source"] == 3
    first, second = told["slots"]
    assert first["command"] == ["python", "-m", "benchmarks.pixels", *SLOT, "--seed=3"]
    assert second["command"][-1] == "--source-only"
    assert (first["commit"], second["commit"]) == ("abc1234", "def5678")
    assert {"device", "threads", "seconds"} <= set(first)


def test_what_another_run_left_goes(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels.main(SLOT)
    monkeypatch.setattr(FakeWorkspace, "makes", {"data/target/rounds.csv": "rounds"})
    monkeypatch.setitem(pixels.COMMON, "evaluate.episodes", 11)
    pixels.main(SLOT)
    out = reports / "ball_in_cup-catch-small-0"
    assert {path.name for path in out.iterdir()} == {"target-rounds.csv", "slots.json"}
    assert len(json.loads((out / "slots.json").read_text())["slots"]) == 1


def test_seeds_and_rates_have_folders_of_their_own(reports: Path) -> None:
    for more in ([], ["--seed=1"], ["--repeats", "9", "3"]):
        pixels.main([*SLOT, *more])
    assert {path.name for path in reports.iterdir()} == {
        f"ball_in_cup-catch-small-{end}" for end in ("0", "1", "0-9-3")
    }


def test_an_unfinished_curve_is_this_run_s(reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = FakeWorkspace("pixels", 1)
    workspace.begin(pixels.overrides("ball_in_cup-catch", (6, 3), "small", 0))
    with monkeypatch.context() as there:
        there.chdir(workspace.folder)
        params = load()
        stage = read_stage("train_source", params)
        name = Context(stage, fingerprint(stage, params)).name
    monkeypatch.setattr(FakeWorkspace, "makes", {})
    interrupted([(9, 9, 9.0, 0)], "train_source-0123456789abcdef", tmp_path)
    with pytest.raises(SystemExit, match="stopped"):
        pixels.main(SLOT)
    out = reports / "ball_in_cup-catch-small-0"
    assert not (out / "source-curve.csv").exists(), "another's checkpoint, though the newest"
    interrupted([(5, 2, 1.0, 0)], name, tmp_path)
    interrupted([(9, 9, 9.0, 0)], "train_source-0123456789abcdef", tmp_path)
    with pytest.raises(SystemExit, match="stopped"):
        pixels.main(SLOT)
    assert (out / "source-curve.csv").read_text().splitlines()[1].startswith("5,2,1")
    assert len(json.loads((out / "slots.json").read_text())["slots"]) == 2


def test_a_gpu_gets_dreamer_s_sizes(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telepath.runtime.device.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(pixels.torch.cuda, "get_device_name", lambda device: "some GPU")
    pixels.main(["--minutes=600"])
    told = json.loads((reports / "ball_in_cup-catch-full-0" / "slots.json").read_text())
    assert told["slots"][0]["device"] == "some GPU"

"""Costs belong to files: shown for those that were measured, and for no others."""

from pathlib import Path

import pandas as pd
import pytest

from stages import costs
from stages.harness import fingerprint, home, read_stage
from telepath.config import load
from telepath.runtime.ledger import LEDGER, session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's settings and code, files that stages made, and an empty table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("telepath", "stages", "params.yaml", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in [*costs.MADE.values(), Path("data/checked.txt"), Path("data/source/episodes.npz")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made {path}")
    for name in ("exploration.npz", "labels.npz"):
        (tmp_path / "data" / "target" / name).write_text(name)
    costs.COSTS.write_text("stage,made,minutes,mebibytes\n")
    return tmp_path


def take(stage: str, *, done: bool = True) -> None:
    params = load()
    try:
        with session(home() / LEDGER, stage, fingerprint(read_stage(stage, params), params)):
            if not done:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def test_what_was_measured_is_shown_for_the_files_it_made(workspace: Path) -> None:
    assert costs.read_costs() == {}
    take("train_oracle", done=False)
    take("train_oracle")
    take("collect_source")
    costs.main()
    assert set(costs.read_costs()) == {"collect_source", "train_oracle"}
    assert costs.read_costs()["train_oracle"].mebibytes > 20
    costs.MADE["train_oracle"].write_text("another agent")
    assert set(costs.read_costs()) == {"collect_source"}


def test_what_was_measured_elsewhere_stays(workspace: Path) -> None:
    take("train_oracle")
    costs.main()
    before = costs.COSTS.read_text()
    (home() / LEDGER).unlink()
    costs.main()
    assert costs.COSTS.read_text() == before
    take("train_belief")
    costs.main()
    assert pd.read_csv(costs.COSTS)["stage"].tolist() == ["train_belief", "train_oracle"]


def test_a_run_with_other_settings_is_not_taken_for_this_one(workspace: Path) -> None:
    take("train_oracle")
    settings = (workspace / "params.yaml").read_text().replace("target: 0", "target: 1")
    (workspace / "params.yaml").unlink()
    (workspace / "params.yaml").write_text(settings)
    assert load().seed.target == 1
    costs.main()
    assert costs.read_costs() == {}

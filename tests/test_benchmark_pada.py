"""The reproduction of PADA runs, keeps its source and its curves, and counts what it says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import pada
from telepath.config import Params
from telepath.envs.gaps import requested
from telepath.settings import DreamerSettings, GapSettings


@pytest.fixture
def quick(params: Params, small: DreamerSettings) -> Params:
    online = {"first_updates": 2, "update_ratio": 0.01, "finalists": 1, "final_episodes": 1}
    source = params.source.model_copy(
        update={"seed_episodes": 1, "training": params.source.training.model_copy(update=online)}
    )
    task = params.tasks[pada.TASK].model_copy(update={"action_repeat": 50, "source_steps": 60})
    cem = params.rivals.pada.cem.model_copy(update={"iterations": 1, "population": 4})
    adapted = {"cem": cem, "hidden": 8, "first_steps": 20, "batch": 8, "update_ratio": 0.2}
    rivals = params.rivals.model_copy(update={"pada": params.rivals.pada.model_copy(update=adapted)})
    return params.model_copy(update={"source": source, "tasks": {pada.TASK: task}, "dreamer": small, "rivals": rivals})


@pytest.mark.parametrize("name", pada.GAPS)
def test_a_gap_is_one_that_the_cheetah_has(name: str) -> None:
    gap = GapSettings(action_repeat=4, **pada.GAPS[name])  # type: ignore[arg-type]
    assert requested(pada.TASK, gap).keys() == {key for key in pada.GAPS[name] if key != "action_noise"}


def test_it_runs_and_does_not_run_again(
    quick: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pada, "load", lambda path: quick)
    monkeypatch.setattr(pada, "EPISODES", 1)
    arguments = ["--steps", "100", "--out", str(tmp_path / "out"), "--keep", str(tmp_path / "keep"), "--gaps"]
    pada.main([*arguments, "mass 1.5"])
    assert "mass 1.5" in capsys.readouterr().out
    curve = pd.read_csv(tmp_path / "out" / "mass-1.5__0.csv")
    assert curve["steps"].tolist() == [0, 100]
    assert len(list((tmp_path / "keep").iterdir())) == 2, "the agent and its episodes, no scratch"

    def no_more(*_: object, **__: object) -> None:
        raise AssertionError("a second run")

    monkeypatch.setattr(pada, "source_training", no_more)
    pada.main([*arguments, "mass 1.5", "gravity 0.5"])
    monkeypatch.setattr(pada, "measure", no_more)
    pada.main([*arguments, "mass 1.5", "gravity 0.5"])
    with pytest.raises(AssertionError, match="a second run"):
        pada.main([*arguments, "mass 1.5", "--steps", "120"])
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert table["gap"].tolist() == ["mass 1.5", "gravity 0.5"]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_the_summary_counts_in_shares_of_the_source() -> None:
    curve = pd.DataFrame(
        {"steps": [0, 1000, 2000, 3000], "return": [100.0, 390, 400, 350], "source": 500.0, "deviation": np.nan}
    ).assign(code="abc")
    (row,) = pada.summary({("mass 1.5", 0): curve}).to_dict("records")
    assert row == {
        "gap": "mass 1.5",
        "seed": 0,
        "source": 500,
        "unadapted": 0.2,
        "adapted": 0.7,
        "steps": 3000,
        "steps to 0.8": 2000,
        "published": "0.95",
        "code": "abc",
    }
    (row,) = pada.summary({("mass 1.5", 0): curve.iloc[:2]}).to_dict("records")
    assert pd.isna(row["steps to 0.8"])

"""Runs with other seeds: shown beside the run that they belong to, and beside no other."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import seeds
from stages.harness import dvc_hash
from telepath.config import Params
from telepath.errors import UserError
from telepath.evaluation.findings import AGENTS

ROOT = Path(__file__).resolve().parents[2]
RETURNS = {f"{agent}_return": 100.0 * number for number, agent in enumerate(AGENTS)}


@pytest.fixture
def workspace(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # settings are read first
    """An evaluation that dvc has recorded, its metrics, and the project's empty table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / seeds.SEEDS).write_text((ROOT / seeds.SEEDS).read_text().partition("\n")[0] + "\n")
    seeds.EVALUATION.mkdir(parents=True)
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\n")
    (tmp_path / seeds.RECORD).write_text(record(dvc_hash(seeds.EVALUATION)))
    seeds.METRICS.parent.mkdir()
    seeds.METRICS.write_text(json.dumps(RETURNS))
    return tmp_path


def record(made: str) -> str:
    """A dvc.lock."""
    return yaml.safe_dump({"stages": {"evaluate": {"outs": [{"path": "data/evaluation", "md5": made}]}}})


def test_rows_of_the_same_settings_are_shown(workspace: Path, params: Params) -> None:
    assert seeds.read_seeds().empty
    seeds.keep(seeds.of_workspace(params, "a" * 40))
    for seed in (2, 1):
        other = seeds.row(seeds.seeded(params, seed), record(f"made {seed}"), json.dumps(RETURNS), "b" * 40)
        seeds.keep(other)
    seeds.keep(other)
    found = seeds.read_seeds()
    assert found[["seed_source", "seed_target"]].to_numpy().tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found["telepath"].tolist() == 3 * [RETURNS["telepath_return"]]
    assert found["commit"].tolist() == ["a" * 40, "b" * 40, "b" * 40]
    assert len(pd.read_csv(seeds.SEEDS)) == 3


def test_rows_of_other_settings_or_another_run_are_not(workspace: Path, params: Params) -> None:
    seeds.keep(seeds.of_workspace(params, "a" * 40))
    other = params.model_copy(update={"setting": "trajectories only"})
    seeds.keep(seeds.row(seeds.seeded(other, 1), record("made elsewhere"), json.dumps(RETURNS), "a" * 40))
    assert seeds.read_seeds()["seed_target"].tolist() == [0]
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\nother,1\n")
    assert seeds.read_seeds().empty


def test_an_agent_that_not_all_have_is_left_out(workspace: Path, params: Params) -> None:
    none = json.dumps(RETURNS | {"pada_return": None})
    seeds.keep(seeds.of_workspace(params, "a" * 40))
    seeds.keep(seeds.row(seeds.seeded(params, 1), record("made 1"), none, "a" * 40))
    assert "pada" not in seeds.read_seeds()
    assert "oracle" in seeds.read_seeds()


def test_a_run_that_is_not_up_to_date_is_refused(workspace: Path, params: Params) -> None:
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\nother,1\n")
    with pytest.raises(UserError, match=r"metrics\.json: belongs to no run that is up to date; run `make repro` first"):
        seeds.of_workspace(params, "a" * 40)
    (workspace / seeds.RECORD).unlink()
    with pytest.raises(UserError, match="run `make repro` first"):
        seeds.of_workspace(params, "a" * 40)


@pytest.mark.parametrize("text", ["", "made\n1\n", ",".join([*seeds.RUN, *seeds.JUDGED]) + "\na,b,0,0,c,1,2,3,inf\n"])
def test_a_damaged_table_is_named(workspace: Path, text: str) -> None:
    (workspace / seeds.SEEDS).write_text(text)
    with pytest.raises(UserError, match=r"^seeds\.csv: "):
        seeds.read_seeds()


@pytest.mark.parametrize("text", ["-1", "one", "1.5", "9" * 10])
def test_what_is_no_seed_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        seeds.main([text])
    assert "is no seed: a whole number" in capsys.readouterr().err

"""Runs with other seeds: shown beside the run that they belong to, and beside no other."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import seeds
from stages.harness import dvc_hash
from telepath.config import Params
from telepath.errors import UserError
from telepath.evaluation.findings import AGENTS

HEADER = ",".join([*seeds.RUN, *AGENTS])
RETURNS = {f"{agent}_return": 100.0 * number for number, agent in enumerate(AGENTS)}


@pytest.fixture
def workspace(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # settings are read first
    """An evaluation that dvc has recorded, its metrics, and the project's empty table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "load", lambda path: params)
    monkeypatch.setattr(seeds, "head", lambda: "a" * 40)
    (tmp_path / seeds.SEEDS).write_text(f"{HEADER}\n")
    seeds.EVALUATION.mkdir(parents=True)
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\n")
    (tmp_path / seeds.RECORD).write_text(record(dvc_hash(seeds.EVALUATION)))
    seeds.METRICS.parent.mkdir()
    seeds.METRICS.write_text(json.dumps(RETURNS))
    return tmp_path


def seeded(params: Params, seed: int) -> Params:
    """The settings with this seed on both sides."""
    return params.model_copy(update={"seed": params.seed.model_copy(update={"source": seed, "target": seed})})


def record(made: str) -> str:
    """A dvc.lock."""
    return yaml.safe_dump({"stages": {"evaluate": {"outs": [{"path": "data/evaluation", "md5": made}]}}})


def test_rows_of_the_same_settings_are_shown(workspace: Path, params: Params) -> None:
    assert seeds.read_seeds().empty
    seeds.keep(seeds.of_workspace())
    for seed in (2, 1):
        other = seeds.row(seeded(params, seed), record(f"made {seed}"), json.dumps(RETURNS), "b" * 40)
        seeds.keep(other)
    seeds.keep(other)
    found = seeds.read_seeds()
    assert found[["seed_source", "seed_target"]].to_numpy().tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found["telepath"].tolist() == 3 * [RETURNS["telepath_return"]]
    assert found["commit"].tolist() == ["a" * 40, "b" * 40, "b" * 40]
    assert len(pd.read_csv(seeds.SEEDS)) == 3


def test_rows_of_other_settings_or_another_run_are_not(workspace: Path, params: Params) -> None:
    seeds.keep(seeds.of_workspace())
    other = params.model_copy(update={"setting": "trajectories only"})
    seeds.keep(seeds.row(seeded(other, 1), record("made elsewhere"), json.dumps(RETURNS), "a" * 40))
    assert seeds.read_seeds()["seed_target"].tolist() == [0]
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\nother,1\n")
    assert seeds.read_seeds().empty


def test_an_agent_that_not_all_have_is_left_out(workspace: Path, params: Params) -> None:
    none = json.dumps(RETURNS | {"pada_return": None})
    seeds.keep(seeds.of_workspace())
    seeds.keep(seeds.row(seeded(params, 1), record("made 1"), none, "a" * 40))
    assert "pada" not in seeds.read_seeds()
    assert "oracle" in seeds.read_seeds()


def test_a_run_that_is_not_up_to_date_is_refused(workspace: Path, params: Params) -> None:
    (seeds.EVALUATION / "returns.csv").write_text("agent,return\nother,1\n")
    with pytest.raises(UserError, match=r"metrics\.json: belongs to no run that is up to date; run `make repro` first"):
        seeds.of_workspace()
    (workspace / seeds.RECORD).unlink()
    with pytest.raises(UserError, match="run `make repro` first"):
        seeds.of_workspace()


SOUND = "p1,made,0,0,c,1,2,3,4,5,6,7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "made\n1\n",
        f"{HEADER}\np1,made,0,0,c,1,2,3,4,5,6,inf\n",
        f"{HEADER}\np1,made,0,0,c,1,2,3,4,abc,6,7\n",
        f"{HEADER}\np1,made,0.5,0,c,1,2,3,4,5,6,7\n",
        f"{HEADER}\np1,made,-3,0,c,1,2,3,4,5,6,7\n",
        f"{HEADER}\n{SOUND}\n{SOUND}\n",
        f"{HEADER.replace('oracle', 'pada')}\n{SOUND}\n",
    ],
)
def test_a_damaged_table_is_named(workspace: Path, text: str) -> None:
    (workspace / seeds.SEEDS).write_text(f"{HEADER}\n{SOUND}\n")
    assert seeds.read_seeds().empty
    (workspace / seeds.SEEDS).write_text(text)
    with pytest.raises(UserError, match=r"^seeds\.csv: .*; `make repro` puts the committed one in its place"):
        seeds.read_seeds()


@pytest.mark.parametrize("text", ["-1", "one", "1.5", "9" * 10, ""])
def test_what_is_no_seed_is_refused_before_anything_runs(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        seeds.main(["1", text])
    assert ended.value.code == 1
    assert "is no seed: give whole numbers" in capsys.readouterr().err


def test_whoever_is_stopped_takes_the_experiment_along(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = workspace / "started"
    code = f"import time; open({str(started)!r}, 'w').close(); time.sleep(60)"
    alarm = threading.Thread(target=lambda: (wait_for(started), os.kill(os.getpid(), signal.SIGINT)))
    alarm.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        seeds.run(sys.executable, "-c", code)
    alarm.join()
    assert time.monotonic() - begin < 50


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


def test_programs_that_are_not_there_are_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^git log: .*; this needs a clone with a commit$"):
        seeds.git("log")  # of no repository
    monkeypatch.setenv("PATH", str(workspace))
    with pytest.raises(UserError, match=r"^git: No such file or directory; "):
        seeds.git("log")
    with pytest.raises(UserError, match=r"^dvc: No such file or directory; "):
        seeds.run("dvc")

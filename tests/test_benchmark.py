"""The benchmark's cells are transfers that exist, and its tables count what they say."""

import json
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import benchmarks.grid as grid_module
from benchmarks import dreamer, dtw, labelling, redraw, rivals, updates
from benchmarks.bars import bars, scores, stability
from benchmarks.cells import ABLATIONS, BESIDE, EXTRA, GAPS, ORACLES, RATES, SETTINGS, Cell, grid, planned
from benchmarks.grid import Job, plan
from benchmarks.plain import torch_loop
from benchmarks.shares import Stopwatch
from benchmarks.table import COLUMNS, ablations, page, results, rounds
from telepath.alignment.diagonals import dtw_tensors
from telepath.config import Params
from telepath.envs.gaps import target_environment
from telepath.evaluation.rivals import LABELLED

EVERY = [*grid(RATES, [*GAPS, EXTRA[1]], SETTINGS[:1], [0])]


def settings_of(cell: Cell) -> Params:
    """params.yaml with the cell's changes, validated."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in cell.overrides().items():
        *path, leaf = key.split(".")
        node = content
        for part in path:
            node = node[part]
        assert leaf in node, key
        node[leaf] = value
    return Params.model_validate(content)


def test_the_grid_is_three_tasks_six_gaps_and_one_more() -> None:
    assert len(EVERY) == len({cell.name for cell in EVERY}) == 3 * 6 + 1
    sources = [job for job in plan(EVERY).values() if job.target == "train_source"]
    assert len(sources) == 4, "one source a task, and one for the extra row's rate"


def test_what_is_planned_is_run_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(grid_module, "run_all", lambda jobs, *_: ran.extend(jobs))
    monkeypatch.setattr(grid_module, "Workspace", lambda *_: None)
    monkeypatch.setattr(grid_module, "stop_on_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["grid"])
    grid_module.main()
    cells = list(planned())
    assert len(set(cells)) == len(cells)
    assert {cell.name for cell in cells} <= set(ran)
    counts = Counter(cell.setting for cell in cells)
    assert {name: counts[name] for name in (*SETTINGS, *ORACLES)} == dict(
        zip((*SETTINGS, *ORACLES), (19 * 3, 6 * 3, 6 * 3, 18), strict=True)
    )
    assert {counts[name] for name in ABLATIONS} == {2 * 2}
    ran.clear()
    monkeypatch.setattr(sys, "argv", ["grid", "--seeds", "1", "--tasks", "walker-walk"])
    grid_module.main()
    assert {cell.name for cell in grid(["walker-walk"], GAPS, SETTINGS[:1], [1])} <= set(ran)
    assert not any(ORACLES[0] in name for name in ran)


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: cell.name)
def test_a_cell_is_a_gap_that_applies(cell: Cell) -> None:
    params = settings_of(cell)
    environment = target_environment(params.task, params.gap, 0, rewarded=False)
    assert environment.action_repeat == params.gap.action_repeat
    if cell.gap.startswith("rate"):
        assert params.gap.action_repeat < params.tasks[params.task].action_repeat
    else:
        assert params.gap.action_repeat == params.tasks[params.task].action_repeat
        assert sum(value != 1.0 for name, value in params.gap if name in ("mass", "gravity", "gear")) == 1


def test_rivals_are_a_cell_each_and_come_after_what_they_share() -> None:
    jobs = plan(Cell("walker-walk", "mass 1.5", setting, 0) for setting in BESIDE)
    assert [job.target for job in jobs.values()][:3] == ["train_source", "label", "evaluate"]
    source, labels, *_ = jobs
    stages = yaml.safe_load(Path("rivals/dvc.yaml").read_text())["stages"]
    names = [f"rivals/dvc.yaml:evaluate_rival@{name}" for name in stages["evaluate_rival"]["matrix"]["rival"]]
    targets = ["train_source", "label", "evaluate", "evaluate_oracle", "evaluate_pada", *names]
    assert sorted(targets) == sorted(job.target for job in jobs.values())
    after = {job.cell.setting: job.after for name, job in jobs.items() if name not in (source, labels)}
    assert all(after[name] == {source, labels} for name in (SETTINGS[0], *stages["train_labelled"]["matrix"]["rival"]))
    assert all(after[name] == {source} for name in ("pada", "bco", "aime", "pada_model"))
    assert all(not after[name] for name in ("oracle", *stages["train_online"]["matrix"]["rival"]))
    assert jobs[labels] == Job(Cell("walker-walk", "mass 1.5", SETTINGS[0], 0), "label", frozenset([source]))


@pytest.mark.parametrize("settings", [BESIDE, [*SETTINGS, *ABLATIONS]])
def test_no_two_jobs_that_run_side_by_side_run_the_same_stage(settings: Iterable[str]) -> None:
    jobs = plan(Cell("walker-walk", "mass 1.5", setting, seed) for seed in (0, 1) for setting in settings)
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    producers = {
        output if isinstance(output, str) else next(iter(output)): name
        for name, stage in pipeline.items()
        for output in stage.get("outs", [])
    }

    def ancestry(stage: str) -> set[str]:
        found = {producers[dep] for dep in pipeline[stage]["deps"] if dep in producers} - {"check"}
        return {stage}.union(*map(ancestry, found))

    def inputs(stage: str, params: Params) -> str:
        values = params.model_dump(mode="json")
        keys = {key for name in ancestry(stage) for key in pipeline[name].get("params", [])}
        return f"{stage} {[(key, reach(values, key.replace('${task}', params.task))) for key in sorted(keys)]}"

    makers: dict[str, set[str]] = {}
    for name, job in jobs.items():
        apart = "label" if job.cell.setting in LABELLED else "train_source" if job.cell.has_source else "check"
        for stage in ancestry(job.target if job.target in pipeline else apart) & TRAININGS:
            makers.setdefault(inputs(stage, settings_of(job.cell)), set()).add(name)
    for stage, names in makers.items():
        first = {name for name in names if not jobs[name].after & names}
        assert len(first) == 1, f"{stage} is made by {first} at once"


TRAININGS = {"collect_source", "train_source", "explore_target", "train_belief", "label", "train_target"}


def reach(values: Any, key: str) -> Any:
    """What a dotted key leads to."""
    for part in key.split("."):
        values = values[part]
    return values


def test_jobs_run_in_their_order_after_those_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan(Cell("walker-walk", "mass 1.5", setting, seed) for seed in (0, 1) for setting in BESIDE)
    begun: list[str] = []

    def work(name: str, job: Job, workspaces: Any) -> str:
        begun.append(name)
        return name

    monkeypatch.setattr(grid_module, "work", work)
    assert grid_module.run_all(jobs, SimpleQueue(), 1) == []
    oracle = Cell("walker-walk", "mass 1.5", "oracle", 0).name
    assert begun.index(oracle) == 3, "source, labels and Telepath before it"
    assert begun == list(jobs)


def test_what_comes_after_a_failure_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = plan(Cell("walker-walk", "mass 1.5", setting, 0) for setting in BESIDE)
    begun: list[str] = []

    def work(name: str, job: Job, workspaces: Any) -> str:
        begun.append(name)
        if job.target == "label":
            raise KeyError("no luck")  # of whatever kind it is, the others go on
        return name

    monkeypatch.setattr(grid_module, "work", work)
    failed = grid_module.run_all(jobs, SimpleQueue(), 2)
    (labels,) = [name for name, job in jobs.items() if job.target == "label"]
    assert set(failed) == {labels} | {name for name, job in jobs.items() if labels in job.after}
    assert len(failed) == 7
    assert set(begun) == set(jobs) - set(failed) | {labels}
    told = capsys.readouterr().out
    assert f"{labels}: FAILED: 'no luck'" in told
    assert f"not tried, for want of the {labels}" in told


def test_a_cell_that_comes_out_of_the_cache_keeps_its_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "CELLS", tmp_path)
    cell = Cell("walker-walk", "mass 1.5", "oracle", 0)
    told = {"code": "a", "returns": {"oracle": [1.0]}, "stage_minutes": {"train_oracle": 3.0}}
    for later, minutes in (
        ({**told, "code": "b", "stage_minutes": {}}, {"train_oracle": 3.0}),
        ({**told, "code": "c", "returns": {"oracle": [2.0]}, "stage_minutes": {}}, {}),
    ):
        grid_module.record(cell, dict(told))
        grid_module.record(cell, later)
        found = json.loads((tmp_path / f"{cell.name}.json").read_text())
        assert (found["code"], found["stage_minutes"], found["seed"]) == (later["code"], minutes, 0)


def finished(seed: int, setting: str, telepath: float, true: list[float], **more: Any) -> dict[str, Any]:
    steps = [
        {"round": n, "steps": 10 * n, "inferred_return": value, "score": value, "return": value, "shipped": int(n == 1)}
        for n, value in enumerate(true)
    ]
    returns = {"source": [800.0, 800.0], "random": [20.0], "zero_shot": [400.0], "telepath": [telepath] * 2}
    key = {
        "task": "walker-walk",
        "gap": "mass 1.5",
        "setting": setting,
        "seed": seed,
        "stage_minutes": {"train_oracle": 3.0},
        "code": "abc1234",
    }
    return key | {"target_steps": 100, "returns": returns, "rounds": steps} | more


def test_two_benchmarks_do_not_share_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "SHARED", tmp_path)
    lock = tmp_path / "benchmark" / "worker-0.lock"
    program = f"""
import time
from pathlib import Path
from telepath.runtime.resume import acquire
acquire(Path({str(lock)!r}))
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=grid_module.ROOT) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SystemExit, match=rf"process {other.pid} is at work on the benchmark's worker-0; wait"):
            grid_module.Workspace(0, 1)
        other.kill()
    assert not (tmp_path / "benchmark" / "worker-0").exists()


def test_shares_and_stability_are_of_the_same_seed() -> None:
    cells = [
        finished(0, SETTINGS[0], 400.0, [100.0, 500.0, 400.0]),
        finished(1, SETTINGS[0], 800.0, [800.0, 600.0, 1000.0]),
        {**finished(0, "oracle", 0.0, []), "returns": {"oracle": [500.0]}},
        {**finished(0, "converged oracle", 0.0, []), "returns": {"oracle": [1000.0]}},
    ]
    cells[2].pop("rounds")
    cells[3].pop("rounds")
    table, diary = results(cells), rounds(cells)
    scored = scores(table, SETTINGS[0])
    assert scored["over source"].tolist() == [0.5, 1.0]
    assert scored["over oracle"].tolist() == pytest.approx([0.8, np.nan], nan_ok=True), "the other seed has no oracle"
    assert scored["over converged"].tolist() == [0.4, 0.8]
    assert scored["normalised"].tolist() == pytest.approx([(400 - 20) / (800 - 20), 1.0])
    assert scored["closure"].tolist() == pytest.approx([0.0, np.nan], nan_ok=True)
    assert scored["converged closure"].tolist() == pytest.approx([0.0, 2 / 3])
    held = stability(diary)
    np.testing.assert_allclose(held["held"], [0.8, 1.0])
    np.testing.assert_allclose(held["shipped"], [1.0, 0.6])
    text = page(table, diary)
    assert "| walker-walk | mass 1.5 | 800 (2) |" in text
    assert "| with source agent | 1 | abc1234 | 800 **600** 1000 |" in text
    assert all(title in text for title in COLUMNS.values())


def test_bars_are_met_by_what_meets_them() -> None:
    fine = [finished(seed, SETTINGS[0], 780.0, [700.0, 800.0, 790.0]) for seed in (0, 1)]
    harmed = [finished(0, SETTINGS[0], 300.0, [700.0, 300.0, 100.0], gap="gravity")]
    poor = {**finished(0, "oracle", 0.0, [], gap="gravity"), "returns": {"oracle": [500.0]}}
    able = {**finished(0, "converged oracle", 0.0, [], gap="gravity"), "returns": {"oracle": [700.0]}}
    for cell in (poor, able):
        cell.pop("rounds")

    def met(*cells: dict[str, Any]) -> dict[str, bool | None]:
        told = bars(results(list(cells)), rounds(list(cells)))
        return {bar.asked: bar.met for whose, bar in told if whose == SETTINGS[0]}

    good = met(*fine)
    unknown = [name for name, value in good.items() if value is None]
    assert unknown == [
        "at most 15 minutes of a core, of whatever kind",
        "0.75 of the source in every cell where an oracle has as much",
        "0.75 of the source in cells where no oracle was seen to have as much",
        "the oracle's return at the same steps, on the mean",
        "beats action hold where that loses more than 15%",
        "never more than 5% below action hold",
    ]
    assert all(value is not False for value in good.values())
    bad = met(*fine, *harmed, poor)
    assert not any(bad[name] for name in good if name.startswith(("0.9", "beats zero", "never", "within", "ships")))
    able_where = unknown[1]
    assert bad[able_where] is None, "nobody has it under gravity"
    assert "1 of 2; walker-walk, gravity: 0.38, oracle 0.62" in page(
        results(cells := [*fine, *harmed, poor]), rounds(cells)
    )
    assert met(*fine, *harmed, able)[able_where] is False


def test_each_setting_is_measured_by_its_own_source() -> None:
    old = {**finished(0, SETTINGS[0], 720.0, [1.0]), "returns": {"source": [800.0], "telepath": [720.0]}}
    new = {**finished(0, SETTINGS[1], 380.0, [1.0]), "returns": {"source": [400.0], "telepath": [380.0]}}
    table = results([old, new])
    assert [scores(table, setting)["over source"].tolist() for setting in SETTINGS] == [[0.9], [0.95]]


def test_an_ablation_stands_beside_the_whole_of_the_same_cell() -> None:
    whole = finished(0, SETTINGS[0], 900.0, [100.0, 900.0, 900.0, 900.0])
    alone = finished(1, SETTINGS[0], 100.0, [100.0, 900.0, 900.0, 900.0])
    without = finished(0, "no beginnings", 400.0, [100.0, 500.0, 400.0, 300.0])
    stranger = finished(0, "labels of real replay alone", 400.0, [1.0, 2.0, 3.0], source="another")
    oracle = {**finished(0, "oracle", 0.0, []), "returns": {"oracle": [500.0]}}
    oracle.pop("rounds")
    elsewhere = finished(0, SETTINGS[0], 900.0, [1.0, 2.0, 3.0], gap="gravity")
    text = ablations([whole, alone, without, stranger, oracle, elsewhere])
    assert "| what is changed | walker-walk, mass 1.5 |\n" in text
    assert "| nothing | 900, 900 (0) |" in text
    assert "| no beginnings | 400, 400 (0) |" in text
    assert "| labels of real replay alone | – |" in text, "it begins with another source"
    assert "| random exploration | – |" in text


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_settings_that_there_are(name: str) -> None:
    plain, changed = (settings_of(Cell("walker-walk", "mass 1.5", setting, 0)) for setting in (SETTINGS[0], name))
    assert changed != plain
    assert changed.setting == plain.setting == SETTINGS[0]


def test_a_rival_s_seeds_steps_and_minutes_are_its_own(tmp_path: Path) -> None:
    def cell(setting: str, seed: int, returns: dict[str, list[float]], steps: int, **more: Any) -> dict[str, Any]:
        key = {"task": "walker-walk", "gap": "mass 1.5", "setting": setting, "seed": seed, "code": "abc"}
        stages = {"explore_target": 1.0, "train_belief": 0.5, "label": 0.5, "train_target": 4.0, "train_pada": 1.5}
        stages["train_oracle"] = 7.5
        return key | {"returns": returns, "target_steps": steps, "stage_minutes": stages} | more

    def oracle(gap: str, seed: int) -> dict[str, Any]:
        return cell("oracle", seed, {"oracle": [500.0]}, 95, gap=gap)

    transfers = [
        cell(SETTINGS[0], seed, {"telepath": [700.0, 900.0], "zero_shot": [100.0, 100.0]}, 90, source="a")
        for seed in (0, 1)
    ]
    adapted = [
        cell("pada", seed, {"pada": [value, value]}, 80, source=source)
        for seed, value, source in ((0, 100.0, "a"), (1, 300.0, "b"))
    ]
    rows = rivals.results([oracle("mass 1.5", 0), oracle("mass 1.5", 7), oracle("gravity", 0), *transfers, *adapted])
    assert set(rows["gap"]) == {"mass 1.5"}, "an oracle beside which there are no rivals"
    assert rows[rows["agent"] == "oracle"][["return", "steps", "minutes"]].to_numpy().tolist() == [[500, 95, 7.5]]
    assert rows[rows["agent"] == "pada"]["return"].tolist() == [100, 300]
    assert rows[rows["agent"] == "pada"]["minutes"].tolist() == [1.5, 1.5]
    assert rows[rows["agent"] == "telepath"]["minutes"].tolist() == [6, 6], "exploration and labels are its own"
    assert rows[rows["agent"] == "zero_shot"][["steps", "minutes"]].isna().all(axis=None)
    text = rivals.page(rows, {"pada": "the simulator"})
    assert "| PADA | 200 | – | 100 to 300 | 2 | 80 | 1.5 | the simulator |" in text
    assert "Code: commit abc." in text
    assert "Not all runs of seed 1 are known to begin with the same source agent" in text
    assert text.index("| PADA |") < text.index("**Telepath**") < text.index("| oracle, same steps | 500 |")
    assert "The source's steps differ" not in text
    assert "Not run, so that their means are over other seeds: oracle, same steps: seed 1." in text
    assert "Ships the source's policy, as it is or held: PADA (seed 0)." in text, "which zero-shot's row is not told of"
    rivals.draw(rows, tmp_path / "rivals.png")
    assert (tmp_path / "rivals.png").stat().st_size > 1000


def test_the_rivals_table_says_who_took_longer_than_telepath_and_where_seeds_are_of_other_budgets() -> None:
    minutes = {"source": 10.0, "telepath": 6.0, "pada": 7.0, "bco": 5.0, "darc": 15.0, "randomised": 17.0}
    rows = pd.DataFrame(
        [
            ("cup", "mass", seed, agent, 1.0, 9.0, took, "a", None, "abc")
            for seed in (0, 1)
            for agent, took in minutes.items()
        ],
        columns=["task", "gap", "seed", "agent", "return", "steps", "minutes", "source", "source_steps", "code"],
    )
    assert rivals.slower(rows).endswith(
        "(seed 0, 1): PADA 17.0 of 16.0 minutes (seed 0); domain randomisation 17.0 of 16.0 minutes (seed 0); "
        "PADA 17.0 of 16.0 minutes (seed 1); domain randomisation 17.0 of 16.0 minutes (seed 1)."
    ), "DARC is through before Telepath, whose source agent it does without"
    assert rivals.slower(rows[rows["agent"].isin(["source", "telepath", "bco"])]).endswith("(seed 0, 1): nobody.")
    assert "was not measured" in rivals.slower(rows[rows["agent"] != "source"])
    rows.loc[rows["agent"] == "telepath", "source_steps"] = [9000.0, 12000.0]
    assert [*rivals.unlike_budgets(rows)] == [
        "The source's steps differ between seeds: 9,000 (seed 0); 12,000 (seed 1). So a mean over them is one of two "
        "settings."
    ]


def test_what_is_committed_can_be_drawn_again(tmp_path: Path) -> None:
    for folder, names in {
        "benchmark": ("results.csv", "rounds.csv"),
        "benchmarks": ("dtw.csv", "labelling.csv", "labelling-scale.csv", "updates.csv"),
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copy(grid_module.ROOT / "reports" / folder / name, tmp_path / folder)
    curves = grid_module.ROOT / "reports" / "benchmarks" / "dreamer"
    shutil.copytree(curves, tmp_path / "benchmarks" / "dreamer", ignore=shutil.ignore_patterns("*.png"))
    redraw.main(["--measured", str(tmp_path / "benchmarks"), "--grid", str(tmp_path / "benchmark")])
    drawn = {
        path.relative_to(tmp_path).as_posix(): struct.unpack(">I", path.read_bytes()[16:20])[0]
        for path in tmp_path.rglob("*.png")
    }
    measured = [f"benchmarks/{name}.png" for name in ("dreamer/curves", "dtw", "labelling", "updates")]
    assert drawn == dict.fromkeys(["benchmark/curves.png", *measured], 1280)


def test_time_to_return_is_the_first_judgement_at_the_goal(tmp_path: Path) -> None:
    header = "seconds,steps,updates,return\n"
    (tmp_path / "walker-walk-0.csv").write_text(header + "60,100,250,799\n120,200,500,801\n180,300,750,790\n")
    (tmp_path / "walker-walk-1.csv").write_text(header + "120,100,250,811\n")
    (tmp_path / "cheetah-run-5.csv").write_text(header + "60,100,250,10\n")
    table = dreamer.summary(tmp_path).set_index(["task", "seed"])
    assert table.index.tolist() == [("walker-walk", seed) for seed in ("0", "1", "mean")] + [("cheetah-run", "5")]
    assert table[["minutes", "steps"]].to_numpy().tolist()[:3] == [[2.0, 200], [2.0, 100], [1.5, 100]]
    assert table[["best", "last"]].to_numpy().tolist() == [[801, 790], [811, 811], [805, 805], [10, 10]]
    assert table[["minutes", "steps", "updates"]].iloc[3].isna().all()


def test_the_published_figures_stand_beside_ours_at_equal_frames(tmp_path: Path, params: Params) -> None:
    header = "seconds,steps,updates,return\n"
    # 3 frames a step: judged at 30,000, 48,000 and 54,000 frames; the second seed ends at 30,000.
    (tmp_path / "walker-walk-0.csv").write_text(header + "1,10000,1,100\n2,16000,2,300\n3,18000,3,900\n")
    (tmp_path / "walker-walk-1.csv").write_text(header + "1,9000,1,700\n2,10000,2,800\n")
    table = dreamer.published(tmp_path, params)
    assert table["frames"].tolist() == [50_000, 100_000, 200_000]
    assert table["DreamerV3"].tolist() == [253, 478, 807]
    assert table["TD-MPC2"].tolist()[2] == 962
    assert table["telepath"].tolist()[0] == 300
    assert table["telepath"].isna().tolist() == [False, True, True]
    assert table["seeds"].tolist() == [1, 0, 0]
    dreamer.draw(tmp_path, tmp_path / "curves.png", params)
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_updates_are_compared_at_the_same_size_and_with_the_core_of_the_same_rounds() -> None:
    entries = {
        updates.Entry("telepath", "telepath", "large"): ([[0.5, 0.9], [0.4, 0.8]], 20e9),
        updates.Entry("telepath, 2 threads", "telepath", "large", 2): ([[0.6, 0.5]] * 2, 20e9),
        updates.Entry("telepath", "telepath_small", "small"): ([[0.1, 0.1]] * 2, 3e9),
        updates.Entry("r2dreamer 1M", "r2dreamer", "large"): ([[1.2, 2.0], [2.0, 3.0]], 0),
        updates.Entry("sgemm", "sgemm", "product"): ([[0.1, 0.3], [0.2, 0.1]], 10e9),
    }
    times = {entry: np.array(pairs) for entry, (pairs, _) in entries.items()}
    about = {entry: {"parameters": 1, "operations": operations} for entry, (_, operations) in entries.items()}
    rows = updates.table(times, about).set_index(["who", "size"])
    assert rows["telepath is faster by"].dropna().to_dict() == {("r2dreamer 1M", "large"): pytest.approx(1.2 / 0.4)}
    assert rows["times one thread"].dropna().tolist() == pytest.approx([0.8 / 0.5])
    # 100 GFLOP a second: 50 in the best round, 40 by the clock of two threads, 30.
    assert rows["sgemm share"].dropna().tolist() == pytest.approx([0.5, 0.4, 0.3, 1.0])
    assert rows["median ms"].tolist()[0] == pytest.approx(450)


def test_on_a_gpu_the_clock_counts_and_ours_of_the_same_size_is_the_measure() -> None:
    ours, theirs = updates.ON_A_GPU[0], updates.Entry("r2dreamer", "r2dreamer_compiled", updates.LARGE, device="cuda")
    frames = next(entry for entry in updates.ON_A_GPU if entry.half)
    times = {ours: np.array([[9.0, 0.01], [9.0, 0.03]]), theirs: np.array([[0.0, 0.04]]), frames: np.array([[0, 0.1]])}
    rows = updates.gpu_table(times, {key: {"parameters": 1} for key in times}).set_index("who")
    assert rows["updates/s"].tolist() == pytest.approx([100, 25, 10])
    assert rows["median updates/s"].tolist() == pytest.approx([50, 25, 10])
    assert rows["telepath is faster by"].tolist() == pytest.approx([1, 4, np.nan], nan_ok=True)


def test_seeds_that_are_trained_together_learn_what_they_learn_alone(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = params.dreamer.model_copy(update={"deter": 8, "stoch": 3, "hidden": 8, "batch": 2, "imagined": 16})
    task = params.tasks["cheetah-run"].model_copy(update={"source_steps": 1600})
    online = params.source.training.model_copy(update={"first_updates": 3, "update_ratio": 0.01, "finalists": 1})
    source = params.source.model_copy(
        update={"seed_episodes": 1, "training": online.model_copy(update={"final_episodes": 1})}
    )
    tiny = params.model_copy(update={"dreamer": small, "tasks": params.tasks | {"cheetah-run": task}, "source": source})
    monkeypatch.setattr(dreamer, "EVERY", 4)
    monkeypatch.setattr(dreamer, "EPISODES", 1)
    together = dreamer.train(tiny, "cheetah-run", [0, 1])
    alone = {seed: dreamer.train(tiny, "cheetah-run", [seed])[seed] for seed in (0, 1)}
    for seed, curve in alone.items():
        assert len(curve) > 1
        assert together[seed].drop(columns="seconds").equals(curve.drop(columns="seconds"))
    assert not alone[0]["return"].equals(alone[1]["return"])


def test_a_rival_that_is_not_there_is_named_and_one_that_is_makes_a_step_when_told(tmp_path: Path) -> None:
    with pytest.raises(updates.Absent, match="No module named 'dreamer'"):
        updates.Runner(updates.Entry("r2dreamer 1M", "r2dreamer", updates.LARGE), sys.executable, str(tmp_path))
    runner = updates.Runner(updates.Entry("sgemm", "sgemm", ""), sys.executable, "")
    cpu, wall = runner.step()
    runner.end()
    assert 0 < cpu < 10
    assert 0 < wall < 60
    assert runner.about["operations"] == 20 * 2 * 512**3


def test_the_clock_runs_for_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.shares.time.perf_counter", lambda: now[0])

    def take(seconds: float) -> None:
        now[0] += seconds

    watch = Stopwatch()
    inner = watch.timed("inner", lambda: take(5))

    def both() -> None:
        take(2)
        inner()
        inner()

    watch.timed("outer", both)()
    assert watch.seconds == {"inner": 10, "outer": 2}
    assert watch.calls == {"inner": 2, "outer": 1}


@pytest.mark.parametrize("open_end", [False, True])
def test_the_slow_ways_to_warp_give_the_same_costs(open_end: bool) -> None:
    random = np.random.default_rng(0)
    x, y = (torch.from_numpy(random.standard_normal(s, dtype=np.float32)) for s in ((2, 7, 24), (2, 5, 7, 24)))
    how = {"open_end": open_end, "slope": 1.0}
    expected = dtw_tensors(x, y, 7, **how)  # type: ignore[arg-type]
    torch.testing.assert_close(torch_loop(x, y, 7, **how), expected)
    if not open_end:
        rival = labelling.with_rival(lambda x, y: lambda: [dtw_tensors(*pair(x, c))[0, 0] for c in y])
        torch.testing.assert_close(rival(x, y, 7, **how), expected)


def pair(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(x)[None], torch.from_numpy(y)[None, None]


def test_operations_are_those_of_the_matrix_products() -> None:
    """Counted by torch itself."""
    from torch.utils.flop_counter import FlopCounterMode

    work = labelling.Work.make(3, iterations=1, candidates=32, steps=4)
    actions = torch.zeros(2, 5, 4, labelling.ACTION)
    start = work.reenactor.model.initial(2)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        work.reenactor._imagine_observations(start, actions)
    assert work.operations * 40 == counted.get_total_flops()


@pytest.mark.slow
def test_the_labelling_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--segments=3", "--iterations=1", "--candidates=16", "--steps=4", "--samples=1", "--scale", "2", "4"]
    labelling.main([*small, "--out", str(tmp_path)])
    assert "expected to take about" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "labelling.csv").set_index("method")
    assert table["telepath is faster by"]["telepath"] == 1
    assert {"telepath", "torch loop"} <= set(table.index)
    assert table["DTW share"].dropna().between(0, 1).all()
    shares = table[["rollouts' sgemm share", "of the best"]].dropna()
    assert (shares["of the best"] <= shares["rollouts' sgemm share"]).all(), "no mean is above the best"
    assert pd.read_csv(tmp_path / "labelling-scale.csv")["segments"].tolist() == [2, 4]
    assert (tmp_path / "labelling.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_dtw_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dtw.main(["--rounds=1", "--form-rounds=2", "--out", str(tmp_path)])
    assert "first call of a process: " in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "dtw.csv").query("method == 'telepath'")["D"].tolist() == [8, 17, 24, 1024]
    forms = pd.read_csv(tmp_path / "dtw-forms.csv").set_index("form")
    assert forms["times the plain call"][["plain call", "one thread"]].tolist() == [1, 1]
    assert {"band of 8", "open end", "pairs", "two threads"} <= set(forms.index)
    assert (tmp_path / "dtw.png").stat().st_size > 1000


def test_a_cell_names_the_commit_and_whether_the_code_differs_from_it_whatever_results_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*asked: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@e"]
        return subprocess.run(["git", *who, *asked], cwd=tmp_path, text=True, capture_output=True, check=True).stdout

    monkeypatch.setattr(grid_module, "ROOT", tmp_path)
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "reports/cell.json"):
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "--short", "HEAD").strip()
    assert grid_module.commit() == head
    (tmp_path / "reports/cell.json").write_text("2")
    assert grid_module.commit() == head
    (tmp_path / "code.py").write_text("2")
    assert grid_module.commit() == f"{head}-dirty"

"""The benchmark: every task, gap, setting and seed through the pipeline, on N workers, resumable.

    python -m benchmarks.grid [--workers 2] [--tasks ...] [--gaps ...] [--settings ...] [--seeds 0 1 2]

Without arguments all that the benchmark is to have (``planned``), days of a core. With any: the three tasks, their six
gaps, *with source agent*, seed 0, but for what is said. ``--settings`` besides those of Telepath: "oracle", "converged
oracle", any rival by its name in params.yaml, "rivals" for all of them with Telepath and oracle, any ablation, and
"ablations" for all of those, which are Telepath without one of its parts at a time.

Every worker has a workspace of its own under .telepath/benchmark, and all share this project's DVC cache and
checkpoints: what is cached is not run again, and what was interrupted goes on. A source is trained once for each task
and seed. A finished cell is a file in reports/benchmark/cells; `python -m benchmarks.table` makes the tables of them.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from benchmarks.cells import ABLATIONS, BESIDE, EXTRA, GAPS, ORACLES, RATES, SETTINGS, Cell, grid, planned
from stages.costs import COLUMNS, COSTS
from stages.harness import dvc_hash
from telepath.episodes import load_arrays
from telepath.errors import UserError
from telepath.evaluation.evidence import HELDOUT_POLICIES
from telepath.evaluation.rivals import RIVALS, STAGES
from telepath.evaluation.scores import correlation
from telepath.files import write_atomically
from telepath.runtime.device import usable_cpus
from telepath.runtime.environment import THREADS
from telepath.runtime.interrupt import stop_on_signals
from telepath.runtime.ledger import LEDGER
from telepath.runtime.resume import acquire

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT / ".telepath"
STOP = threading.Event()
CELLS = ROOT / "reports" / "benchmark" / "cells"
RESULTS = ("reports", "dvc.lock", "rivals/dvc.lock", "costs.csv", "seeds.csv")
"""Files and folders whose changes change no result."""

GROUPS = {"ablations": tuple(ABLATIONS), "rivals": BESIDE}
"""Names for several settings at once."""


class Workspace:
    """A copy of the project's files that shares its cache and its checkpoints, for one process."""

    def __init__(self, number: int | str, threads: int):
        self.folder = SHARED / "benchmark" / f"worker-{number}"
        # Two benchmarks in one workspace would run each other's settings under the names of their own.
        try:
            acquire(self.folder.with_suffix(".lock"), work=f"the benchmark's {self.folder.name}")
        except UserError as error:
            sys.exit(f"telepath: {error}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.code = commit()
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("reports/", ".dvc/")):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        (self.folder / ".dvc").mkdir()
        (self.folder / ".dvc" / "config").write_text(
            f"[core]\n    analytics = false\n    no_scm = true\n[cache]\n    dir = {ROOT / '.dvc' / 'cache'}\n"
        )
        (self.folder / ".telepath").mkdir()
        (SHARED / "scratch").mkdir(parents=True, exist_ok=True)
        # What was begun in another workspace goes on here, and what it took there counts.
        for name in ("scratch", LEDGER):
            (self.folder / ".telepath" / name).symlink_to(SHARED / name)
        self.settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(self.folder),
            "TELEPATH_THREADS": str(threads),
        }

    def begin(self, overrides: dict[str, Any]) -> None:
        """Leave nothing of what ran before, and write params.yaml: the project's, with these dotted keys changed."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        for lock in ("dvc.lock", "rivals/dvc.lock"):
            (self.folder / lock).unlink(missing_ok=True)
        settings = json.loads(json.dumps(self.settings))
        for key, value in overrides.items():
            *path, leaf = key.split(".")
            node = settings
            for part in path:
                node = node[part]
            node[leaf] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))

    def repro(self, target: str) -> list[str]:
        """Bring a stage or a pipeline up to date; returns the stages that had to run. The log stays in here."""
        running = subprocess.Popen(
            ["dvc", "repro", target],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that dvc and its stage can be stopped together
        )
        watch = threading.Thread(target=stop_with_us, args=(running,), daemon=True)
        watch.start()
        last, ran = "", []
        assert running.stdout is not None
        with (self.folder / "repro.log").open("w") as log:
            for line in running.stdout:
                log.write(line)
                log.flush()
                last = line
                if line.startswith("Running stage"):
                    ran.append(line.split("'")[1].rpartition(":")[2])
        if running.wait() != 0:
            raise RuntimeError(last.strip() or f"dvc ended with {running.returncode}")
        return ran

    def minutes(self, cell: Cell) -> dict[str, float]:
        """What each training took that made a cell, sessions of before included, as far as it ran here."""
        (self.folder / COSTS).write_text(",".join(COLUMNS) + "\n")
        asked = [sys.executable, "-m", "stages.costs"]
        subprocess.run(asked, cwd=self.folder, env=self.environment, check=True)
        table = pd.read_csv(self.folder / COSTS)
        took = dict(zip(table["stage"].tolist(), table["minutes"].tolist(), strict=True))
        stages = (*STAGES["source"], *STAGES[cell.agent]) if cell.has_source else STAGES[cell.agent]
        return {stage: took[stage] for stage in stages if stage in took}


def stop_with_us(running: "subprocess.Popen[str]") -> None:
    """Interrupt dvc and its stage where we are asked to stop: it keeps its checkpoint, and nothing runs on unseen."""
    while running.poll() is None:
        if STOP.wait(0.2):
            os.killpg(running.pid, signal.SIGINT)
            running.wait()


def commit() -> str:
    """The commit that this project's files are of; it ends in "-dirty" where they differ from it, results aside."""

    def git(*asked: str) -> str:
        return subprocess.run(["git", *asked], cwd=ROOT, text=True, capture_output=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", *(f":(exclude){name}" for name in RESULTS))
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """What a finished cell tells: returns of every agent by episode, target steps, which source agent, if any; of
    Telepath also its rounds and the label correlation.
    """
    data = folder / "data"
    source = dvc_hash(data / "source" / "agent.safetensors") if cell.has_source else None
    if cell.agent != "telepath":
        made = data / "oracle" if cell.agent == "oracle" else data / "rivals" / cell.agent
        steps = int(pd.read_csv(made / "curve.csv")["steps"].iloc[-1])
        return {"returns": returns(pd.read_csv(made / "returns.csv")), "target_steps": steps, "source": source}
    facts = json.loads((data / "evaluation" / "facts.json").read_text())
    diary = pd.read_csv(data / "target" / "rounds.csv")
    rounds = diary.merge(pd.read_csv(data / "evaluation" / "rounds.csv")[["round", "return"]], on="round")
    heldout = load_arrays(data / "evaluation" / "heldout.npz", ("true", "inferred", "policy"))
    return {
        "returns": returns(pd.read_csv(data / "evaluation" / "returns.csv")),
        "source_steps": facts["source_steps"],
        "target_steps": facts["target_steps"],
        "source": source,
        "label_correlation": correlation(heldout["true"], heldout["inferred"]),
        "heldout_policies": list(HELDOUT_POLICIES),
        "rounds": json.loads(rounds.to_json(orient="records", double_precision=6)),
    }


def returns(table: pd.DataFrame) -> dict[str, list[float]]:
    """Returns of every agent, by episode."""
    return {str(agent): np.round(rows["return"], 3).tolist() for agent, rows in table.groupby("agent", sort=False)}


class Job(NamedTuple):
    """A stage to bring up to date under a cell's settings, once the jobs that it comes after are over."""

    cell: Cell
    target: str
    after: frozenset[str] = frozenset()


def plan(cells: Iterable[Cell]) -> dict[str, Job]:
    """All jobs by their names, each after those that make what it needs; a cell under its own name."""
    jobs: dict[str, Job] = {}
    for cell in cells:
        needed: list[str] = []
        for name, owner, stage in cell.groundwork:
            jobs.setdefault(name, Job(owner, stage, frozenset(needed)))
            needed.append(name)
        jobs.setdefault(cell.name, Job(cell, cell.target, frozenset(needed)))
    return jobs


def work(name: str, job: Job, workspaces: "SimpleQueue[Workspace]") -> str:
    """Do a job in the next free workspace; returns a line about it. What a cell tells is written down."""
    workspace = workspaces.get()
    try:
        workspace.begin(job.cell.overrides())
        begin = time.monotonic()
        workspace.repro(job.target)
        minutes = (time.monotonic() - begin) / 60
        if name != job.cell.name:
            return f"{name}: {minutes:.1f} min"
        found = measure(job.cell, workspace.folder)
        means = ", ".join(f"{agent} {np.mean(values):.0f}" for agent, values in found["returns"].items())
        record(job.cell, {"code": workspace.code, "stage_minutes": workspace.minutes(job.cell), **found})
        return f"{name}: {minutes:.1f} min; {means}"
    finally:
        workspaces.put(workspace)


def record(cell: Cell, told: dict[str, Any]) -> None:
    """Write down what a finished cell tells. Minutes of before stay where all of it came out of the cache."""
    path = CELLS / f"{cell.name}.json"
    if path.exists() and (before := json.loads(path.read_text()))["returns"] == told["returns"]:
        told["stage_minutes"] = before["stage_minutes"] | told["stage_minutes"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(cell._asdict() | told, indent=1) + "\n")


def run_all(jobs: dict[str, Job], workspaces: "SimpleQueue[Workspace]", workers: int) -> list[str]:
    """Do all jobs, always the first ones that nothing keeps waiting, so many at a time; a line for each as it ends.

    Returns the names of those that failed, and of those that could not be tried for want of them.
    """
    waiting, over, failed, begin = dict(jobs), set[str](), list[str](), time.monotonic()

    def tell(name: str, line: str) -> None:
        over.add(name)
        left = (time.monotonic() - begin) / len(over) * (len(jobs) - len(over)) / 60
        print(f"[{len(over)}/{len(jobs)}, {left:.0f} min left] {line}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future[str], str] = {}
        try:
            while waiting or running:
                free = [name for name, job in waiting.items() if job.after <= over]
                for name in free[: workers - len(running)]:
                    running[pool.submit(work, name, waiting.pop(name), workspaces)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    error = future.exception()
                    tell(name, f"{name}: FAILED: {error}" if error else future.result())
                    lost = [other for other, job in waiting.items() if error and name in job.after]
                    for other in lost:
                        del waiting[other]
                        tell(other, f"{other}: not tried, for want of the {name}")
                    failed += [name, *lost] if error else []
        except KeyboardInterrupt:
            STOP.set()
            pool.shutdown(cancel_futures=True)
            print("interrupted: the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None
    return failed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=max(1, usable_cpus()))
    parser.add_argument("--tasks", nargs="+", choices=RATES)
    parser.add_argument("--gaps", nargs="+", choices=[*GAPS, EXTRA[1]])
    every = [*SETTINGS, *ORACLES, *RIVALS, *ABLATIONS, *GROUPS]
    parser.add_argument("--settings", nargs="+", choices=every)
    parser.add_argument("--seeds", nargs="+", type=int)
    asked = parser.parse_args()
    stop_on_signals()
    settings = [name for each in asked.settings or SETTINGS[:1] for name in GROUPS.get(each, (each,))]
    named = grid(asked.tasks or RATES, asked.gaps or GAPS, settings, asked.seeds or [0])
    cells = named if asked.tasks or asked.gaps or asked.settings or asked.seeds else planned()
    workspaces: SimpleQueue[Workspace] = SimpleQueue()
    for number in range(asked.workers):
        workspaces.put(Workspace(number, THREADS.read(max(1, usable_cpus() // asked.workers))))
    failed = run_all(plan(cells), workspaces, asked.workers)
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}; see .telepath/benchmark/worker-*/repro.log")


if __name__ == "__main__":
    main()

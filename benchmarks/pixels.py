"""The whole pipeline from pixels, in time slots: what one slot leaves unfinished, the same command goes on with.

    python -m benchmarks.pixels --task ball_in_cup-catch --minutes 10 [--source-only] [--size small] [--seed 0]
        [--repeats 2 1]

It runs in a workspace of its own under .telepath/benchmark and shares this project's DVC cache and checkpoints. Curves
and metrics are in reports/pixels/TASK-SIZE-SEED, as far as there are any, after every slot, and slots.json beside them
says how they were made. The folder holds one run alone: of other settings or other code, what was there goes.
``--repeats``: the action repeats of source and target, where they are not those of the benchmark's gap of rates; they
are then part of the folder's name. ``small`` is for a CPU, one to two hours of a core for ball_in_cup-catch; ``full``,
Dreamer's sizes, is for a GPU, and is what is run where one is used, with TELEPATH_HALF=1 for bfloat16 convolutions.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import RATES
from benchmarks.grid import ROOT, STOP, Workspace
from stages.harness import SETTINGS, Context, content_hash, fingerprint, read_stage
from telepath.config import load
from telepath.dreamer.training import Curve, save_curve
from telepath.errors import UserError
from telepath.runtime.device import training_device, usable_cpus
from telepath.runtime.environment import THREADS
from telepath.runtime.interrupt import stop_on_signals
from telepath.runtime.store import load_state

COMMON: dict[str, Any] = {
    "observation": "pixels",
    "evaluate.episodes": 10,
    "evaluate.curve_episodes": 3,
}
SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "dreamer.cnn_depth": 8,
        "dreamer.batch": 8,
        "source.training.update_ratio": 0.6,
    },
    "full": {
        "dreamer.cnn_depth": 32,
        "dreamer.deter": 512,
        "dreamer.stoch": 32,
        "dreamer.hidden": 512,
        "dreamer.length": 50,
        "dreamer.imagined": 7680,
    },
}
SOURCE_STEPS = {"ball_in_cup-catch": 15000, "walker-walk": 60000, "cheetah-run": 60000}
"""From pixels a task takes longer to learn than from states."""

KEPT = (
    "data/source/curve.csv",
    "data/oracle/curve.csv",
    "data/target/rounds.csv",
    "data/evaluation/returns.csv",
    "data/evaluation/rounds.csv",
    "reports/metrics.json",
    "reports/figures/curves.png",
    "reports/figures/alignments.png",
)
"""What a finished pipeline leaves behind."""


def overrides(task: str, repeats: tuple[int, int], size: str, seed: int) -> dict[str, Any]:
    """What differs from the params.yaml at hand, dotted keys; ``repeats`` of source and target."""
    source, target = repeats
    return {
        "task": task,
        f"tasks.{task}.action_repeat": source,
        f"tasks.{task}.source_steps": SOURCE_STEPS[task],
        "gap.action_repeat": target,
        "seed.source": seed,
        "seed.target": seed,
        **COMMON,
        **SIZES[size],
    }


def run_of(workspace: Path) -> str:
    """What tells one run from all others, hexadecimal: its settings and its code.

    The commit would not do: it changes with a report that is committed between two slots, and does not with an edit.
    """
    parts = [content_hash(workspace / name) for name in (SETTINGS.name, "dvc.yaml", "stages", "telepath")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def collect(workspace: Path, out: Path, changed: dict[str, Any], slot: dict[str, Any]) -> None:
    """Copy what there is, of a source that is still learning the curve in its checkpoint, and note the slot.

    What another run has left in the folder goes first.
    """
    log, run = out / "slots.json", run_of(workspace)
    before = json.loads(log.read_text()) if log.exists() else {}
    if before.get("run") != run:
        shutil.rmtree(out, ignore_errors=True)
        before = {}
    out.mkdir(parents=True, exist_ok=True)
    slots = [*before.get("slots", []), slot]
    log.write_text(json.dumps({"run": run, "overrides": changed, "slots": slots}, indent=1) + "\n")
    for name in KEPT:
        if (workspace / name).exists():
            shutil.copy(workspace / name, out / name.removeprefix("data/").removeprefix("reports/").replace("/", "-"))
    if not (workspace / KEPT[0]).exists() and (curve := unfinished_curve(workspace)):
        save_curve(out / "source-curve.csv", curve)


def unfinished_curve(workspace: Path) -> Curve:
    """Of this run's source training, if it was interrupted: others may have left checkpoints too."""
    with contextlib.chdir(workspace):  # a stage's inputs are named from there
        params = load(SETTINGS)
        stage = read_stage("train_source", params)
        if not all(Path(dep).exists() for dep in stage.deps):
            return []  # its seed episodes are not collected yet
        name = Context(stage, fingerprint(stage, params)).name
    state = workspace / ".telepath" / "scratch" / name / "state.safetensors"
    return [tuple(row) for row in load_state(state, kind="checkpoint")["curve"]] if state.exists() else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run for one slot."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        device = training_device(frames=True)
    except UserError as error:
        sys.exit(f"telepath: {error}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SOURCE_STEPS, default="ball_in_cup-catch")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--source-only", action="store_true")
    parser.add_argument("--size", choices=SIZES, default="small" if device.type == "cpu" else "full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, nargs=2, metavar=("SOURCE", "TARGET"))
    asked = parser.parse_args(arguments)
    repeats = tuple(asked.repeats or RATES[asked.task])
    stop_on_signals()
    begin, over = time.monotonic(), threading.Timer(60 * asked.minutes, STOP.set)
    over.daemon = True
    over.start()
    changed = overrides(asked.task, repeats, asked.size, asked.seed)
    threads = THREADS.read(min(2, usable_cpus()))
    workspace = Workspace("pixels", threads)
    workspace.begin(changed)
    failure = ""
    with ThreadPoolExecutor(1) as pool:
        try:
            # The oracle, which nothing else waits for, comes last.
            for stage in ("train_source",) if asked.source_only else ("train_source", "evaluate", "report"):
                ran = pool.submit(workspace.repro, stage).result()
                print(f"{stage}: ran {', '.join(ran) or 'nothing, all was there'}", flush=True)
        except RuntimeError as error:
            failure = "" if STOP.is_set() else str(error)
        except KeyboardInterrupt:
            STOP.set()  # and the pool waits until dvc has ended
    over.cancel()
    strange = repeats if repeats != RATES[asked.task] else ()
    out = ROOT / "reports" / "pixels" / "-".join(map(str, [asked.task, asked.size, asked.seed, *strange]))
    slot = {
        "command": ["python", "-m", "benchmarks.pixels", *arguments],
        "commit": workspace.code,
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": threads,
        "seconds": round(time.monotonic() - begin),
    }
    try:
        collect(workspace.folder, out, changed, slot)
    except UserError as error:
        failure = failure or str(error)
    if failure:
        sys.exit(f"{failure}; see {workspace.folder / 'repro.log'}")
    print("the slot is over: the same command goes on from here" if STOP.is_set() else "done", f"({out})")


if __name__ == "__main__":
    main()

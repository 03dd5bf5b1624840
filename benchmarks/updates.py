"""Speed of an update of our Dreamer, eager rivals interleaved, and what else stands between a run and its first result.

    python -m benchmarks.updates [--rounds 8] [--python PYTHON] [--r2dreamer CHECKOUT] [--dreamerv3-torch CHECKOUT]
    python -m benchmarks.updates --gpu [the same]
    python -m benchmarks.updates --profile [--task walker-walk] [--steps 3000]

All get 16 windows of 64 records of walker-walk's size, and imagine 15 steps from all 1024 of them, on one core. Each
is a process of its own (``benchmarks.contenders``); in every round each makes one update, and the others wait, so that
a busy or throttled machine slows all alike. *ms* is the CPU time of the best round, which on an idle machine is the
wall clock; where others are at work, a long update never has a best round as undisturbed as a short one's. *wall ms* is
what two threads are judged by, so for these the machine must be idle: *load* tells. *sgemm share*: operations in matrix
products over the rate at which numpy multiplies 512 x 512 float32 matrices in the same rounds.

--python: the interpreter that has the rivals' packages. For sheeprl: pip install sheeprl. r2dreamer and dreamerv3-torch
are checkouts of NM512's repositories; beside sheeprl's packages they need tensordict and ruamel.yaml. Who is not there
is reported as absent. Writes updates.csv and updates.png, with --profile updates_profile.csv.

--gpu: the same race on a GPU, by the wall clock, ours recorded as a graph, kernel by kernel, eight at once, from frames
and in half precision, r2dreamer also compiled and in half precision, as it comes. Writes updates_gpu.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.shares import profile
from telepath.evaluation.agents import BLUE, FAINT
from telepath.evaluation.figures import drawing
from telepath.files import write_atomically

HERE = Path(__file__).resolve().parent
LARGE, SMALL, FRAMES = "16x64, 1024 starts", "16x32, 128 starts", "16x64 frames, 1024 starts"


class Entry(NamedTuple):
    """A line of the table: what is timed, in ``contenders``' words, at which size, on how many threads."""

    name: str
    contender: str
    size: str
    threads: int = 1
    device: str = "cpu"
    half: bool = False


ENTRIES = [
    Entry("telepath", "telepath", LARGE),
    Entry("telepath, 2 threads", "telepath", LARGE, 2),
    Entry("r2dreamer 1M", "r2dreamer", LARGE),
    Entry("dreamerv3-torch, our sizes", "dreamerv3_torch", LARGE),
    Entry("sheeprl 1M", "sheeprl", LARGE),
    Entry("telepath", "telepath_small", SMALL),
    Entry("telepath, 2 threads", "telepath_small", SMALL, 2),
    Entry("policy step", "policy", "1 environment"),
    Entry("sgemm", "sgemm", "512x512"),
]
ON_A_GPU = [
    entry._replace(device="cuda")
    for entry in (
        Entry("telepath", "telepath", LARGE),
        Entry("telepath, unrecorded", "telepath_unrecorded", LARGE),
        Entry("telepath, eight together", "telepath_together", LARGE),
        Entry("telepath", "telepath_small", SMALL),
        Entry("telepath", "telepath_frames", FRAMES),
        Entry("telepath, bfloat16", "telepath_frames", FRAMES, half=True),
        Entry("r2dreamer 1M, as it comes", "r2dreamer_compiled", LARGE),
        Entry("r2dreamer 1M, eager float32", "r2dreamer", LARGE),
        Entry("dreamerv3-torch, our sizes", "dreamerv3_torch", LARGE),
    )
]
RIVALS = ("r2dreamer", "r2dreamer_compiled", "dreamerv3_torch", "sheeprl")


class Absent(Exception):
    """Why somebody is not there."""


class Runner:
    """A contender's process."""

    def __init__(self, entry: Entry, python: str, checkout: str):
        self.entry = entry
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (it lives as long as the process)
        # -P: a rival's modules must not be looked for among ours.
        words = entry.contender, str(entry.threads), checkout, entry.device
        command = [python, "-P", str(HERE / "contenders.py"), *words]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["TELEPATH_HALF"] = str(int(entry.half))
        if entry.contender not in RIVALS:
            environment["PYTHONPATH"] = str(HERE.parent)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )
        self.about = self._answer()
        if "absent" in self.about:
            raise Absent(self.about["absent"])
        self.about = self.about["ready"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return dict(json.loads(line))
        self.process.wait()
        self.log.seek(0)
        raise Absent((self.log.read().strip().splitlines() or ["it ended without a word"])[-1])

    def step(self) -> tuple[float, float]:
        """CPU and wall seconds of one step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        each = self.about["each"]
        return answer["cpu"] / each, answer["wall"] / each

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def race(runners: list[Runner], rounds: int) -> dict[Entry, np.ndarray]:
    """(rounds, 2) CPU and wall seconds of each, in turns."""
    times: dict[Entry, list[tuple[float, float]]] = {runner.entry: [] for runner in runners}
    for number in range(rounds):
        for runner in runners:
            times[runner.entry].append(runner.step())
        print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {entry: np.array(pairs) for entry, pairs in times.items()}


def table(times: dict[Entry, np.ndarray], about: dict[Entry, dict[str, Any]]) -> pd.DataFrame:
    """One row an entry: milliseconds, how much faster we are at the same size, and the share of sgemm's rate."""
    best = {entry: pairs.min(0) for entry, pairs in times.items()}
    rate = next((about[e]["operations"] / best[e][0] for e in best if e.contender == "sgemm"), np.nan)
    ours = {entry.size: best[entry] for entry in best if entry.name == "telepath"}
    rows = []
    for entry, pairs in times.items():
        cpu, wall = best[entry]
        row: dict[str, Any] = {"who": entry.name, "size": entry.size, "threads": entry.threads}
        row |= {
            "parameters": about[entry]["parameters"] or None,
            "ms": 1000 * cpu,
            "median ms": 1000 * np.median(pairs[:, 0]),
        }
        row["wall ms"] = 1000 * wall
        if entry.threads > 1:
            row["times one thread"] = ours[entry.size][1] / wall
        elif entry.contender in RIVALS:
            row["telepath is faster by"] = cpu / ours[entry.size][0]
        if operations := about[entry]["operations"]:
            row["GFLOP/s"] = operations / (wall if entry.threads > 1 else cpu) / 1e9
            row["sgemm share"] = row["GFLOP/s"] * 1e9 / rate
        rows.append(row | {"rounds": len(pairs)})
    return pd.DataFrame(rows).astype({"parameters": "Int64"})


def gpu_table(times: dict[Entry, np.ndarray], about: dict[Entry, dict[str, Any]]) -> pd.DataFrame:
    """One row an entry, by the clock: updates a second in the best round and the median one, and how much faster ours
    of the same size is, recorded and by itself.
    """
    ours = {entry.size: pairs[:, 1].min() for entry, pairs in times.items() if entry.name == "telepath"}
    rows = [
        {
            "who": entry.name,
            "size": entry.size,
            "parameters": about[entry]["parameters"],
            "updates/s": 1 / pairs[:, 1].min(),
            "median updates/s": 1 / np.median(pairs[:, 1]),
            "telepath is faster by": pairs[:, 1].min() / ours[entry.size] if entry.size in ours else np.nan,
            "rounds": len(pairs),
        }
        for entry, pairs in times.items()
    ]
    return pd.DataFrame(rows)


def first_update(times: int) -> dict[str, Any]:
    """From the start of a process to its first whole update: imports, seed episodes and all."""
    pairs = []
    for _ in range(times):
        begin = time.perf_counter()
        runner = Runner(Entry("", "first_update", ""), sys.executable, "")
        pairs.append((runner.about["cpu"], time.perf_counter() - begin))
        runner.end()
    (cpu, wall), middle = np.min(pairs, 0), np.median(pairs, 0)[0]
    row = {"who": "start to first update", "size": "default task", "threads": 1, "ms": 1000 * cpu}
    return row | {"median ms": 1000 * middle, "wall ms": 1000 * wall, "rounds": times}


def draw(results: pd.DataFrame, path: Path) -> None:
    """Milliseconds of everybody at the large size on one core."""
    shown = results[(results["size"] == LARGE) & (results["threads"] == 1)]
    with drawing(path, 0.42 * len(shown) + 1.2) as figure:
        axes = figure.subplots()
        colours = [BLUE if who == "telepath" else FAINT for who in shown["who"]]
        bars = axes.barh(shown["who"], shown["ms"], 0.65, color=colours)
        ratios = shown.get("telepath is faster by", pd.Series(np.nan, shown.index))
        times = ["" if np.isnan(ratio) else f", {ratio:.1f} times ours" for ratio in ratios]
        labels = [f"{ms:,.0f} ms{more}" for ms, more in zip(shown["ms"], times, strict=True)]
        axes.bar_label(bars, labels, padding=4)
        axes.set(xlabel="milliseconds an update, one core", xlim=(0, 1.45 * shown["ms"].max()))
        axes.set_title("One update: 16 windows of 64, 1024 imagined trajectories of 15")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")


def measure(options: argparse.Namespace) -> pd.DataFrame:
    """Everybody who is there; who is not is named."""
    runners, missing = [], []
    checkouts = {"r2dreamer": options.r2dreamer, "dreamerv3_torch": options.dreamerv3_torch}
    checkouts["r2dreamer_compiled"] = options.r2dreamer
    for entry in ON_A_GPU if options.gpu else ENTRIES:
        rival = entry.contender in RIVALS
        try:
            if entry.contender in checkouts and not checkouts[entry.contender]:
                raise Absent("no checkout")
            checkout = str(Path(checkouts.get(entry.contender) or ".").resolve())
            runners.append(Runner(entry, options.python if rival else sys.executable, checkout))
        except Absent as reason:
            missing.append({"who": entry.name, "size": entry.size, "absent": str(reason)})
    if not runners:
        raise SystemExit(f"nobody is there: {missing[0]['absent']}")
    about = {runner.entry: runner.about for runner in runners}
    try:
        times = race(runners, options.rounds)
    finally:
        for runner in runners:
            runner.end()
    results = [gpu_table(times, about)] if options.gpu else [table(times, about), pd.DataFrame([first_update(3)])]
    rows = [*results, pd.DataFrame(missing)]
    return pd.concat([part for part in rows if len(part)], ignore_index=True)


def main() -> None:
    """Measure, print, write and draw; or say where a training's time goes."""
    parser = argparse.ArgumentParser(description="Update speed of the Dreamer.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--r2dreamer", type=Path)
    parser.add_argument("--dreamerv3-torch", type=Path)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--task", default="ball_in_cup-catch")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if options.profile:
        results = profile(options.task, options.steps)
        target = options.out / "updates_profile.csv"
    elif options.gpu:
        results = measure(options)
        target = options.out / "updates_gpu.csv"
    else:
        results = measure(options)
        target = options.out / "updates.csv"
        draw(results, options.out / "updates.png")
    results["load"] = round(load, 1)
    results = results.round(3)
    write_atomically(target, results.to_csv(index=False))
    print(results.to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()

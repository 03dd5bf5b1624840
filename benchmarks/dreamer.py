"""How long the Dreamer takes to a given return: wall clock, steps and updates, on several seeds.

    python -m benchmarks.dreamer [--task walker-walk ...] [--seeds 0 1 2] [--again] [--together]

Trains a source agent as ``train_source`` does, with the settings of params.yaml, and judges the averaged actor on fresh
episodes every few hundred updates. The clock counts what training costs, environment included, and stands still while
the agent is judged. Each seed leaves a curve ``TASK-SEED.csv``; one that is already there is not run again unless asked
for. Writes times.csv, published.csv and curves.png, which show every curve in the folder; the latter two beside what
DreamerV3 and TD-MPC2 have at equal frames.

Sharing the machine slows the clock and nothing else: steps and updates are the same whatever else runs. --together
trains all seeds of a task at once, which pays on a GPU (TELEPATH_DEVICE=cuda): one small model leaves it idle.
"""

import argparse
import time
from pathlib import Path
from typing import SupportsFloat

import numpy as np
import pandas as pd

from benchmarks.panels import return_panels
from benchmarks.sources import source_training
from telepath.config import Params, load
from telepath.envs.suite import Environment
from telepath.evaluation.agents import BLUE, FAINT, INK
from telepath.evaluation.judge import judge
from telepath.files import write_atomically
from telepath.runtime.device import limit_threads, stream_of_its_own, training_device
from telepath.runtime.progress import Progress

GOALS = {
    "ball_in_cup-catch": 900,
    "walker-walk": 800,
    "cheetah-run": 600,
    "cartpole-swingup": 800,
    "reacher-easy": 900,
    "finger-spin": 800,
    "pendulum-swingup": 700,
}
"""Mean return over the judged episodes that counts as learned."""

EVERY, EPISODES = 250, 10
"""Updates between two judgements, and episodes of each."""

FRAMES = (50_000, 100_000, 200_000)
PUBLISHED: dict[str, dict[str, dict[int, int]]] = {
    "walker-walk": {"DreamerV3": dict(zip(FRAMES, (253, 478, 807), strict=True)), "TD-MPC2": {200_000: 962}},
    "cheetah-run": {"DreamerV3": dict(zip(FRAMES, (209, 297, 415), strict=True)), "TD-MPC2": {200_000: 519}},
    "ball_in_cup-catch": {"DreamerV3": dict(zip(FRAMES, (523, 743, 946), strict=True)), "TD-MPC2": {200_000: 981}},
}
"""Mean returns that the authors publish, from states, at so many frames (Hafner et al. 2025; Hansen et al. 2024)."""


class Clock:
    """Seconds of work; it stands still inside of a ``with``."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def __enter__(self) -> None:
        self._stopped = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._begin += time.perf_counter() - self._stopped

    @property
    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._begin


class Run:
    """A seed's training, judged every ``EVERY`` updates."""

    def __init__(self, params: Params, task: str, seed: int):
        self.seed = seed
        self.rows: list[tuple[float, int, int, float]] = []
        self.fresh = [Environment(task, params.tasks[task].action_repeat, seed) for _ in range(EPISODES)]
        self.stream = stream_of_its_own(training_device(frames=False))
        with self.stream():
            self.training = source_training(params, task, seed)

    @property
    def left(self) -> int:
        """Updates that are still to be made."""
        return self.training.update_budget - self.training.updates

    def advance(self, clock: Clock) -> dict[str, SupportsFloat]:
        """An update; what there is to tell of it."""
        figures: dict[str, SupportsFloat] = {"steps": self.training.replay.steps, **self.training.advance()}
        if self.training.updates % EVERY == 0:
            figures["return"] = self.judge(clock)
        return figures

    def judge(self, clock: Clock) -> float:
        """The mean return of the agent as it is; the clock waits."""
        policy = self.training.agent.policy(seed=0)  # on a GPU this waits for all updates so far
        seconds = round(clock.seconds, 1)
        with clock:
            score = float(np.mean([episode.ret for episode in judge(self.fresh, policy, self.seed)]))
        self.rows.append((seconds, self.training.replay.steps, self.training.updates, round(score, 1)))
        return score

    def curve(self) -> pd.DataFrame:
        """seconds, steps, updates, return: one row a judgement."""
        return pd.DataFrame(self.rows, columns=["seconds", "steps", "updates", "return"])


def train(params: Params, task: str, seeds: list[int]) -> dict[int, pd.DataFrame]:
    """The curve of each seed; several take turns, an update each, and share a clock: on a GPU they run side by side."""
    clock, runs = Clock(), [Run(params, task, seed) for seed in seeds]
    name = f"{task} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    with Progress(name, sum(run.left for run in runs), "updates") as progress:
        while at_work := [run for run in runs if run.left]:
            for run in at_work:
                with run.stream():
                    progress.advance(1, **run.advance(clock))
    return {run.seed: run.curve() for run in runs}


def summary(folder: Path) -> pd.DataFrame:
    """One row a curve in ``folder``, and one for the mean curve of a task's seeds (``mean``): when it first reached its
    task's goal, and where it ended.
    """
    rows = []
    for task, goal in GOALS.items():
        curves = {path.stem.rpartition("-")[2]: pd.read_csv(path) for path in sorted(folder.glob(f"{task}-[0-9]*.csv"))}
        if len(curves) > 1:
            curves["mean"] = mean_of(list(curves.values()))
        for seed, curve in curves.items():
            reached = curve[curve["return"] >= goal]
            first = reached.iloc[0] if len(reached) else None
            rows.append(
                {
                    "task": task,
                    "seed": seed,
                    "goal": goal,
                    "minutes": None if first is None else round(first["seconds"] / 60, 1),
                    "steps": None if first is None else int(first["steps"]),
                    "updates": None if first is None else int(first["updates"]),
                    "best": curve["return"].max(),
                    "last": curve["return"].iloc[-1],
                    "all minutes": round(curve["seconds"].iloc[-1] / 60, 1),
                    "all steps": int(curve["steps"].iloc[-1]),
                }
            )
    return pd.DataFrame(rows).astype({"steps": "Int64", "updates": "Int64"})


def mean_of(curves: list[pd.DataFrame]) -> pd.DataFrame:
    """Their means at equal updates, as far as all of them go."""
    together = pd.concat(curves).groupby("updates")
    means = together.mean()[together.size() == len(curves)]
    return means.round(1).reset_index()


def published(folder: Path, params: Params) -> pd.DataFrame:
    """Our mean return over the seeds beside the published ones, at equal frames.

    Ours is that of a seed's last judgement at or before these frames. Seeds that ended more than a judgement's distance
    before them are left out, so where all budgets are spent earlier there is nothing of ours.
    """
    rows = []
    for task, rivals in PUBLISHED.items():
        curves = [in_frames(pd.read_csv(path), params, task) for path in sorted(folder.glob(f"{task}-[0-9]*.csv"))]
        if not curves:
            continue
        for frames in FRAMES:
            there = [curve for curve in curves if curve["frames"].iloc[-1] + reach(curve) >= frames]
            ours = [float(curve[curve["frames"] <= frames]["return"].iloc[-1]) for curve in there]
            row = {"task": task, "frames": frames, "seeds": len(ours)}
            row["telepath"] = round(float(np.mean(ours)), 1) if ours else None
            rows.append(row | {name: points.get(frames) for name, points in rivals.items()})
    return pd.DataFrame(rows).astype({"telepath": float}) if rows else pd.DataFrame()


def in_frames(curve: pd.DataFrame, params: Params, task: str) -> pd.DataFrame:
    """A curve with a column of simulator frames."""
    return curve.assign(frames=curve["steps"] * params.tasks[task].action_repeat)


def reach(curve: pd.DataFrame) -> int:
    """The largest number of frames between two judgements."""
    return int(curve["frames"].diff().max()) if len(curve) > 1 else 0


def draw(folder: Path, path: Path, params: Params) -> None:
    """Return against frames, a panel a task and a line a seed, their mean, the goal, and published figures as marks."""
    curves = {task: [pd.read_csv(file) for file in sorted(folder.glob(f"{task}-[0-9]*.csv"))] for task in GOALS}
    shown = {task: runs for task, runs in curves.items() if runs}
    with return_panels(path, list(shown), "simulator frames", 5) as panels:
        for panel, (task, runs) in zip(panels, shown.items(), strict=True):
            for run in runs:
                panel.plot(in_frames(run, params, task)["frames"], run["return"], color=FAINT, label="one seed")
            mean = in_frames(mean_of(runs), params, task)
            panel.plot(mean["frames"], mean["return"], color=BLUE, label="mean of the seeds")
            for (name, points), mark in zip(PUBLISHED.get(task, {}).items(), "os", strict=False):
                panel.plot(list(points), list(points.values()), mark, color=INK, label=name)
            panel.axhline(GOALS[task], color=INK, linestyle=":", label="goal")


def main() -> None:
    """Run what is missing, then print, write and draw what is there."""
    parser = argparse.ArgumentParser(description="Time to return of the Dreamer.")
    parser.add_argument("--task", nargs="+", choices=list(GOALS), default=list(GOALS)[:3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/dreamer"))
    options = parser.parse_args()
    params = load(Path("params.yaml"))
    limit_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    for task in options.task:
        paths = {seed: options.out / f"{task}-{seed}.csv" for seed in options.seeds}
        missing = [seed for seed, path in paths.items() if options.again or not path.exists()]
        for seeds in [missing] if options.together and missing else [[seed] for seed in missing]:
            for seed, curve in train(params, task, seeds).items():
                write_atomically(paths[seed], curve.to_csv(index=False))
    table = summary(options.out)
    write_atomically(options.out / "times.csv", table.to_csv(index=False))
    beside = published(options.out, params)
    write_atomically(options.out / "published.csv", beside.to_csv(index=False))
    draw(options.out, options.out / "curves.png", params)
    print(table.to_string(index=False), beside.to_string(index=False, na_rep="-"), sep="\n\n")


if __name__ == "__main__":
    main()

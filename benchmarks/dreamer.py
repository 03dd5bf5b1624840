"""How long the Dreamer takes to a given return: wall clock, steps and updates, on several seeds.

    python -m benchmarks.dreamer [--task walker-walk ...] [--seeds 0 1 2] [--again] [--out reports/benchmarks/dreamer]

Trains a source agent as ``train_source`` does, with the settings of params.yaml, and judges the averaged actor on fresh
episodes every few hundred updates. The clock counts what training costs, environment included, and stands still while
the agent is judged. Each seed leaves a curve ``TASK-SEED.csv``; one that is already there is not run again unless asked
for. Writes times.csv and curves.png, which show every curve in the folder.

Sharing the machine slows the clock and nothing else: steps and updates are the same whatever else runs.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from telepath.config import Params, load
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import seed_episodes
from telepath.envs.suite import Environment
from telepath.evaluation.judge import judge
from telepath.files import write_atomically
from telepath.runtime.device import limit_threads
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


def train(params: Params, task: str, seed: int) -> pd.DataFrame:
    """seconds, steps, updates, return: one row a judgement."""
    settings = params.tasks[task]
    environment = Environment(task, settings.action_repeat, seed)
    begin = time.perf_counter()
    training = OnlineTraining(
        task,
        environment,
        seed_episodes(environment, params.source.seed_episodes, seed),
        params.dreamer,
        params.source.training,
        steps=settings.source_steps,
        seed=seed,
    )
    fresh = [Environment(task, settings.action_repeat, seed) for _ in range(EPISODES)]
    rows, judging = [], 0.0
    with Progress(f"{task} seed {seed}", training.update_budget, "updates") as progress:
        while training.updates < training.update_budget:
            figures = training.advance()
            if training.updates % EVERY == 0:
                pause = time.perf_counter()
                score = float(np.mean([episode.ret for episode in judge(fresh, training.agent.policy(seed=0), seed)]))
                judging += time.perf_counter() - pause
                rows.append(
                    (round(pause - begin - judging, 1), training.replay.steps, training.updates, round(score, 1))
                )
                figures["return"] = score
            progress.advance(1, steps=training.replay.steps, **figures)
    return pd.DataFrame(rows, columns=["seconds", "steps", "updates", "return"])


def summary(folder: Path) -> pd.DataFrame:
    """One row a curve in ``folder``: when it first reached its task's goal, and where it ended."""
    rows = []
    for path in sorted(folder.glob("*-[0-9]*.csv")):
        task, _, seed = path.stem.rpartition("-")
        curve = pd.read_csv(path)
        reached = curve[curve["return"] >= GOALS[task]]
        first = reached.iloc[0] if len(reached) else None
        rows.append(
            {
                "task": task,
                "seed": int(seed),
                "goal": GOALS[task],
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


def draw(folder: Path, path: Path) -> None:
    """Return against steps, a panel a task and a line a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*-[0-9]*.csv"))}
    tasks = [task for task in GOALS if any(name.startswith(task) for name in curves)]
    figure, axes = plt.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.2), squeeze=False, layout="constrained")
    for panel, task in zip(axes[0], tasks, strict=True):
        for name, curve in curves.items():
            if name.startswith(task):
                panel.plot(curve["steps"], curve["return"], label=f"seed {name.rpartition('-')[2]}")
        panel.axhline(GOALS[task], color="0.6", linewidth=0.8)
        panel.set(title=task, xlabel="steps", ylim=(0, 1000))
        panel.legend(frameon=False)
    axes[0, 0].set_ylabel("true return")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then print, write and draw what is there."""
    parser = argparse.ArgumentParser(description="Time to return of the Dreamer.")
    parser.add_argument("--task", nargs="+", choices=list(GOALS), default=list(GOALS)[:3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/dreamer"))
    options = parser.parse_args()
    params = load(Path("params.yaml"))
    limit_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    for task in options.task:
        for seed in options.seeds:
            path = options.out / f"{task}-{seed}.csv"
            if options.again or not path.exists():
                write_atomically(path, train(params, task, seed).to_csv(index=False))
    table = summary(options.out)
    write_atomically(options.out / "times.csv", table.to_csv(index=False))
    draw(options.out, options.out / "curves.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

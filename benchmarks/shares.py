"""Where the wall clock of a training goes. Called by ``python -m benchmarks.updates --profile``."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from telepath.config import load
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import Policy, seed_episodes
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.runtime.device import limit_threads
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch

Result = TypeVar("Result")


class Stopwatch:
    """Wall seconds by name; the clock of what is called inside of something timed runs for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._running: list[str] = []
        self._since = 0.0

    def timed(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """The same function, watched."""

        def watched(*arguments: Any, **named: Any) -> Result:
            self._switch(name, enter=True)
            try:
                return function(*arguments, **named)
            finally:
                self._switch(name, enter=False)

        return watched

    def _switch(self, name: str, *, enter: bool) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        if enter:
            self._running.append(name)
            self.calls[name] += 1
        else:
            self._running.pop()
        self._since = now


WATCHED = {
    "updates": "Learner.update: world model, reward, actor, critic",
    "acting": "the policy while it collects",
    "environment": "its steps and resets",
    "replay": "sampling, and adding episodes",
    "units": "refitting the observations' units",
    "progress": "what is logged",
    "checkpoints": "every 30 seconds",
    "rest": "everything else",
}


def profile(task: str, steps: int) -> pd.DataFrame:
    """Seconds, calls and share of the wall clock of each part of a source training of ``steps`` steps.

    As ``train_source`` does it: with its log, with checkpoints on disk, with the finalists' episodes, with the threads
    of TELEPATH_THREADS. Its seed episodes belong to ``collect_source`` and are not counted.
    """
    limit_threads()
    params = load(Path("params.yaml"))
    environment, watch = Environment(task, params.tasks[task].action_repeat, 0), Stopwatch()
    seeds = seed_episodes(environment, params.source.seed_episodes, 0)
    horizon = params.tasks[task].horizon
    training = OnlineTraining(
        task, environment, seeds, params.dreamer, params.source.training, steps=steps, seed=0, horizon=horizon
    )
    for owner, method, name in (
        (training.learner, "update", "updates"),
        (environment, "step", "environment"),
        (environment, "reset", "environment"),
        (training.replay, "sample", "replay"),
        (training.replay, "add", "replay"),
        (training.agent.model, "fit_units", "units"),
        (training.replay, "observations", "units"),
    ):
        setattr(owner, method, watch.timed(name, getattr(owner, method)))
    roll_out = training.roll_out

    def acting(policy: Policy) -> Episode:
        policy.act = watch.timed("acting", policy.act)  # type: ignore[method-assign]
        return roll_out(policy)

    training.roll_out = acting  # type: ignore[method-assign]
    with (
        tempfile.TemporaryDirectory() as folder,
        Scratch(Path(folder) / "scratch") as scratch,
        Progress(f"{task} profile", training.update_budget, "updates") as progress,
    ):
        progress.advance = watch.timed("progress", progress.advance)  # type: ignore[method-assign]
        scratch.save_if_due = watch.timed("checkpoints", scratch.save_if_due)  # type: ignore[method-assign]
        watch.timed("rest", training.run)(progress, scratch)
        scratch.clear()
    whole = sum(watch.seconds.values())
    return pd.DataFrame(
        {
            "part": name,
            "what": what,
            "calls": watch.calls[name],
            "seconds": round(watch.seconds[name], 2),
            "share": watch.seconds[name] / whole,
        }
        for name, what in WATCHED.items()
    )

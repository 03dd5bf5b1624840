"""Frames a second of ``telepath.envs.render`` and of dm_control's own rendering, on one core, with every backend.

    python -m benchmarks.render [--rounds 5] [--frames 200] [--size 64] [--out reports/benchmarks]

Both render the same motion in the same process, in turn, so that a busy machine slows both
alike; the best of the rounds counts. A frame is one of the simulator, moved and rendered. Writes render.csv.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from telepath.envs.gl import BACKENDS, INSTALL, failure_of
from telepath.runtime.environment import GL

TASKS = ("ball_in_cup-catch", "walker-walk", "cheetah-run")


def speed(step: Callable[[], object], frame: Callable[[], object], frames: int) -> float:
    """Frames a second of one round."""
    begin = time.perf_counter()
    for _ in range(frames):
        step()
        frame()
    return frames / (time.perf_counter() - begin)


def measure(task: str, rounds: int, frames: int, size: int) -> dict[str, float]:
    """Best of the rounds of both paths, in frames a second."""
    # Not before the environment variables are set.
    from telepath.envs.render import Camera
    from telepath.envs.suite import Environment

    own, default = (Environment(task, 1, 0, rewarded=False) for _ in range(2))
    action = np.zeros(own.action_dim)
    best = {"default": 0.0, "telepath": 0.0}
    with Camera(own.physics, size, size) as camera:
        paths = {
            "default": (default, lambda: default.physics.render(size, size, camera_id=0)),
            "telepath": (own, camera.frame),
        }
        for _ in range(rounds):
            for name, (environment, frame) in paths.items():
                environment.reseed(0, 0)
                environment.reset()
                frame()
                best[name] = max(best[name], speed(lambda e=environment: e.step(action), frame, frames))  # type: ignore[misc]
    return best


def measure_backend(backend: str, rounds: int, frames: int, size: int) -> list[tuple[str | int, ...]]:
    """A row a task: task, backend, size and both speeds. For a process of its own, since it has one backend only."""
    # dm_control reads MUJOCO_GL when it is imported, and libraries count the cores when they start their threads.
    os.environ[GL.name] = os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = backend
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[tuple[str | int, ...]] = []
    for task in TASKS:
        best = {name: round(value) for name, value in measure(task, rounds, frames, size).items()}
        print(
            f"{task:<20}{backend:<8}" + "".join(f"{name:>10}{value:>6}/s" for name, value in best.items()), flush=True
        )
        rows.append((task, backend, size, *best.values()))
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description="Frames a second.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    working = [backend for backend in BACKENDS if not failure_of(backend)]
    if not working:
        raise SystemExit(f"telepath: render: nothing can be rendered here; on Debian or Ubuntu: {INSTALL}")
    rows = []
    for backend in working:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            rows += apart.submit(measure_backend, backend, options.rounds, options.frames, options.size).result()
    options.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["task", "backend", "size", "default frames/s", "telepath frames/s"])
    table.to_csv(options.out / "render.csv", index=False)


if __name__ == "__main__":
    main()

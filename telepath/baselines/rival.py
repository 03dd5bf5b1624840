"""The game that all rivals play: what they may be given, and episode after episode in a target that pays nothing.

A rival is anything that adapts to the target by the episode. It takes of ``Allowed`` what its paper says it needs, and
the report says beside its return what that was. The target's reward is not among it: the target environment raises if
its reward is touched.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from telepath.alignment.rates import Rates
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.errors import UserError
from telepath.files import one_line
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.runtime.store import load_state, save_state

Figures = dict[str, float]
"""What an episode taught: losses and the like, none of it the true return."""


class Allowed(NamedTuple):
    """All that there is to be given.

    agent: the source's; simulator: the source's physics, without reward, at the *target's* action repeat; episodes:
    the source's, rewarded, at its own; target: without reward; steps: how many may be taken in it; seed: the target's.
    """

    agent: Agent
    simulator: Environment
    episodes: list[Episode]
    target: Environment
    rates: Rates
    steps: int
    seed: int


class Rival(Protocol):
    """Adapts to a target, resumably."""

    def episode(self, number: int) -> tuple[int, Figures]:
        """Act through episode ``number`` of the target and learn from it: the steps it took, and figures."""
        ...

    def artefact(self) -> dict[str, Any]:
        """The policy as a tree that ``store`` can hold, the source's part of it included."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs, between two episodes."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        ...


def episode_budget(target: Environment, steps: int) -> int:
    """Whole episodes that ``steps`` hold."""
    return steps // target.episode_steps


def adapt(rival: Rival, target: Environment, steps: int, progress: Progress, scratch: Scratch) -> pd.DataFrame:
    """Give the rival as many whole episodes as ``steps`` hold; continues from the checkpoint in ``scratch``.

    Returns a row an episode: episode, steps and divergences of the target's simulator (in all, after it), and the
    rival's figures. ``progress`` counts steps.
    """
    rows: list[dict[str, float]] = []
    if state := scratch.load():
        rival.restore(state["rival"])
        rows = state["rows"]
    taken, diverged = (int(rows[-1][name]) if rows else 0 for name in ("steps", "divergences"))
    progress.advance(taken)
    for number in range(len(rows), episode_budget(target, steps)):
        before = target.divergences
        count, figures = rival.episode(number)
        taken += count
        diverged += target.divergences - before
        rows.append({"episode": number, "steps": taken, "divergences": diverged} | figures)
        progress.advance(count, **figures)
        scratch.save_if_due(lambda: {"rival": rival.state(), "rows": rows})
    return pd.DataFrame(rows)


def save_policy(path: Path, name: str, task: str, artefact: dict[str, Any]) -> None:
    """Write what a rival has learnt, a tree that ``store`` can hold."""
    save_state(path, {"rival": name, "task": task} | artefact, kind="rival")


def read_policy(
    path: Path,
    name: str,
    task: str,
    build: Callable[[dict[str, Any], Path], Policy],
    dims: tuple[int, int] | None = None,
) -> Policy:
    """Read a rival's policy and ``build`` it from its artefact; one of another rival, task or ``dims`` (D and A, where
    they are known) is a ``UserError``.
    """
    stored = load_state(path, kind="rival")
    try:
        found = f"{stored['rival']} for {stored['task']}"
        if found == f"{name} for {task}":
            policy = build(stored, path)
            if dims is not None:
                # Its agent says what it is for, or the source's that it adapts; one that has neither says so itself.
                told = stored.get("agent", stored.get("source", stored))
                if (sizes := (told["observation_dim"], told["action_dim"])) != dims:
                    what = f"a policy for other dimensions ({one_line(sizes)}, not {dims})"
                    raise UserError(f"{path}: holds {what}; run `make rivals` to remake it")
            return policy
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: holds no policy ({one_line(error)}); run `make rivals` to remake it") from None
    raise UserError(f"{path}: holds {one_line(found)}, not {name} for {task}; run `make rivals` to remake it")


def resample(track: Array, rates: Rates) -> Array:
    """A source episode's observations (T, D) at the target's rate, (T', D) float32: straight lines in between.

    T' is as many target steps as fit into the episode's time. At common times the values are exact.
    """
    here = np.arange(len(track)) * rates.source_step_seconds
    count = 1 + int((len(track) - 1) * rates.ratio + 1e-9)
    there = np.arange(count) * rates.target_step_seconds
    return np.stack([np.interp(there, here, values) for values in track.T], 1).astype(np.float32)


def noisy(action: Array, std: float, rng: np.random.Generator) -> Array:
    """Actions (..., A) with Gaussian noise, within [-1, 1]."""
    return np.clip(action + std * rng.standard_normal(action.shape), -1, 1).astype(np.float32)

"""True returns, for the eyes of people alone: every agent on the same fresh episodes of its environment."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import pandas as pd

from telepath.envs.rollout import Keep, Policy, State, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode, total_divergences
from telepath.evaluation.scores import mean_interval
from telepath.runtime.resume import Scratch

EVALUATION_STREAM = 1_000_000
"""Episode numbers of the evaluation begin here: no training episode begins in the same state."""


def judge(
    environments: Sequence[Environment], policy: Policy, seed: int, kept: State | None = None, keep: Keep | None = None
) -> list[Episode]:
    """One episode of ``policy`` in each environment; the same seed gives every policy the same initial states.

    ``kept`` and ``keep``: see ``rollout``.
    """
    for number, environment in enumerate(environments):
        environment.reseed(seed, EVALUATION_STREAM + number)
    return rollout(environments, policy, kept=kept, keep=keep)


class Court:
    """Judges one policy after the other, all on the same episodes, and keeps what it has in the stage's scratch.

    Every verdict is a part; of the one that it is at there is a checkpoint.
    """

    def __init__(self, scratch: Scratch, seed: int):
        self.scratch, self.seed = scratch, seed
        self._done, self._begun = scratch.load_parts(), scratch.load()
        self._count = 0

    def judge(self, environments: Sequence[Environment], policy: Policy) -> list[Episode]:
        """One episode of the next policy in each environment."""
        number, self._count = self._count, self._count + 1
        if number not in self._done:
            begun = self._begun["rollout"] if self._begun and self._begun["number"] == number else None

            def keep(make_state: Callable[[], State]) -> None:
                self.scratch.save_if_due(lambda: {"number": number, "rollout": make_state()})

            episodes = judge(environments, policy, self.seed, begun, keep)
            self._done[number] = {"episodes": [asdict(episode) for episode in episodes]}
            self.scratch.save_part(number, self._done[number])
        return [Episode(**record) for record in self._done[number]["episodes"]]


def returns_table(judged: dict[str, list[Episode]]) -> pd.DataFrame:
    """agent, episode, return, divergences of the simulator: a row an episode."""
    rows = [
        (agent, number, episode.ret, episode.divergences)
        for agent, episodes in judged.items()
        for number, episode in enumerate(episodes)
    ]
    return pd.DataFrame(rows, columns=["agent", "episode", "return", "divergences"])


def rounds_table(steps: Sequence[int], rounds: list[list[Episode]], confidence: float) -> pd.DataFrame:
    """round, steps, return, low, high, divergences: true returns of every round's policy, for evaluation only."""
    rows = []
    for number, (count, episodes) in enumerate(zip(steps, rounds, strict=True)):
        mean, low, high = mean_interval([episode.ret for episode in episodes], confidence)
        rows.append((number, count, mean, low, high, total_divergences(episodes)))
    return pd.DataFrame(rows, columns=["round", "steps", "return", "low", "high", "divergences"])

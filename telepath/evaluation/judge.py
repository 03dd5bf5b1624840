"""True returns, read nowhere else: every agent on the same fresh episodes of its environment."""

from collections.abc import Sequence

import pandas as pd

from telepath.envs.rollout import Policy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.evaluation.scores import mean_interval

EVALUATION_STREAM = 1_000_000
"""Episode numbers of the evaluation begin here: no training episode begins in the same state."""


def judge(environments: Sequence[Environment], policy: Policy, seed: int, first: int = 0) -> list[Episode]:
    """One episode of ``policy`` in each environment; the same seed gives every policy the same initial states."""
    for number, environment in enumerate(environments):
        environment.reseed(seed, EVALUATION_STREAM + first + number)
    return rollout(environments, policy)


def returns_table(judged: dict[str, list[Episode]]) -> pd.DataFrame:
    """agent, episode, return: a row an episode."""
    rows = [(agent, n, episode.ret) for agent, episodes in judged.items() for n, episode in enumerate(episodes)]
    return pd.DataFrame(rows, columns=["agent", "episode", "return"])


def rounds_table(steps: Sequence[int], rounds: list[list[Episode]], confidence: float) -> pd.DataFrame:
    """round, steps, return, low, high: the true return of every round's policy, for evaluation only."""
    rows = []
    for number, (count, episodes) in enumerate(zip(steps, rounds, strict=True)):
        mean, low, high = mean_interval([episode.ret for episode in episodes], confidence)
        rows.append((number, count, mean, low, high))
    return pd.DataFrame(rows, columns=["round", "steps", "return", "low", "high"])

"""True returns, read nowhere else: every agent on the same fresh episodes of its environment."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from telepath.alignment.matching import SourcePool
from telepath.dreamer.agent import Agent
from telepath.dreamer.learner import filtered_features
from telepath.envs.rollout import Policy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.evaluation.scores import mean_interval
from telepath.transfer.reward import RewardEnsemble

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


@torch.no_grad()
def compare_rewards(
    judged: dict[str, list[Episode]], pool: SourcePool, agent: Agent, reward: RewardEnsemble, action_repeat: int
) -> dict[str, Array]:
    """True, inferred and predicted reward rate of every paid record of held-out episodes.

    true, inferred (by matching with the source), predicted (by the reward ensemble), confidence: (R,) float32; policy
    (R,): which of ``judged`` it was. Record 0 of an episode was paid nothing and is left out.
    """
    columns: dict[str, list[Array]] = {name: [] for name in ("true", "inferred", "predicted", "confidence", "policy")}
    for number, episodes in enumerate(judged.values()):
        for episode in episodes:
            assert episode.reward is not None
            labels = pool.label(episode.without_reward())
            columns["true"].append(episode.reward[1:] / np.float32(action_repeat))
            columns["inferred"].append(labels.rate[1:])
            columns["predicted"].append(reward(filtered_features(agent.model, episode)).numpy()[1:])
            columns["confidence"].append(labels.confidence[1:])
            columns["policy"].append(np.full(episode.steps, number, np.int32))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def rounds_table(steps: Sequence[int], rounds: list[list[Episode]], confidence: float) -> pd.DataFrame:
    """round, steps, return, low, high: the true return of every round's policy, for evaluation only."""
    rows = []
    for number, (count, episodes) in enumerate(zip(steps, rounds, strict=True)):
        mean, low, high = mean_interval([episode.ret for episode in episodes], confidence)
        rows.append((number, count, mean, low, high))
    return pd.DataFrame(rows, columns=["round", "steps", "return", "low", "high"])

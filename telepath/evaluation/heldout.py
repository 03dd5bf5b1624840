"""Inferred against true reward, on episodes that nothing was trained on."""

import numpy as np
import torch

from telepath.alignment.matching import SourcePool
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead
from telepath.dreamer.learner import filtered_features
from telepath.episodes import Array, Episode


@torch.no_grad()
def compare_rewards(
    judged: dict[str, list[Episode]], pool: SourcePool, agent: Agent, reward: RewardHead, action_repeat: int
) -> dict[str, Array]:
    """True, inferred and predicted reward rate of every paid record of held-out episodes.

    true, inferred (by matching with the source), predicted (by the reward head), confidence: (R,) float32; policy
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

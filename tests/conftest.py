"""Small settings and toy data that the tests share."""

import numpy as np
import pytest
import torch

from telepath.config import DreamerSettings, Params, load
from telepath.episodes import Episode

torch.set_num_threads(1)


@pytest.fixture
def params() -> Params:
    return load()


@pytest.fixture
def small(params: Params) -> DreamerSettings:
    """The default Dreamer, shrunk."""
    return params.dreamer.model_copy(
        update={"deter": 12, "stoch": 4, "hidden": 16, "batch": 4, "length": 8, "starts": 8, "horizon": 3}
    )


def counting_episode(number: int, records: int, *, rewarded: bool = True, terminal: bool = False) -> Episode:
    """An episode in which every value says where it belongs: observation = [episode, t], action = reward = t."""
    t = np.arange(records, dtype=np.float32)
    observation = np.stack([np.full_like(t, number), t], 1)
    return Episode(observation, t[:, None].copy(), t.copy() if rewarded else None, terminal)

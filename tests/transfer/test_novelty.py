import numpy as np
import pytest
import torch
from torch import Tensor

from telepath.dreamer.replay import Batch, Lesson
from telepath.dreamer.rssm import WorldModel
from telepath.settings import DreamerSettings
from telepath.transfer.novelty import Disagreement


@pytest.fixture
def learnt(small: DreamerSettings) -> tuple[Disagreement, Tensor, Tensor]:
    """Predictors that know some states, features of those, and features of others."""
    torch.manual_seed(0)
    model = WorldModel(2, 1, small)
    disagreement = Disagreement(model, small, 5)
    optimizer = torch.optim.Adam(disagreement.parameters(), 3e-3)
    lesson = Lesson(Batch(*[torch.zeros(1)] * 5, np.zeros(1), np.zeros(1)))
    known = torch.randn(6, 20, model.deter) * 0.3
    latent = model.initial(1)._replace(deter=known, stoch=torch.tanh(known[..., : model.stoch]))
    for _ in range(300):
        optimizer.zero_grad()
        disagreement.loss(latent, lesson)[0].backward()
        optimizer.step()
    far = torch.cat([3 + torch.randn(50, model.deter), torch.zeros(50, model.stoch)], -1)
    near = torch.cat([known.flatten(0, 1), torch.zeros(120, model.stoch)], -1)
    return disagreement, near, far


def test_disagreement_is_high_where_nothing_was_learnt(learnt: tuple[Disagreement, Tensor, Tensor]) -> None:
    disagreement, near, far = learnt
    assert disagreement(far).mean() > 5 * disagreement(near).mean()

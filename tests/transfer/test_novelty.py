import numpy as np
import pytest
import torch
from torch import Tensor, nn

from telepath.dreamer.replay import Batch
from telepath.dreamer.rssm import WorldModel
from telepath.settings import DreamerSettings
from telepath.transfer.novelty import Cautious, Disagreement


@pytest.fixture
def learnt(small: DreamerSettings) -> tuple[Disagreement, Tensor, Tensor]:
    """Predictors that know some states, features of those, and features of others."""
    torch.manual_seed(0)
    model = WorldModel(2, 1, small)
    disagreement = Disagreement(model, small, 5)
    optimizer = torch.optim.Adam(disagreement.parameters(), 3e-3)
    batch = Batch(*[torch.zeros(1)] * 5, np.zeros(1), np.zeros(1))
    known = torch.randn(6, 20, model.deter) * 0.3
    latent = model.initial(1)._replace(deter=known, stoch=torch.tanh(known[..., : model.stoch]))
    for _ in range(300):
        optimizer.zero_grad()
        disagreement.loss(latent, batch).backward()
        optimizer.step()
    far = torch.cat([3 + torch.randn(50, model.deter), torch.zeros(50, model.stoch)], -1)
    near = torch.cat([known.flatten(0, 1), torch.zeros(120, model.stoch)], -1)
    return disagreement, near, far


def test_disagreement_is_high_where_nothing_was_learnt(learnt: tuple[Disagreement, Tensor, Tensor]) -> None:
    disagreement, near, far = learnt
    assert disagreement(far).mean() > 5 * disagreement(near).mean()


def test_what_is_as_well_known_as_the_replay_costs_nothing(learnt: tuple[Disagreement, Tensor, Tensor]) -> None:
    disagreement, near, far = learnt

    class Paid(nn.Module):
        def forward(self, feature: Tensor) -> Tensor:
            return torch.full(feature.shape[:-1], 0.5)

    cautious = Cautious(Paid(), disagreement, caution=2.0)
    known = disagreement(near) <= 1
    assert known.any()
    assert (cautious(near)[known] == 0.5).all()
    torch.testing.assert_close(cautious(far), 0.5 - 2 * (disagreement(far) - 1))
    assert cautious(far).mean() < -5

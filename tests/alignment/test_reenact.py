"""Re-enactment finds what it finds when it is written down plainly, one operation after the other."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.plain import Way, going, torch_loop
from telepath.alignment import reenact
from telepath.alignment.belief import BeliefNet
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.alignment.segments import FrameScale, Segments
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.episodes import Array
from telepath.settings import DreamerSettings
from tests.alignment.test_dtw import oracle

OBSERVATION, ACTION, SEGMENTS = 5, 2, 6


def plain_path(*arguments: Any, **how: Any) -> tuple[Array, float]:
    """``dtw_path`` as it is defined, in float64."""
    cost, path = oracle(*arguments, **how)
    return path, float(cost)


@pytest.mark.parametrize(("source_repeat", "target_repeat"), [(2, 2), (3, 2), (1, 2)])
def test_the_same_seeds_give_the_labels_of_plain_torch(
    params: Params, small: DreamerSettings, monkeypatch: pytest.MonkeyPatch, source_repeat: int, target_repeat: int
) -> None:
    """Belief, policy, search, warping and rewards with the engine, and with the formulas that it replaced."""
    torch.manual_seed(0)
    agent = Agent("point", OBSERVATION, ACTION, small)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # norms and biases that begin at 1 and 0 show no mistake
    agent.model.fit_units(2 * torch.randn(40, OBSERVATION) + 1)
    belief = BeliefNet(OBSERVATION, agent.model.feature_dim, params.belief)
    cem = params.label.cem.model_copy(update={"iterations": 3, "population": 24})
    settings = params.label.model_copy(update={"prefix": 3, "reference": 8, "initial_latents": 2, "cem": cem})
    scale = FrameScale(np.linspace(0.2, 0.6, OBSERVATION, dtype=np.float32))
    reenactor = Reenactor(agent.model, belief, scale, Rates(source_repeat, target_repeat, 0.02), settings)
    rng = np.random.default_rng(0)
    prefix, reference = (rng.standard_normal((SEGMENTS, n, OBSERVATION), dtype=np.float32) for n in (3, 8))
    paid = rng.random((SEGMENTS, 8), dtype=np.float32)
    segments = Segments(prefix, reference, paid, np.zeros((SEGMENTS, 2), np.int64))

    def labels() -> Alignments:
        return reenactor.align(segments, np.arange(SEGMENTS), agent.behavior.steady)

    found = labels()
    with going(Way(torch_loop)):
        monkeypatch.setattr(reenact, "dtw_path", plain_path)
        expected = labels()
    np.testing.assert_array_equal(found.noise, expected.noise)
    np.testing.assert_array_equal(found.path, expected.path)
    np.testing.assert_allclose(found.actions, expected.actions, atol=1e-5)
    for name in ("observation", "rate", "coverage", "cost", "history"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4, err_msg=name)
    assert (np.diff(found.history, axis=0) < 0).any(), "the search has found nothing, so nothing is shown"

from collections.abc import Callable

import numpy as np
import pytest
import torch

from telepath.baselines.bco import Bco, ClonedPolicy, histories, transitions
from telepath.baselines.regression import Regressor
from telepath.baselines.rival import Allowed, adapt
from telepath.episodes import Array, Episode
from telepath.rival_settings import BcoSettings
from tests.baselines.conftest import demonstrations
from tests.conftest import Counting, NoScratch


class Attracted:
    """Pushes towards the origin, at most half as hard as it could."""

    def reset(self, batch: int) -> None: ...

    def act(self, observation: Array) -> Array:
        return np.clip(-0.4 * observation[:, :1] - 0.6 * observation[:, 1:], -0.5, 0.5).astype(np.float32)


@pytest.fixture
def attracted() -> list[Episode]:
    return demonstrations(Attracted())


def trained(allowed: Allowed, settings: BcoSettings) -> Bco:
    rival = Bco(allowed, settings)
    adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
    return rival


def test_the_inverse_model_recovers_the_action_of_a_linear_system(
    allow: Callable[..., Allowed], bco: BcoSettings, attracted: list[Episode]
) -> None:
    rival = trained(allow(gain=1.0, steps=800, episodes=attracted), bco)
    best = sorted(attracted, key=lambda episode: -episode.ret)[: bco.demonstrations]
    true = np.concatenate([episode.action[1:-1] for episode in best])
    assert np.abs(rival.labels().numpy() - true).mean() < 0.04


def test_a_weaker_target_is_asked_for_more(
    allow: Callable[..., Allowed], bco: BcoSettings, attracted: list[Episode]
) -> None:
    rival = trained(allow(gain=0.5, steps=800, episodes=attracted), bco)
    best = sorted(attracted, key=lambda episode: -episode.ret)[: bco.demonstrations]
    true = torch.from_numpy(np.concatenate([episode.action[1:-1] for episode in best]))
    labels = rival.labels()
    assert float((labels * true).sum() / true.square().sum()) == pytest.approx(2, abs=0.2)


def test_the_clone_acts_as_the_source_did(
    allow: Callable[..., Allowed], bco: BcoSettings, attracted: list[Episode]
) -> None:
    rival = trained(allow(gain=1.0, steps=800, episodes=attracted), bco)
    policy = ClonedPolicy(rival.clone, bco.history)
    observation = np.concatenate([episode.observation for episode in attracted])
    policy.reset(len(observation))
    assert np.abs(policy.act(observation) - Attracted().act(observation)).mean() < 0.06


def test_the_best_episodes_are_cloned(
    allow: Callable[..., Allowed], bco: BcoSettings, attracted: list[Episode]
) -> None:
    rival = Bco(allow(episodes=attracted), bco.model_copy(update={"demonstrations": 1}))
    best = max(attracted, key=lambda episode: episode.ret)
    np.testing.assert_array_equal(rival.moves[:, :2], best.observation[:-2])


def test_nothing_is_learnt_from_last_steps_which_may_be_shorter(
    allow: Callable[..., Allowed], bco: BcoSettings, attracted: list[Episode]
) -> None:
    allowed = allow(episodes=attracted)
    rival = Bco(allowed, bco)
    whole = len(attracted[0]) - 2
    assert len(rival.moves) == len(rival.moments) == bco.demonstrations * whole
    steps, _ = rival.episode(0)
    assert len(rival.pairs) == steps - 1


def test_a_transition_is_an_observation_and_its_change() -> None:
    track = torch.tensor([[1.0, 10.0], [2.0, 30.0], [4.0, 30.0]])
    assert transitions(track).tolist() == [[1, 10, 1, 20], [2, 30, 2, 0]]


def test_a_history_begins_with_the_first_observation_repeated() -> None:
    track = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert histories(track, 3).tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert torch.equal(histories(track, 1), track)


def test_the_policy_sees_the_histories_that_it_was_trained_on() -> None:
    class Seen(Regressor):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs.clone())
            return super().forward(inputs)

    seen: list[torch.Tensor] = []
    track = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    policy = ClonedPolicy(Seen(3, 1, 4), 3)
    for _ in range(2):
        seen.clear()
        policy.reset(1)
        for row in track:
            assert policy.act(row[None].numpy()).shape == (1, 1)
        assert torch.equal(torch.cat(seen), histories(track, 3))

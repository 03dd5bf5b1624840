from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from telepath.baselines.aime import Aime, evidence
from telepath.baselines.rival import Allowed, adapt
from telepath.dreamer.networks import Gaussian
from telepath.dreamer.rssm import Latent
from telepath.episodes import Episode
from telepath.rival_settings import AimeSettings
from tests.baselines.conftest import demonstrations
from tests.baselines.test_bco import Attracted
from tests.conftest import Counting, NoScratch


class Line:
    """A world in which an action is the step that is taken, and which believes what it sees."""

    action_dim = 1

    def initial(self, batch: int) -> Latent:
        return Latent(torch.zeros(batch, 1), torch.zeros(batch, 1))

    def squash(self, observation: Tensor) -> Tensor:
        return observation

    embed = squash

    def recur(self, latent: Latent, action: Tensor) -> Tensor:
        return latent.stoch + action

    def prior(self, deter: Tensor) -> Gaussian:
        return Gaussian(deter, torch.full_like(deter, 0.2))

    def posterior(self, deter: Tensor, embedding: Tensor) -> Gaussian:
        return Gaussian(embedding, torch.full_like(embedding, 1e-3))

    def decoder(self, feature: Tensor) -> Tensor:
        return feature[:, 1:]


def bound_of(actions: Tensor, track: Tensor) -> Tensor:
    steps = iter(actions)
    generator = torch.Generator().manual_seed(0)
    return evidence(Line(), lambda feature: next(steps), track, 1.0, generator)  # type: ignore[arg-type]


def test_the_evidence_is_highest_at_the_actions_that_were_taken() -> None:
    track = torch.tensor([0.0, 0.3, 0.1, 0.8, 0.7]).reshape(5, 1, 1)
    true = torch.cat([track[1:] - track[:-1], torch.zeros(1, 1, 1)])
    inferred = torch.zeros(5, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([inferred], 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        (-bound_of(inferred, track)).backward()
        optimizer.step()
    np.testing.assert_allclose(inferred.detach()[:4], true[:4], atol=0.02)
    assert bound_of(inferred, track) > bound_of(true + 0.2, track) > bound_of(true + 0.5, track)


def test_the_evidence_of_a_wrong_action_is_known_in_closed_form() -> None:
    # KL of equal spreads and means d apart: d^2 / (2 s^2); everything else does not depend on the actions.
    track = torch.zeros(3, 1, 1)
    right, wrong = (bound_of(torch.full((3, 1, 1), d), track) for d in (0.0, 0.4))
    assert float(right - wrong) == pytest.approx(0.4**2 / (2 * 0.2**2), rel=0.02)


def test_the_policy_comes_to_act_as_the_source_did_and_stronger_where_the_motor_is_weak(
    allow: Callable[..., Allowed], aime: AimeSettings
) -> None:
    shown = demonstrations(Attracted(), 6)
    found = {}
    for gain in (1.0, 0.5):
        allowed = allow(gain=gain, steps=800, episodes=shown)
        rival = Aime(allowed, aime.model_copy(update={"update_ratio": 1.0, "lr": 3e-3, "random": 0.6}))
        curve = adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
        assert curve["evidence"].iloc[-3:].mean() > curve["evidence"].iloc[:3].mean()
        found[gain] = slope_on(rival, shown)
    assert found[1.0] == pytest.approx(1, abs=0.35)
    assert found[0.5] > 1.3 * found[1.0]


def slope_on(rival: Aime, shown: list[Episode]) -> float:
    """The policy's mean actions along the demonstrations, per unit of the source's."""
    policy = rival.agent.policy(noise=0.0)
    policy.reset(len(shown))
    taken = np.stack([policy.act(np.stack([e.observation[t] for e in shown])) for t in range(len(shown[0]) - 1)])
    true = np.stack([episode.action[1:] for episode in shown], 1)
    return float((taken * true).sum() / np.square(true).sum())


def test_improving_the_policy_leaves_the_model_alone(allow: Callable[..., Allowed], aime: AimeSettings) -> None:
    rival = Aime(allow(gain=0.5, steps=400), aime)
    rival.episode(0)
    before = {name: value.clone() for name, value in rival.agent.model.state_dict().items()}
    rival.explain()
    assert all(torch.equal(value, before[name]) for name, value in rival.agent.model.state_dict().items())
    assert all(parameter.grad is None for parameter in rival.agent.model.parameters())


def test_the_last_step_of_a_demonstration_which_may_be_shorter_is_not_shown(
    allow: Callable[..., Allowed], aime: AimeSettings
) -> None:
    allowed = allow(gain=1.0, steps=400, episodes=demonstrations(Attracted(), 2))
    shown = Aime(allowed, aime).shown.episodes
    assert {len(episode) for episode in shown} == {len(allowed.episodes[0]) - 1}

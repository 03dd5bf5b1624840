from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from telepath.alignment.cem import Cost
from telepath.alignment.rates import Rates
from telepath.baselines.home import LearnedSource, SimulatedSource, begins_in
from telepath.baselines.pada import (
    AdaptedPolicy,
    Deviation,
    Difference,
    Habit,
    Pada,
    adapted_action,
)
from telepath.baselines.rival import Allowed, adapt
from telepath.config import Params
from telepath.envs.gaps import target_environment
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.errors import UserError
from telepath.rival_settings import PadaSettings, PlainPadaSettings
from telepath.runtime.device import limit_threads
from telepath.settings import CemSettings, GapSettings
from tests.baselines.conftest import plain
from tests.conftest import Counting, NoScratch


def streams(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in range(count)]


def trained(allowed: Allowed, settings: PlainPadaSettings) -> Pada:
    rival = Pada(allowed, settings)
    adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
    return rival


class Known(Deviation):
    """A deviation that is known: s' - f_source = gain * action - wanted, every dimension with its own weight."""

    def __init__(self, gain: float):
        super().__init__(3, 3, 4)
        self.gain = gain

    def cost(self, observation: Tensor, wanted: Tensor) -> Cost:
        def cost(candidates: Tensor, rows: Tensor) -> Tensor:
            missed = self.gain * candidates.squeeze(2) - wanted[rows].unsqueeze(1)
            return (missed * torch.tensor([1.0, 3.0, 0.5])).square().mean(-1)

        return cost


def test_the_search_finds_the_minimum_of_a_quadratic_in_every_row(params: Params) -> None:
    wanted = torch.tensor([[0.2, -0.3, 0.0], [0.5, 0.5, -0.45], [0.0, 0.0, 0.0]])
    found = adapted_action(Known(0.5), torch.zeros(3, 3), wanted, params.rivals.pada.cem, streams(3))
    np.testing.assert_allclose(found, 2 * wanted, atol=0.02)


def test_where_nothing_deviates_the_source_s_own_action_is_kept(params: Params) -> None:
    wanted = torch.tensor([[0.2, -0.3, 0.9]])
    found = adapted_action(Known(1.0), torch.zeros(1, 3), wanted, params.rivals.pada.cem, streams(1))
    assert torch.equal(found, wanted)


def test_a_row_does_not_depend_on_its_neighbours(params: Params) -> None:
    wanted = torch.tensor([[0.2, -0.3, 0.0], [0.5, 0.5, -0.45]])
    both = adapted_action(Known(0.5), torch.zeros(2, 3), wanted, params.rivals.pada.cem, streams(2))
    alone = adapted_action(Known(0.5), torch.zeros(1, 3), wanted[:1], params.rivals.pada.cem, streams(1))
    np.testing.assert_allclose(both[:1], alone, atol=1e-6)


@pytest.mark.parametrize("kind", [Deviation, Difference])
def test_what_the_search_minimises_is_the_deviation_in_units_of_the_spread(kind: type[Deviation]) -> None:
    torch.manual_seed(0)
    deviation = kind(3, 2, 16)
    deviation.scale.copy_(torch.tensor([0.5, 1.0, 2.0]))
    inputs = torch.randn(50, deviation.seen)
    deviation.regressor.fit_units(1 + 2 * inputs, torch.randn(50, 3))
    observation, wanted, actions = torch.randn(4, 3), torch.rand(4, 2), torch.rand(4, 7, 2)
    rows = torch.tensor([3, 1])
    found = deviation.cost(observation, wanted)(actions[rows].unsqueeze(2), rows)
    seen, asked = (part[rows].unsqueeze(1).expand(2, 7, -1) for part in (observation, wanted))
    expected = (deviation(seen, asked, actions[rows]) / deviation.scale).square().mean(-1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clone", [False, True])
def test_a_second_thread_changes_no_bit(
    allow: Callable[..., Allowed], pada: PadaSettings, clone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("TELEPATH_THREADS", threads)
        limit_threads()
        rival = trained(allow(gain=0.5, steps=320), pada.model_copy(update={"clone": clone}))
        policy = AdaptedPolicy(rival.source.policy(), rival.deviation, pada.cem, rival.habit)
        policy.reset(3)
        found.append((rival.deviation(*grid(), grid()[1]), policy.act(grid()[0][:3].numpy())))
    (one, action), (two, other) = found
    assert torch.equal(one, two)
    np.testing.assert_array_equal(action, other)


def test_a_budget_that_the_first_steps_use_up_is_named(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    with pytest.raises(UserError, match=r"^rivals\.pada\.first_steps: 160 leave nothing of the 160 target steps"):
        Pada(allow(steps=170), pada)
    with pytest.raises(UserError, match=r"^rivals\.pada_model\.first_steps"):
        Pada(allow(steps=170), plain(pada))
    Pada(allow(steps=200), pada)


@pytest.mark.parametrize("task", ["ball_in_cup-catch", "reacher-easy", "walker-walk"])
def test_the_simulator_at_the_target_s_state_goes_where_identical_dynamics_go(task: str) -> None:
    target = target_environment(task, GapSettings(action_repeat=2), 5, rewarded=False)
    dynamics = SimulatedSource(Environment(task, 2, 5, rewarded=False))
    rng = np.random.default_rng(0)
    target.reseed(5, 9)
    dynamics.begin(5, 9)
    observation = target.reset()
    for _ in range(10):
        action = rng.uniform(-1, 1, target.action_dim)
        expected = dynamics.next(target.physics_state(), observation, action)
        observation = target.step(action).observation
        np.testing.assert_allclose(observation, expected, atol=1e-5)


def grid() -> tuple[Tensor, Tensor]:
    """States on the way and source actions, (n, 2) and (n, 1)."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.rand(200, 2, generator=generator) * torch.tensor([1.0, 0.4]) - torch.tensor([0.8, 0.2])
    return observation, torch.linspace(-0.4, 0.4, 200)[:, None]


def test_identical_dynamics_do_not_deviate_and_the_source_s_action_stays(
    allow: Callable[..., Allowed], pada: PadaSettings
) -> None:
    rival = trained(allow(gain=1.0, steps=600), pada)
    observation, wanted = grid()
    with torch.no_grad():
        missed = rival.deviation(observation, wanted, wanted)
        far = rival.deviation(observation, wanted, -wanted)
    assert missed.abs().mean() < 0.1 * far.abs().mean()
    assert missed.abs().max() < 0.03
    found = adapted_action(rival.deviation, observation, wanted, pada.cem, streams(200))
    assert (found - wanted).abs().mean() < 0.06


def test_half_the_gain_asks_for_twice_the_action(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    rival = trained(allow(gain=0.5, steps=800), pada)
    observation, wanted = grid()
    found = adapted_action(rival.deviation, observation, wanted, pada.cem, streams(200))
    slope = float((found * wanted).sum() / wanted.square().sum())
    assert slope == pytest.approx(2, abs=0.2)
    assert (found - 2 * wanted).abs().mean() < 0.1


def test_adapting_makes_the_target_miss_less(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    allowed = allow(gain=0.5, steps=800)
    quiet = pada.model_copy(update={"first_noise": 0.3, "noise": 0.0})
    rival = Pada(allowed, quiet)
    curve = adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
    assert curve["steps"].tolist() == list(range(40, 801, 40))
    missed = curve["deviation"].to_numpy()
    assert missed[-5:].mean() < 0.3 * missed[:4].mean()


def test_a_learnt_source_predicts_like_the_real_one(source_episodes: list[Episode], pada: PadaSettings) -> None:
    torch.manual_seed(0)
    learned = LearnedSource(source_episodes, Rates(1, 1, 0.1), pada, 0)
    episode = source_episodes[0]
    guesses = [
        learned.next(np.zeros(0), o, a) for o, a in zip(episode.observation[:-1], episode.action[1:], strict=True)
    ]
    error = np.abs(np.stack(guesses) - episode.observation[1:]).max(0)
    moved = np.abs(np.diff(episode.observation, axis=0)).max(0)
    assert (error < 0.1 * moved).all()


def test_a_learnt_source_learns_nothing_from_last_steps_which_may_be_shorter(
    source_episodes: list[Episode], pada: PadaSettings
) -> None:
    def learned(last: float) -> Array:
        episodes = [
            replace(episode, observation=np.concatenate([episode.observation[:-1], episode.observation[-1:] + last]))
            for episode in source_episodes
        ]
        torch.manual_seed(0)
        model = LearnedSource(episodes, Rates(1, 1, 0.1), pada, 0)
        return model.next(np.zeros(0), source_episodes[0].observation[3], source_episodes[0].action[4])

    np.testing.assert_array_equal(learned(0.0), learned(5.0))


def test_a_clone_sees_in_units_of_what_it_was_shown(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    rival = trained(allow(gain=0.5, steps=400), pada.model_copy(update={"clone": True}))
    assert rival.habit is not None
    clone, deviation = rival.habit.regressor, rival.deviation.regressor
    torch.testing.assert_close(clone.center, deviation.center[: len(clone.center)])
    torch.testing.assert_close(clone.spread, deviation.spread[: len(clone.spread)])
    assert torch.equal(clone.size, torch.ones_like(clone.size))


def test_a_learnt_source_also_serves(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    rival = trained(allow(gain=0.5, steps=800), pada.model_copy(update={"source": "learned"}))
    observation, wanted = grid()
    found = adapted_action(rival.deviation, observation, wanted, pada.cem, streams(200))
    assert float((found * wanted).sum() / wanted.square().sum()) == pytest.approx(2, abs=0.3)


def test_the_plain_form_also_asks_for_twice_the_action(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    rival = trained(allow(gain=0.5, steps=800), plain(pada))
    observation, wanted = grid()
    found = adapted_action(rival.deviation, observation, wanted, pada.cem, streams(200))
    assert float((found * wanted).sum() / wanted.square().sum()) == pytest.approx(2, abs=0.3)


def test_two_equal_models_differ_by_what_two_actions_do() -> None:
    torch.manual_seed(0)
    difference = Difference(2, 1, 8)
    difference.source.load_state_dict(difference.regressor.state_dict())
    observation, action = torch.randn(5, 2), torch.randn(5, 1)
    assert torch.equal(difference(observation, action, action), torch.zeros(5, 2))
    assert difference(observation, action, -action).abs().min() > 0


def test_a_search_that_begins_at_a_habit_is_still_free_and_keeps_the_source_s_action(params: Params) -> None:
    class Timid(Habit):
        def forward(self, observation: Tensor, wanted: Tensor) -> Tensor:
            return 0.5 * wanted

    wanted = torch.tensor([[0.2, -0.3, 0.0], [0.5, 0.5, -0.45]])
    cem = params.rivals.pada.cem
    found = adapted_action(Known(0.5), torch.zeros(2, 3), wanted, cem, streams(2), Timid(3, 3, 4))
    np.testing.assert_allclose(found, 2 * wanted, atol=0.02)
    narrow = cem.model_copy(update={"initial_std": 1e-6})
    kept = adapted_action(Known(1.0), torch.zeros(2, 3), wanted, narrow, streams(2), Timid(3, 3, 4))
    assert torch.equal(kept, wanted)


def test_the_habit_becomes_what_the_search_finds(allow: Callable[..., Allowed], pada: PadaSettings) -> None:
    rival = trained(allow(gain=0.5, steps=1200), pada.model_copy(update={"clone": True}))
    assert rival.habit is not None
    observation, wanted = grid()
    assert float((rival.habit(observation, wanted) * wanted).sum() / wanted.square().sum()) == pytest.approx(2, abs=0.3)


def test_a_target_step_begins_in_a_source_step() -> None:
    assert begins_in(6, Rates(6, 3, 0.1)).tolist() == [0, 0, 1, 1, 2, 2]
    assert begins_in(3, Rates(2, 4, 0.1)).tolist() == [0, 2, 4]
    assert begins_in(9, Rates(3, 1, 0.1)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_settings_for_the_search_are_those_of_the_paper(params: Params) -> None:
    cem: CemSettings = params.rivals.pada.cem
    assert (cem.iterations, cem.population, cem.elite_fraction, cem.momentum) == (10, 200, 0.2, 0)
    assert (cem.initial_std, params.rivals.pada.hidden) == (0.5, 256)

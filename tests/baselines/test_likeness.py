"""The measures on closed forms, and what they say of the point on a line."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from telepath.alignment.labeller import Labeller
from telepath.alignment.rates import Rates
from telepath.alignment.segments import FrameScale
from telepath.baselines import transport
from telepath.baselines.catalogue import make_labeller
from telepath.baselines.coverage import ordered_coverage, subgoals, temperature
from telepath.baselines.discriminator import DiscriminatorLabels, fit_discriminator, moves
from telepath.baselines.likeness import LikenessLabels, Standing, squared_distances
from telepath.baselines.temporal_transport import banded, context_cost, temporal_likeness
from telepath.baselines.transport import sinkhorn, transport_likeness, transport_reward
from telepath.config import Params
from telepath.envs.rollout import RandomPolicy
from telepath.episodes import Array, Episode
from tests.baselines.conftest import demonstrations
from tests.baselines.test_bco import Attracted


def exact_plan(cost: Array) -> Array:
    """The plan between uniform heaps by a linear program; infinite costs forbid."""
    length, width = cost.shape
    rows = np.kron(np.eye(length), np.ones(width))
    columns = np.kron(np.ones(length), np.eye(width))
    marginals = np.concatenate([np.full(length, 1 / length), np.full(width, 1 / width)])
    bounds = [(0, 0 if np.isinf(c) else None) for c in cost.ravel()]
    finite = np.where(np.isfinite(cost), cost, 0).ravel()
    found = linprog(finite, A_eq=np.concatenate([rows, columns]), b_eq=marginals, bounds=bounds)
    assert found.success
    return np.asarray(found.x).reshape(cost.shape)


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 4)])
@pytest.mark.parametrize("reach", [None, 2])
def test_sinkhorn_comes_to_the_linear_program_s_plan(shape: tuple[int, int], reach: int | None) -> None:
    cost = np.random.default_rng(0).uniform(0, 1, shape)
    if reach is not None:
        cost = banded(cost, reach)
    plan, exact = sinkhorn(cost, 0.002, 4000), exact_plan(cost)
    np.testing.assert_allclose(plan.sum(1), 1 / shape[0], rtol=1e-9)
    np.testing.assert_allclose(plan.sum(0), 1 / shape[1], rtol=1e-3)
    finite = np.where(np.isfinite(cost), cost, 0)
    assert (finite * plan).sum() == pytest.approx((finite * exact).sum(), rel=5e-3)
    np.testing.assert_allclose(plan, exact, atol=0.02)
    assert (plan[np.isinf(cost)] == 0).all()


def test_a_large_epsilon_spreads_the_mass_evenly() -> None:
    plan = sinkhorn(np.random.default_rng(0).uniform(0, 1, (4, 6)), 1e4, 50)
    np.testing.assert_allclose(plan, 1 / 24, rtol=1e-3)


def test_a_small_epsilon_does_not_underflow() -> None:
    cost = np.array([[0.0, 5e3], [5e3, 0.0]])
    np.testing.assert_allclose(sinkhorn(cost, 1.0, 100), [[0.5, 0], [0, 0.5]], atol=1e-9)
    # Nor where every frame but one is nearest to the same one, and all others are far away.
    cost = np.array([[0.0, 4e3, 5e3], [0.0, 6e3, 9e3], [0.0, 7e3, 8e3]])
    np.testing.assert_allclose(sinkhorn(cost, 1.0, 20000).sum(0), 1 / 3, rtol=1e-3)


def test_plain_numbers_between_logarithms_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = banded(np.random.default_rng(0).exponential(1, (40, 50)), 6)
    found = sinkhorn(cost, 0.01, 60)
    monkeypatch.setattr(transport, "PLAIN", 0)
    np.testing.assert_allclose(found, sinkhorn(cost, 0.01, 60), rtol=1e-9, atol=1e-15)


def test_the_transport_reward_of_a_shifted_point_is_its_squared_distance() -> None:
    shown = np.array([[0.0, 0], [10, 0], [20, 0]], np.float32)
    cost = squared_distances(shown[::-1] + np.array([0, 2], np.float32), shown)
    # Order does not matter to plain transport.
    np.testing.assert_allclose(transport_reward(cost, 0.001, 500), [-4, -4, -4], rtol=1e-4)


def test_temporal_transport_pays_only_what_comes_in_time(params: Params) -> None:
    settings = params.rivals.temporal_ot.model_copy(update={"reach": 2, "context": 1})
    shown = np.stack([np.arange(20.0), np.zeros(20)], 1).astype(np.float32)
    plain = transport_likeness(params.rivals.ot)
    temporal = temporal_likeness(settings)
    assert plain(shown[::-1], shown).mean() == pytest.approx(plain(shown, shown).mean(), abs=1e-6)
    assert temporal(shown, shown).mean() > temporal(shown[::-1], shown).mean() + 10


def test_the_context_cost_is_the_mean_along_the_diagonal() -> None:
    cost = np.arange(12.0).reshape(3, 4)
    expected = [
        [(0 + 5) / 2, (1 + 6) / 2, (2 + 7) / 2, 3],
        [(4 + 9) / 2, (5 + 10) / 2, (6 + 11) / 2, 7],
        [8, 9, 10, 11],
    ]
    np.testing.assert_allclose(context_cost(cost, 2), expected)
    np.testing.assert_array_equal(context_cost(cost, 1), cost)


@pytest.mark.parametrize("shape", [(5, 5), (20, 6), (6, 20), (1, 4), (4, 1)])
def test_a_band_leaves_every_row_and_column_a_way(shape: tuple[int, int]) -> None:
    cost = banded(np.ones(shape), 1)
    assert np.isfinite(cost).any(0).all()
    assert np.isfinite(cost).any(1).all()
    np.testing.assert_allclose(sinkhorn(cost, 0.1, 3000).sum(0), 1 / shape[1], rtol=0.02)


def test_ordered_coverage_on_a_case_done_by_hand() -> None:
    met = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.9, 0.3, 0.9], [0.0, 0.0, 0.5]])
    # Subgoal 1: the running maximum .9 .9 .9 .9; subgoal 2: .09 .72 .72 .72; then at the last one: x 0 .1 .9 .5.
    np.testing.assert_allclose(ordered_coverage(met), [0, 0.072, 0.648, 0.36])
    # The same frames in another order cover nothing until the first subgoal is met.
    np.testing.assert_allclose(ordered_coverage(met[::-1]), [0, 0.243, 0.9 * 0.8 * 0.1, 0])


def test_subgoals_are_evenly_spaced_and_end_with_the_demonstration() -> None:
    assert subgoals(np.arange(101)[:, None], 4)[:, 0].tolist() == [25, 50, 75, 100]


def test_as_good_a_demonstration_is_covered_with_the_declared_probability() -> None:
    shown = np.stack([np.linspace(0, 5, 41), np.zeros(41)], 1).astype(np.float32)
    other = shown + np.array([0, 0.3], np.float32)
    tau = temperature([shown, other], 8, 2.0)
    met = np.exp(-squared_distances(other, subgoals(shown, 8)) / tau)
    assert ordered_coverage(met)[-1] == pytest.approx(np.exp(-1 / 2), rel=1e-4)


def test_a_discriminator_separates_what_is_separable_and_shrugs_where_nothing_is(params: Params) -> None:
    settings = params.rivals.gaifo.model_copy(update={"hidden": 32, "updates": 300})
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(500, 4, generator=generator) for _ in range(2))
    apart = fit_discriminator(one + torch.tensor([4.0, 0, 0, 0]), other, settings, 0)
    assert (torch.sigmoid(apart(one + torch.tensor([4.0, 0, 0, 0]))) > 0.5).float().mean() > 0.97
    assert (torch.sigmoid(apart(other)) < 0.5).float().mean() > 0.97
    same = fit_discriminator(one, other, settings, 0)
    assert (torch.sigmoid(same(other)) - 0.5).abs().mean() < 0.1


def test_a_fit_touches_no_other_random_stream(params: Params) -> None:
    settings = params.rivals.gaifo.model_copy(update={"hidden": 8, "updates": 2})
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = (fit_discriminator(torch.ones(9, 4), torch.zeros(9, 4), settings, 1) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.net[0].weight, again.net[0].weight)  # type: ignore[arg-type]


def test_moves_span_a_step_of_the_slower_side() -> None:
    assert moves(np.array([[1.0], [2], [4], [8]], np.float32), 2).tolist() == [[1, 3], [2, 6]]


# -- on the point ------------------------------------------------------------------------------------------------------

RATES = Rates(1, 1, 0.1)
MEASURES = ["ot", "temporal_ot", "orca", "gaifo"]


@pytest.fixture
def source() -> list[Episode]:
    return demonstrations(Attracted()) + demonstrations(RandomPolicy(1, np.random.default_rng(0)))


@pytest.fixture
def label_with(params: Params, source: list[Episode]) -> Callable[[str], Labeller]:
    def make(name: str, episodes: list[Episode] | None = None) -> Labeller:
        known = source if episodes is None else episodes
        settings = getattr(params.rivals, name).model_copy(update={"demonstrations": 4})
        exploration = [e.without_reward() for e in demonstrations(RandomPolicy(1, np.random.default_rng(1)))]
        return make_labeller(settings, known, exploration, FrameScale.fit(known), RATES, 0)

    return make


@pytest.mark.parametrize("name", MEASURES)
def test_what_moves_as_the_source_s_best_is_paid_more_than_what_moves_at_random(
    name: str, label_with: Callable[[str], Labeller], source: list[Episode]
) -> None:
    labeller = label_with(name)
    good = labeller.label(demonstrations(Attracted(), 8)[-1].without_reward())
    poor = labeller.label(demonstrations(RandomPolicy(1, np.random.default_rng(5)), 8)[-1].without_reward())
    assert good.rate.mean() > poor.rate.mean() + 0.1
    paid = np.concatenate([episode.reward for episode in source if episode.reward is not None])
    for labels in (good, poor):
        assert labels.rate.shape == labels.confidence.shape == (41,)
        assert labels.rate.dtype == labels.confidence.dtype == np.float32
        assert paid.min() <= labels.rate.min() <= labels.rate.max() <= paid.max()
        assert 0 <= labels.confidence.min() <= labels.confidence.max() <= 1


@pytest.mark.parametrize("name", ["ot", "temporal_ot", "orca"])
def test_the_source_s_best_and_worst_fix_the_scale(
    name: str, label_with: Callable[[str], LikenessLabels], source: list[Episode]
) -> None:
    labeller = label_with(name)
    standing = labeller.standing
    ranked = sorted((episode.ret / 40 for episode in source), reverse=True)
    assert standing.high == pytest.approx(np.mean(ranked[:4]), rel=1e-5)
    assert standing.low == pytest.approx(np.mean(ranked[-4:]), rel=1e-5)
    assert standing.labels(np.array([0.0, 1.0])).rate.tolist() == pytest.approx([standing.low, standing.high])
    assert not labeller.blind


def test_a_measure_that_cannot_tell_good_from_bad_pays_everything_alike(
    label_with: Callable[..., LikenessLabels],
) -> None:
    # One and the same track, paid differently: nothing in the observations says which is better.
    (episode,) = demonstrations(Attracted(), 1)
    assert episode.reward is not None
    same = [Episode(episode.observation, episode.action, k * episode.reward) for k in (1, 2, 3, 4, 5, 6, 7, 8)]
    labeller = label_with("ot", same)
    assert labeller.blind
    labels = labeller.label(episode.without_reward())
    assert set(labels.rate.tolist()) == {np.float32(labeller.standing.low)}
    assert labels.confidence.max() == 0


def test_labels_of_a_fixed_measure_are_not_revised_and_the_discriminator_s_are(
    label_with: Callable[[str], Labeller],
) -> None:
    episodes = [e.without_reward() for e in demonstrations(Attracted(), 3)]
    for name in MEASURES:
        labeller = label_with(name)
        before = [labeller.label(episode).rate for episode in episodes]
        after = labeller.revise(episodes, before)
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (name != "gaifo")
        again = labeller.revise(episodes, before)
        assert all(np.array_equal(a, b) for a, b in zip(after, again, strict=True))


def test_a_target_that_does_as_the_source_is_paid_as_the_source(params: Params, source: list[Episode]) -> None:
    standing = Standing(source, RATES, 6)
    settings = params.rivals.gaifo.model_copy(update={"hidden": 32})
    own = [episode.without_reward() for episode in standing.best]
    labeller = DiscriminatorLabels(standing, FrameScale.fit(source), RATES, own, settings, 0)
    inferred = np.mean([labeller.label(episode).rate.mean() for episode in own])
    assert inferred == pytest.approx(standing.high, rel=0.1)


def test_an_episode_too_short_for_a_transition_is_worth_nothing(params: Params, source: list[Episode]) -> None:
    rates = Rates(2, 1, 0.1)
    standing = Standing(source, rates, 4)
    settings = params.rivals.gaifo.model_copy(update={"hidden": 8, "updates": 2})
    labeller = DiscriminatorLabels(standing, FrameScale.fit(source), rates, source, settings, 0)
    short = Episode(source[0].observation[:2], source[0].action[:2], None)
    assert labeller.label(short).confidence.tolist() == [0, 0]
    assert len(labeller.label(source[0]).rate) == len(source[0])


@pytest.mark.parametrize("name", MEASURES)
def test_of_the_source_it_sees_observations_returns_and_the_range_of_rewards(
    name: str, label_with: Callable[..., Labeller], source: list[Episode]
) -> None:
    episode = demonstrations(Attracted(), 8)[-1].without_reward()
    one = label_with(name).label(episode)
    # Backwards all rewards are paid at other times, to the same return; the actions are nobody's.
    other = label_with(name, [nobody_s(known) for known in source]).label(episode)
    np.testing.assert_allclose(one.rate, other.rate, rtol=1e-4, atol=1e-6)


def nobody_s(episode: Episode) -> Episode:
    """An episode whose actions and times of payment say nothing any more."""
    assert episode.reward is not None
    backwards = np.concatenate([episode.reward[:1], episode.reward[:0:-1]])
    return Episode(episode.observation, np.full_like(episode.action, np.nan), backwards)

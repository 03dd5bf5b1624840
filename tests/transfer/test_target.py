import numpy as np
import pytest
import torch

from telepath.alignment import reenact
from telepath.alignment.belief import BeliefLearner, BeliefNet
from telepath.alignment.diagonals import dtw_diagonals
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.alignment.segments import FrameScale, Segments, choose_frames
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import departure
from telepath.envs.rollout import seed_episodes
from telepath.errors import UserError
from telepath.settings import DreamerSettings
from telepath.transfer.knowledge import Knowledge, good_return
from telepath.transfer.labels import Labels, chunk_indices, label, segments_of
from telepath.transfer.reward import RewardEnsemble, RewardLearner
from telepath.transfer.target import Refinement, copy_of
from tests.conftest import Counting, Kept, NoScratch, PointEnvironment, StopAt, Stopped, counting_episode


@pytest.fixture
def tiny(params: Params, small: DreamerSettings) -> Params:
    match = params.label.match.model_copy(update={"window": 6, "stride": 3, "null_windows": 20, "tolerance": 2.0})
    cem = params.label.cem.model_copy(update={"iterations": 2, "population": 8})
    labels = params.label.model_copy(
        update={
            "segments": 6,
            "prefix": 3,
            "reference": 4,
            "initial_latents": 2,
            "chunk": 4,
            "match": match,
            "cem": cem,
        }
    )
    target = params.target.model_copy(
        update={"rounds": 4, "first_updates": 4, "realign": 2, "finalists": 2, "final_episodes": 1}
    )
    return params.model_copy(update={"dreamer": small, "label": labels, "target": target})


class Transfer:
    """A tiny transfer on the point: source at 2 frames a step, target at 1."""

    def __init__(self, tiny: Params):
        torch.manual_seed(0)
        self.tiny = tiny
        self.source = seed_episodes(PointEnvironment(2), 12, 0)  # type: ignore[arg-type]
        self.environment = PointEnvironment(1, rewarded=False)
        self.exploration = seed_episodes(self.environment, 3, 1)  # type: ignore[arg-type]
        self.agent = Agent("point", 2, 1, tiny.dreamer)
        self.belief = BeliefNet(2, self.agent.model.feature_dim, tiny.belief)
        self.rates = Rates(2, 1, 0.1)
        scale = FrameScale.fit(self.source + self.exploration)
        self.pool = SourcePool(self.source, scale, self.rates, tiny.label.match)
        self.reenactor = Reenactor(self.agent.model, self.belief, scale, self.rates, tiny.label)

    def label(self) -> Labels:
        return label(
            self.source,
            self.exploration,
            self.reenactor,
            self.pool,
            self.tiny.label,
            None,
            0,
            Counting(),
            NoScratch(),  # type: ignore[arg-type]
        )

    def refinement(self, source_agent: Agent | None = None) -> Refinement:
        labels = self.label()
        learner = BeliefLearner(self.belief, self.agent.model, self.tiny.belief, 0.1, np.random.default_rng(0))
        known = Knowledge(
            segments_of(labels, self.source, self.tiny.label, 2),
            choose_frames(self.source, 20, 3, 2, np.random.default_rng(0)),
            good_return(self.source),
            source_agent,
        )
        return Refinement(
            self.environment,  # type: ignore[arg-type]
            self.agent,
            learner,
            self.reenactor,
            known,
            labels,
            self.pool,
            self.exploration,
            400,
            0.15,
            self.tiny.target,
            0,
        )


def test_matching_finds_the_reward_of_what_it_has_seen_before(tiny: Params) -> None:
    transfer = Transfer(tiny)
    environment = PointEnvironment(1)
    episodes = seed_episodes(environment, 6, 9)  # type: ignore[arg-type]
    true = np.concatenate([e.reward[1:] for e in episodes if e.reward is not None])
    inferred = np.concatenate([transfer.pool.label(e.without_reward()).rate[1:] for e in episodes])
    assert np.corrcoef(true, inferred)[0, 1] > 0.7


def test_a_trajectory_unlike_any_of_the_source_is_paid_nothing(tiny: Params) -> None:
    transfer = Transfer(tiny)
    strange = transfer.exploration[0]
    strange = type(strange)(strange.observation + 50, strange.action, None)
    labels = transfer.pool.label(strange)
    assert labels.rate.max() < 1e-3
    assert labels.confidence.max() < 1e-3


def test_labels_come_back_from_disk_and_fit_only_their_data(tiny: Params, tmp_path) -> None:  # type: ignore[no-untyped-def]
    transfer = Transfer(tiny)
    labels = transfer.label()
    labels.save(tmp_path / "labels.npz")
    again = Labels.load(tmp_path / "labels.npz", transfer.exploration, 2)
    for one, other in zip(labels.alignments, again.alignments, strict=True):
        assert np.array_equal(one, other)
    assert all(np.array_equal(a.rate, b.rate) for a, b in zip(labels.replay, again.replay, strict=True))
    labels.save(tmp_path / "twice.npz")
    assert (tmp_path / "labels.npz").read_bytes() == (tmp_path / "twice.npz").read_bytes()
    with pytest.raises(UserError, match="other exploration data"):
        Labels.load(tmp_path / "labels.npz", transfer.exploration[:2], 2)


def test_a_reenactment_is_the_imagination_of_its_stored_actions(tiny: Params) -> None:
    transfer = Transfer(tiny)
    labels = transfer.label()
    segments = segments_of(labels, transfer.source, tiny.label, 2)
    again = transfer.reenactor.replay(segments, labels.alignments.noise, labels.alignments.actions)
    np.testing.assert_allclose(again.cost, labels.alignments.cost, rtol=1e-4)
    np.testing.assert_allclose(again.rate, labels.alignments.rate, atol=1e-4)
    assert (np.diff(labels.alignments.history, axis=0) <= 1e-6).all()
    np.testing.assert_allclose(labels.alignments.history[-1], labels.alignments.cost, rtol=1e-3)
    # The reference is consumed whole, so all of its reward arrives on the target side.
    np.testing.assert_allclose(again.rate.sum(1) / 2, segments.rate.sum(1), rtol=1e-4)


def test_a_gpu_s_warping_finds_the_same_reenactments(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Transfer(tiny).label().alignments
    monkeypatch.setattr(reenact, "dtw_tensors", dtw_diagonals)
    found = Transfer(tiny).label().alignments
    np.testing.assert_allclose(found.actions, expected.actions, atol=1e-5)
    np.testing.assert_allclose(found.history, expected.history, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_reenactment_on_a_gpu_is_that_of_the_host(tiny: Params) -> None:
    expected = Transfer(tiny).label().alignments
    transfer = Transfer(tiny)
    transfer.agent.cuda()
    transfer.belief.cuda()
    transfer.reenactor = Reenactor(
        transfer.agent.model, transfer.belief, transfer.reenactor.scale, transfer.rates, tiny.label
    )
    found = transfer.label().alignments
    np.testing.assert_allclose(found.history, expected.history, rtol=1e-3)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-3)


def test_a_segment_s_bits_do_not_depend_on_its_company(params: Params) -> None:
    """At the default sizes, where matrix products of few and of many rows take other paths in the library."""
    cem = params.label.cem.model_copy(update={"iterations": 2, "population": 8})
    settings = params.label.model_copy(update={"cem": cem})
    torch.manual_seed(0)
    agent = Agent("walker-walk", 24, 6, params.dreamer)
    belief = BeliefNet(24, agent.model.feature_dim, params.belief)
    scale = FrameScale(np.full(24, 0.2, np.float32))
    reenactor = Reenactor(agent.model, belief, scale, Rates(6, 3, 0.02), settings)
    rng = np.random.default_rng(0)
    prefix, reference = (rng.standard_normal((11, n, 24), dtype=np.float32) for n in (6, 12))
    segments = Segments(prefix, reference, np.ones((11, 12), np.float32), np.zeros((11, 2), np.int64))
    seeds = rng.integers(2**31, size=11)
    whole = reenactor.align(segments, seeds, agent.behavior.steady)
    for size in (1, 2, 3, 5, 9):
        parts = [reenactor.align(segments.take(i), seeds[i], agent.behavior.steady) for i in chunk_indices(11, size)]
        for name, one, other in zip(Alignments._fields, whole, Alignments.join(parts), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"{name}, {size} at a time")


def test_the_null_cost_is_that_of_target_pieces_seen_at_the_source_s_rate(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = Transfer(tiny)
    null = transfer.reenactor.null_cost(transfer.exploration, 16, np.random.default_rng(0))
    assert 0 < null < np.inf
    assert null == transfer.reenactor.null_cost(transfer.exploration, 16, np.random.default_rng(0))
    seen = {}

    def look(segments: Segments, noise: np.ndarray, actions: np.ndarray) -> Alignments:
        seen.update(segments=segments, actions=actions)
        return Alignments(*[np.ones(len(segments))] * len(Alignments._fields))

    monkeypatch.setattr(transfer.reenactor, "replay", look)
    transfer.reenactor.null_cost([counting_episode(n, 40) for n in range(3)], 16, np.random.default_rng(0))
    segments, ratio = seen["segments"], 2
    at = segments.origin[:, 1:]
    np.testing.assert_allclose(segments.prefix[..., 1], at + ratio * np.arange(-2, 1))
    np.testing.assert_allclose(segments.reference[..., 1], at + ratio * np.arange(1, 5))
    np.testing.assert_allclose(seen["actions"][..., 0], at + np.arange(1, transfer.reenactor.length + 1))


def test_refinement_spends_its_budget_without_the_reward_and_ships_the_best_finalist(tiny: Params) -> None:
    refinement, progress = Transfer(tiny).refinement(), Counting()
    refinement.run(progress, NoScratch())  # type: ignore[arg-type]
    assert progress.count == refinement.updates == refinement.update_budget
    assert len(refinement.rounds) == len(refinement.snapshots) == tiny.target.rounds
    assert all(episode.reward is None for episode in refinement.replay.episodes)
    # 3 exploration episodes, 2 a round in 4 rounds, and one for each of 2 finalists; 40 steps each.
    assert refinement.target_steps == (3 + 2 * 4 + 2) * 40 <= 3 * 40 + 400
    diary = refinement.diary()
    assert diary["final_score"].notna().sum() == 2
    best = diary.loc[diary["final_score"].idxmax()]
    assert best["shipped"] == 1
    assert diary["shipped"].sum() == 1
    shipped = refinement.snapshots[int(best["round"])].agent
    assert all(torch.equal(shipped[name], value) for name, value in refinement.agent.state_dict().items())


def test_the_source_agent_is_the_first_round_and_may_be_what_is_shipped(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = Transfer(tiny)
    torch.manual_seed(7)
    source = Agent("point", 2, 1, tiny.dreamer)
    refinement, roll_out = transfer.refinement(source), Refinement.roll_out

    def flatter_the_source(self: Refinement, agent: Agent, episodes: int, *, keep: bool) -> tuple[float, float]:
        score, confidence = roll_out(self, agent, episodes, keep=keep)
        known = torch.equal(agent.behavior.steady.net[0].weight, source.behavior.steady.net[0].weight)  # type: ignore[arg-type]
        return score + 1000 * known, confidence

    monkeypatch.setattr(Refinement, "roll_out", flatter_the_source)
    progress = Counting()
    refinement.run(progress, NoScratch())  # type: ignore[arg-type]
    assert [r.updates for r in refinement.rounds[:2]] == [0, 0], "at every step, then at its own pace"
    assert refinement.rounds[2].updates == refinement.updates_due(3) == tiny.target.first_updates
    assert refinement.rounds[3].updates == refinement.updates_due(4) > tiny.target.first_updates
    assert progress.count == refinement.update_budget
    assert refinement.shipped in (0, 1)
    assert refinement.agent.pace == 1 + refinement.shipped
    assert refinement.best_trained > 1, "the reward ensemble to look at is one that was trained"
    for one, other in zip(refinement.agent.parameters(), source.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_actor_waits_until_reward_and_critic_have_had_their_first_updates(tiny: Params) -> None:
    refinement = Transfer(tiny).refinement()
    behavior = refinement.agent.behavior
    actor, critic = copy_of(behavior.actor), copy_of(behavior.critic)
    for _ in range(tiny.target.first_updates):
        refinement.update()
    assert all(torch.equal(value, actor[name]) for name, value in behavior.actor.state_dict().items())
    assert not all(torch.equal(value, critic[name]) for name, value in behavior.critic.state_dict().items())
    refinement.update()
    assert not all(torch.equal(value, actor[name]) for name, value in behavior.actor.state_dict().items())


def test_with_a_source_agent_the_actor_first_learns_to_do_the_same_as_that(tiny: Params) -> None:
    torch.manual_seed(7)
    source = Agent("point", 2, 1, tiny.dreamer)
    for parameter in source.behavior.steady.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    longer = tiny.model_copy(update={"target": tiny.target.model_copy(update={"first_updates": 100})})
    refinement = Transfer(longer).refinement(source)
    for given in refinement.given:
        refinement.finish_round(given)
    away = []
    for _ in range(100):
        refinement.update()
        states, *_, wanted = refinement.learner.experience  # type: ignore[misc]
        away.append(departure(refinement.agent.behavior.actor, states.feature, wanted).item())
    assert np.mean(away[-10:]) < 0.3 * away[0]


def test_the_anchor_is_the_best_round_so_far_and_holds_as_far_as_the_actor_is_worth_it(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 5.0, 2.0, 9.0, 1.0])
    monkeypatch.setattr(Refinement, "roll_out", lambda self, agent, episodes, *, keep: (next(scores), 1.0))
    torch.manual_seed(7)
    refinement = Transfer(tiny).refinement(Agent("point", 2, 1, tiny.dreamer))
    refinement.known = refinement.known._replace(good_return=8.0)  # half of which is held in full
    paces, pulls = [], []
    for number in range(5):
        for parameter in refinement.agent.behavior.parameters():
            parameter.data += 1
        refinement.finish_round(refinement.given[number] if number < 2 else refinement.agent)
        assert refinement.anchor is not None
        paces.append(refinement.anchor.agent.pace)
        pulls.append(refinement.learner.behavior.anchor / tiny.target.anchor)
    assert paces == [1, 2, 2, 1, 1]
    assert pulls == [1, 1, 2 / 4, 1, 4 / 4]
    for name, value in refinement.anchor.agent.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, refinement.snapshots[3].agent[name])


@pytest.mark.parametrize("with_source", [False, True])
@pytest.mark.parametrize("stop", [3, 14])
def test_a_refinement_taken_up_from_a_checkpoint_ends_in_the_same_bits(
    tiny: Params, stop: int, with_source: bool
) -> None:
    torch.manual_seed(7)
    source = Agent("point", 2, 1, tiny.dreamer) if with_source else None
    straight = Transfer(tiny).refinement(source)
    straight.run(Counting(), NoScratch())  # type: ignore[arg-type]
    scratch = StopAt(stop)
    with pytest.raises(Stopped):
        Transfer(tiny).refinement(source).run(Counting(), scratch)  # type: ignore[arg-type]
    resumed = Transfer(tiny).refinement(source)
    resumed.run(Counting(), Kept(scratch))  # type: ignore[arg-type]
    for one, other in zip(straight.agent.parameters(), resumed.agent.parameters(), strict=True):
        assert torch.equal(one, other)
    assert straight.diary().equals(resumed.diary())


def test_the_reward_ensemble_is_cautious_where_no_label_was_near(params: Params, small: DreamerSettings) -> None:
    torch.manual_seed(0)
    settings = params.target.model_copy(update={"members": 5, "pessimism": 1.0})
    reward = RewardEnsemble(8, small, settings)
    learner = RewardLearner(reward, settings)
    near, far = 0.3 * torch.randn(256, 8), 4 + torch.randn(256, 8)
    rate, weight = torch.sigmoid(near[:, 0]), torch.ones(256)
    for _ in range(400):
        error = learner.update((near, rate, weight), (near, rate, torch.zeros(256)))
    assert error < 1e-3
    gap = (reward.members(far).mean(0).squeeze(-1) - reward(far)).mean()
    assert gap > 5 * (reward.members(near).mean(0).squeeze(-1) - reward(near)).mean()


def test_no_reward_is_higher_or_lower_than_the_source_ever_paid(params: Params, small: DreamerSettings) -> None:
    torch.manual_seed(0)
    reward = RewardEnsemble(4, small, params.target, (0.0, 0.25))
    rate = reward(10 * torch.randn(500, 4)).detach()
    assert float(rate.min()) == 0
    assert float(rate.max()) == 0.25


def test_a_label_of_no_weight_teaches_nothing(params: Params, small: DreamerSettings) -> None:
    torch.manual_seed(0)
    reward = RewardEnsemble(4, small, params.target)
    feature = torch.randn(32, 4)
    assert reward.error(feature, torch.full((32,), 1e6), torch.zeros(32)).item() == 0

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telepath.alignment import reenact
from telepath.alignment.belief import BeliefLearner, BeliefNet
from telepath.alignment.diagonals import dtw_diagonals
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.alignment.segments import FrameScale, Segments, choose_frames, chunk_indices
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead
from telepath.envs.rollout import seed_episodes
from telepath.episodes import Episode
from telepath.errors import UserError
from telepath.runtime.graphs import PRACTICE
from telepath.settings import DreamerSettings
from telepath.transfer.knowledge import Knowledge
from telepath.transfer.labels import Labels, label, segments_of
from telepath.transfer.reward import Labelled, label_loss
from telepath.transfer.target import Refinement, Round, choose, copy_of
from telepath.transfer.trial import CLOSE
from tests.conftest import Counting, Kept, NoScratch, PointEnvironment, StopAt, Stopped, counting_episode
from tests.tape import TapeRecorder, doubled, updated


@pytest.fixture
def tiny(params: Params, small: DreamerSettings, brief_worth: None) -> Params:
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
            segments_of(Path("labels"), labels, self.source, self.tiny.label, 2),
            choose_frames(self.source, 20, 3, 2, np.random.default_rng(0)),
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
            3,
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


def test_labels_of_segments_that_no_source_has_are_refused(tiny: Params) -> None:
    transfer = Transfer(tiny)
    labels = transfer.label()
    last = tiny.label.prefix
    cut = [Episode(e.observation[:last], e.action[:last], e.reward[:last], False) for e in transfer.source]  # type: ignore[index]
    for source in (transfer.source[:0], cut):
        with pytest.raises(UserError, match=r"^labels\.npz: holds labels of other source episodes; run `dvc repro`"):
            segments_of(Path("labels.npz"), labels, source, tiny.label, 2)


def test_a_reenactment_is_the_imagination_of_its_stored_actions(tiny: Params) -> None:
    transfer = Transfer(tiny)
    labels = transfer.label()
    segments = segments_of(Path("labels"), labels, transfer.source, tiny.label, 2)
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


@pytest.mark.parametrize(("population", "latents"), [(8, 4), (2, 1)])
def test_a_segment_s_bits_do_not_depend_on_its_company(params: Params, population: int, latents: int) -> None:
    """At the default sizes, where matrix products of few and of many rows take other paths in the library."""
    cem = params.label.cem.model_copy(update={"iterations": 2, "population": population})
    settings = params.label.model_copy(update={"cem": cem, "initial_latents": latents, "proposals": latents})
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
    # That is also how it keeps its memory bounded, however many it is given.
    reenactor.settings = settings.model_copy(update={"chunk": 4})
    lots = []
    search = reenactor._search

    def watched(start: Any, *others: Any) -> Any:
        lots.append(len(start.deter) // settings.initial_latents)
        return search(start, *others)

    reenactor._search = watched  # type: ignore[method-assign]
    for one, other in zip(whole, reenactor.align(segments, seeds, agent.behavior.steady), strict=True):
        np.testing.assert_array_equal(one, other)
    assert lots == [4, 4, 3]


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


def test_refinement_spends_its_budget_without_the_reward_and_ships_the_best_finalist(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement, progress = Transfer(tiny).refinement(), Counting()
    reset = refinement.environment.reset

    def second_attempt() -> np.ndarray:
        refinement.environment.divergences += 1
        return reset()

    monkeypatch.setattr(refinement.environment, "reset", second_attempt)
    refinement.run(progress, NoScratch())  # type: ignore[arg-type]
    assert progress.count == refinement.updates == refinement.update_budget
    assert len(refinement.rounds) == len(refinement.snapshots) == tiny.target.rounds
    assert all(episode.reward is None for episode in refinement.replay.episodes)
    # 3 exploration episodes, 2 a round in 4 rounds, and one for each of 2 finalists; 40 steps each.
    assert refinement.target_steps == (3 + 2 * 4 + 2) * 40 <= 3 * 40 + 400
    diary = refinement.diary()
    assert diary["divergences"].tolist() == [2, 4, 6, 8]
    assert refinement.policies()["target_divergences"] == 2 * 4 + 2
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
    refinement, score = transfer.refinement(source), Refinement.inferred_returns

    def flatter_the_source(self: Refinement, rates: list[np.ndarray]) -> np.ndarray:
        judged = self.snapshots[-1].agent if len(self.rounds) < tiny.target.rounds else self.agent.state_dict()
        name = "behavior.steady.net.0.weight"
        return score(self, rates) + 1000 * torch.equal(judged[name], source.state_dict()[name])

    monkeypatch.setattr(Refinement, "inferred_returns", flatter_the_source)
    progress = Counting()
    refinement.run(progress, NoScratch())  # type: ignore[arg-type]
    assert [r.updates for r in refinement.rounds[:2]] == [0, 0], "at every step, then at its own pace"
    assert tiny.target.first_updates < refinement.rounds[2].updates == refinement.updates_due(3)
    assert refinement.rounds[2].updates < refinement.rounds[3].updates == refinement.updates_due(4)
    assert progress.count == refinement.update_budget
    assert refinement.shipped in (0, 1)
    assert refinement.agent.pace == 1 + refinement.shipped
    assert refinement.best_trained > 1, "the reward head to look at is one that was trained"
    for one, other in zip(refinement.agent.parameters(), source.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_the_source_agent_did_in_its_rounds_counts_at_the_choice(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    refinement, judged = Transfer(tiny).refinement(Agent("point", 2, 1, tiny.dreamer)), {}
    monkeypatch.setattr(
        "telepath.transfer.target.choose", lambda returns, given: judged.update(returns) or next(iter(returns))
    )
    refinement.finalists = lambda: [1, 3]  # type: ignore[method-assign]
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert [len(judged[number]) for number in (1, 3)] == [1 + refinement.episodes_per_round, 1]
    its_own = refinement.labels[refinement.explored :][refinement.episodes_per_round :][: refinement.episodes_per_round]
    np.testing.assert_allclose(
        judged[1][1:], [rate[1:].sum() * refinement.environment.action_repeat for rate in its_own], rtol=1e-5
    )
    assert refinement.rounds[1].inferred_return == pytest.approx(judged[1][1:].mean(), rel=1e-5)


def test_what_is_kept_of_a_round_is_the_running_average_of_all_weights(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 0.25
    changed = {"average_rate": rate, "trials": 1}  # where a round ends
    tiny = tiny.model_copy(update={"target": tiny.target.model_copy(update=changed)})
    refinement = Transfer(tiny).refinement()
    update, expected = refinement.update, {}
    names = {"agent": ["model.encoder.0.weight", "behavior.actor.net.0.weight"], "reward": ["net.0.weight"]}

    def now(part: str, name: str) -> torch.Tensor:
        return getattr(refinement, part).state_dict()[name].clone()

    def watched() -> Any:
        figures = update()
        for part, name in ((part, name) for part, many in names.items() for name in many):
            before = expected.get((part, name), now(part, name))
            share = rate if refinement.updates > tiny.target.first_updates else 1.0
            expected[part, name] = before + share * (now(part, name) - before)
        return figures

    monkeypatch.setattr(refinement, "update", watched)
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    last = refinement.snapshots[-1]
    for (part, name), weights in expected.items():
        torch.testing.assert_close(getattr(last, part)[name], weights)
    assert not torch.equal(expected["reward", "net.0.weight"], refinement.learner.model.parameters["head.net.0.weight"])


def test_the_averages_are_tried_out_evenly_and_the_best_of_a_round_are_kept(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement, tried = Transfer(tiny).refinement(), []

    def at_its_best_in_the_middle(agent: Agent, reward: RewardHead, first: torch.Tensor, steps: int, seed: int) -> Any:
        tried.append((refinement.updates, copy_of(agent), copy_of(reward)))
        begin, end = (refinement.updates_due(len(refinement.rounds) + more) for more in (0, 1))
        return torch.full((len(first),), -abs(refinement.updates - (begin + end) / 2))

    monkeypatch.setattr("telepath.transfer.target.imagined_rates", at_its_best_in_the_middle)
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    rounds = range(tiny.target.rounds)
    edges = [refinement.updates_due(n) for n in [*rounds, tiny.target.rounds]]
    for number in rounds:
        of_it = [trial for trial in tried if edges[number] < trial[0] <= edges[number + 1]]
        assert len(of_it) == min(tiny.target.trials, edges[number + 1] - edges[number])
        assert of_it[-1][0] == edges[number + 1], "the last one where the round ends"
        middle = (edges[number] + edges[number + 1]) / 2
        best = min(reversed(of_it), key=lambda trial: abs(trial[0] - middle))  # of two as good the later one
        kept = refinement.snapshots[number]
        assert all(torch.equal(kept.agent[name], value) for name, value in best[1].items())
        assert all(torch.equal(kept.reward[name], value) for name, value in best[2].items())
        assert refinement.rounds[number].imagined_return == kept.imagined_return <= 0


@pytest.mark.parametrize("fall", [0.04, 0.5])
def test_of_averages_that_imagine_about_as_much_the_latest_is_kept(
    tiny: Params, fall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement, tried = Transfer(tiny).refinement(), []

    def falling(agent: Agent, reward: RewardHead, first: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
        begin, end = (refinement.updates_due(len(refinement.rounds) + more) for more in (0, 1))
        promise = 1 - fall * (refinement.updates - begin) / (end - begin)
        tried.append((len(refinement.rounds), promise, copy_of(agent)))
        return torch.full((len(first),), promise)

    monkeypatch.setattr("telepath.transfer.target.imagined_rates", falling)
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    for number, snapshot in enumerate(refinement.snapshots):
        of_it = [trial for trial in tried if trial[0] == number]
        near = [trial for trial in of_it if trial[1] >= CLOSE * of_it[0][1]]
        assert (near == of_it) == (fall == 0.04)
        assert all(torch.equal(snapshot.agent[name], value) for name, value in near[-1][2].items())


def test_a_round_without_updates_keeps_the_averages_that_there_are(tiny: Params) -> None:
    refinement = Transfer(tiny).refinement()
    refinement.update_ratio = 0.0
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert refinement.updates == tiny.target.first_updates
    assert np.isfinite([r.imagined_return for r in refinement.rounds]).all()


def test_three_lucky_rounds_do_not_keep_what_was_given_from_the_final(tiny: Params) -> None:
    torch.manual_seed(7)
    refinement = Transfer(tiny).refinement(Agent("point", 2, 1, tiny.dreamer))
    nothing = Round(0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    refinement.rounds = [nothing._replace(inferred_return=score) for score in (2.0, 3.0, 5.0, 4.0)]
    assert refinement.finalists() == [2, 1], "the held source instead of round 3"
    refinement.rounds[0] = nothing._replace(inferred_return=6.0)
    assert refinement.finalists() == [0, 2]


@pytest.mark.parametrize("nearer", [True, False])
def test_a_new_search_replaces_only_what_is_farther_away(
    tiny: Params, nearer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement = Transfer(tiny).refinement()
    before = refinement.alignments.actions.copy()
    align = Reenactor.align

    def found(self: Reenactor, *arguments: Any) -> Any:
        fresh = align(self, *arguments)
        return fresh._replace(cost=fresh.cost + (-1e3 if nearer else 1e3), actions=fresh.actions + 0.01)

    monkeypatch.setattr(Reenactor, "align", found)
    refinement.realign()
    changed = (refinement.alignments.actions != before).any((1, 2)).sum()
    assert changed == (tiny.target.realign if nearer else 0)


def test_no_imagined_label_is_more_than_the_source_was_ever_paid(tiny: Params) -> None:
    refinement = Transfer(tiny).refinement()
    refinement.pool.rate = refinement.pool.rate.clip(0.1, 0.2)
    refinement.refresh()
    assert refinement.alignments.rate.max() > 0.2, "or else this shows nothing"
    assert refinement.imagined.rate[: refinement.alignments.rate.size].max() <= 0.2


def test_actor_and_critic_begin_from_nothing_and_the_world_model_does_not(tiny: Params) -> None:
    torch.manual_seed(7)
    source = Agent("point", 2, 1, tiny.dreamer)
    transfer = Transfer(tiny)
    model, behavior = copy_of(transfer.agent.model), copy_of(transfer.agent.behavior)
    refinement = transfer.refinement(source)
    assert all(torch.equal(value, model[name]) for name, value in refinement.agent.model.state_dict().items())
    weights = refinement.agent.behavior.actor.net[0].weight
    assert not torch.equal(weights, behavior["actor.net.0.weight"])
    assert not torch.equal(weights, source.behavior.actor.net[0].weight)  # type: ignore[arg-type]


def test_all_episodes_of_a_round_but_the_last_explore_and_are_spread_over_its_updates(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement = Transfer(tiny).refinement()
    when = dict[str, list[int]](explorer=[], policy=[])
    for name, calls in when.items():
        make = getattr(Agent, name)

        def asked(self: Agent, *, seed: int, make: Any = make, calls: list[int] = calls) -> Any:
            calls.append(refinement.updates)
            return make(self, seed=seed)

        monkeypatch.setattr(Agent, name, asked)
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    ends = [refinement.updates_due(number) for number in range(5)]
    assert when["policy"][:-2] == ends[1:], "the policy as it is judged, at the end of each round"
    assert when["policy"][-2:] == [ends[-1]] * tiny.target.finalists
    begins = [tiny.target.first_updates, *ends[1:-1]]
    assert when["explorer"] == [math.ceil((begin + end) / 2) for begin, end in zip(begins, ends[1:], strict=True)]


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


def test_the_head_learns_labels_and_a_label_of_no_weight_teaches_nothing(small: DreamerSettings) -> None:
    torch.manual_seed(0)
    reward = RewardHead(4, small)
    optimizer = torch.optim.Adam(reward.parameters(), 1e-2)
    feature = torch.randn(256, 4)
    rate, weight = torch.sigmoid(feature[:, 0]), (feature[:, 1] > 0).float()
    labels = Labelled(feature, rate * weight + 1e3 * (1 - weight), weight)
    for _ in range(300):
        label_loss(reward, labels.take(torch.randint(256, (64,)))).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert label_loss(reward, labels).item() < 1e-3
    assert label_loss(reward, labels._replace(weight=torch.zeros(256))).item() == 0


@pytest.mark.parametrize(
    ("returns", "shipped"),
    [
        ({0: [500.0, 520.0], 4: [800.0, 820.0], 5: [700.0, 720.0]}, 4),
        ({0: [500.0, 520.0], 4: [450.0, 480.0]}, 0),
        ({0: [700.0, 900.0], 4: [720.0, 960.0]}, 0),  # 40 more, give or take 160
        ({0: [700.0, 900.0], 1: [750.0, 950.0], 4: [820.0, 960.0]}, 1),
        ({0: [800.0], 4: [801.0]}, 4),  # of one episode nothing is known about the spread
        ({4: [700.0, 900.0], 5: [720.0, 960.0]}, 5),  # nothing was given
    ],
)
def test_the_source_agents_own_is_kept_unless_another_is_clearly_better(
    returns: dict[int, list[float]], shipped: int
) -> None:
    given = 0 if 0 not in returns else 2
    assert choose({number: np.array(found) for number, found in returns.items()}, given) == shipped


@pytest.mark.usefixtures("taped")
def test_an_update_of_the_refinement_can_be_recorded_with_new_labels_each_time(tiny: Params) -> None:
    recorder, told, agents = TapeRecorder(), [], []
    for each in (None, recorder):
        torch.manual_seed(0)
        refinement = doubled(Transfer(tiny).refinement())
        for module in (refinement.belief.net, refinement.steady.average, refinement.steady_reward.average):
            module.double()
        refinement.imagined = Labelled(*(part.double() for part in refinement.imagined))
        told.append(updated(refinement, PRACTICE + 9, each))
        agents.append(refinement.steady.average.state_dict() | refinement.belief.net.state_dict())
    assert recorder.plays > 5
    assert told[0] == told[1]
    assert len({figures["reward"] for figures in told[0]}) == PRACTICE + 9
    torch.testing.assert_close(agents[0], agents[1], rtol=0, atol=0)

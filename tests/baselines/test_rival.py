"""What holds for every rival."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telepath.alignment.rates import Rates
from telepath.baselines.catalogue import POLICIES, load_policy, make_rival
from telepath.baselines.pada import AdaptedPolicy
from telepath.baselines.rival import Allowed, Rival, adapt, noisy, resample, save_policy
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import rollout
from telepath.episodes import Episode
from telepath.errors import UserError
from telepath.rival_settings import AimeSettings, BcoSettings, PadaSettings, RivalSettings
from tests.baselines.conftest import Point, plain
from tests.conftest import Counting, Kept, NoScratch, StopAt, Stopped

NAMES = ["pada", "pada_model", "bco", "aime"]  # those that play episode by episode


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(
    name: str, allow: Callable[..., Allowed], pada: PadaSettings, bco: BcoSettings, aime: AimeSettings
) -> Callable[[], tuple[Rival, Allowed]]:
    def make_it() -> tuple[Rival, Allowed]:
        allowed = allow(gain=0.5, steps=330)
        return make_rival(allowed, {"pada": pada, "pada_model": plain(pada), "bco": bco, "aime": aime}[name]), allowed

    return make_it


def test_the_settings_and_the_catalogue_name_the_same_rivals() -> None:
    assert list(POLICIES) == list(RivalSettings.model_fields)
    assert set(NAMES) <= set(POLICIES)


def test_no_rival_touches_the_target_s_reward_and_the_budget_is_kept(
    make: Callable[[], tuple[Rival, Allowed]],
) -> None:
    # A step of this target raises when its reward is read, and so does one of the simulator.
    rival, allowed = make()
    progress = Counting()
    curve = adapt(rival, allowed.target, allowed.steps, progress, NoScratch())  # type: ignore[arg-type]
    assert progress.count == 320
    assert curve["steps"].tolist() == list(range(40, 321, 40))
    with pytest.raises(AssertionError, match="touched"):
        _ = allowed.target.step(np.zeros(1)).reward


def test_of_the_source_it_sees_no_more_than_the_report_says(
    name: str,
    allow: Callable[..., Allowed],
    source_episodes: list[Episode],
    pada: PadaSettings,
    bco: BcoSettings,
    aime: AimeSettings,
) -> None:
    def altered(episode: Episode) -> Episode:
        assert episode.reward is not None
        # The same return in other portions.
        reward = np.concatenate([episode.reward[:1], np.full(len(episode) - 1, episode.ret / (len(episode) - 1))])
        action, observation = episode.action, episode.observation
        if name != "pada_model":
            action = np.full_like(action, np.nan)
        if name == "pada":
            observation = np.full_like(observation, np.nan)
        return Episode(observation, action, reward.astype(np.float32))

    settings = {"pada": pada, "pada_model": plain(pada), "bco": bco, "aime": aime}[name]
    found = []
    for episodes in (source_episodes, [altered(episode) for episode in source_episodes]):
        allowed = allow(gain=0.5, steps=240, episodes=episodes)
        if name in ("bco", "aime"):
            allowed = allowed._replace(simulator=None)  # type: ignore[arg-type]
        rival = make_rival(allowed, settings)
        adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
        found.append(rival.artefact())
    equal(*found)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_run_taken_up_from_a_checkpoint_ends_in_the_same_bits(
    make: Callable[[], tuple[Rival, Allowed]], stop: int
) -> None:
    straight, allowed = make()
    whole = adapt(straight, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
    stopped, allowed = make()
    scratch = StopAt(stop)
    with pytest.raises(Stopped):
        adapt(stopped, allowed.target, allowed.steps, Counting(), scratch)  # type: ignore[arg-type]
    resumed, allowed = make()
    progress = Counting()
    again = adapt(resumed, allowed.target, allowed.steps, progress, Kept(scratch))  # type: ignore[arg-type]
    assert progress.count == 320
    assert whole.equals(again)
    equal(straight.artefact(), resumed.artefact())
    equal(straight.state(), resumed.state())


class Played:
    """A rival that learns nothing, and in whose every other episode the target's simulator diverges."""

    def __init__(self, target: Point):
        self.target = target

    def episode(self, number: int) -> tuple[int, dict[str, float]]:
        self.target.divergences += number % 2
        return 40, {}

    def artefact(self) -> dict[str, Any]:
        return {}

    state = artefact

    def restore(self, state: dict[str, Any]) -> None:
        pass


def test_divergences_of_earlier_sessions_are_counted() -> None:
    scratch, first, second = StopAt(4), Point(), Point()
    with pytest.raises(Stopped):
        adapt(Played(first), first, 240, Counting(), scratch)  # type: ignore[arg-type]
    curve = adapt(Played(second), second, 240, Counting(), Kept(scratch))  # type: ignore[arg-type]
    assert curve["divergences"].tolist() == [0, 1, 1, 2, 2, 3]
    assert (first.divergences, second.divergences) == (2, 1)


def equal(one: object, other: object) -> None:
    """AssertionError unless two trees are the same, bit for bit."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        for part, counterpart in zip(one, other, strict=True):
            equal(part, counterpart)
    elif isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        assert np.array_equal(one, other)
    elif isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    else:
        assert one == other


def test_a_policy_comes_back_from_disk_and_acts_the_same(
    make: Callable[[], tuple[Rival, Allowed]], name: str, tmp_path: Path
) -> None:
    rival, allowed = make()
    adapt(rival, allowed.target, allowed.steps, Counting(), NoScratch())  # type: ignore[arg-type]
    save_policy(tmp_path / "policy.safetensors", name, "point", rival.artefact())
    one, other = (load_policy(tmp_path / "policy.safetensors", name, "point") for _ in range(2))
    first, again = (rollout([Point(0.5), Point(0.5)], policy) for policy in (one, other))  # type: ignore[list-item]
    np.testing.assert_array_equal(first[0].action, again[0].action)
    assert np.abs(first[0].action).max() <= 1
    save_policy(tmp_path / "again.safetensors", name, "point", rival.artefact())
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "policy.safetensors").read_bytes()
    with pytest.raises(UserError, match=f"holds {name} for point, not {name} for cheetah-run"):
        load_policy(tmp_path / "policy.safetensors", name, "cheetah-run")


def test_the_loaded_pada_holds_the_source_s_actions_at_its_own_rate(
    allow: Callable[..., Allowed], pada: PadaSettings, agent: Agent, tmp_path: Path
) -> None:
    allowed = allow()._replace(rates=Rates(4, 2, 0.1))
    save_policy(tmp_path / "policy.safetensors", "pada", "point", make_rival(allowed, pada).artefact())
    policy = load_policy(tmp_path / "policy.safetensors", "pada", "point")
    assert isinstance(policy, AdaptedPolicy)
    policy.source.reset(1)
    asked = [policy.source.act(np.full((1, 2), n, np.float32))[0, 0] for n in range(4)]
    assert asked[0] == asked[1] != asked[2] == asked[3]


def test_resampling_is_exact_at_common_times_and_straight_between() -> None:
    track = np.array([[0, 5], [1, 7], [4, 7]], np.float32)
    np.testing.assert_allclose(resample(track, Rates(2, 1, 0.1)), [[0, 5], [0.5, 6], [1, 7], [2.5, 7], [4, 7]])
    np.testing.assert_array_equal(resample(track, Rates(3, 3, 0.1)), track)
    np.testing.assert_allclose(resample(np.arange(6.0)[:, None], Rates(1, 2, 0.1)), [[0], [2], [4]], atol=1e-6)
    assert resample(track, Rates(6, 3, 0.02)).dtype == np.float32


def test_noise_stays_within_the_action_range() -> None:
    actions = noisy(np.full((1000, 1), 0.9, np.float32), 0.5, np.random.default_rng(0))
    assert actions.max() == 1
    assert actions.dtype == np.float32

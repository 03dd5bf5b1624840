from collections.abc import Callable

import numpy as np
import pytest
import torch

from telepath.baselines.darc import Darc, DomainClassifiers, table, transitions_of
from telepath.config import Params
from telepath.dreamer.learner import descend
from telepath.dreamer.replay import Batch
from telepath.envs.rollout import seed_episodes
from telepath.rival_settings import DarcSettings
from telepath.settings import DreamerSettings
from tests.baselines.conftest import Point
from tests.conftest import Counting, Kept, NoScratch, StopAt, Stopped, counting_episode


def test_the_correction_is_the_log_ratio_of_known_dynamics() -> None:
    # s' = s + a + noise at home, s' = s + a + 0.5 + noise away; and the domains are not where one would think: away,
    # actions are larger, which is no gap of the dynamics and must cancel out.
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    std, shift, count = 0.5, 0.5, 20000

    def sample(away: bool) -> torch.Tensor:
        s = torch.randn(count, 1, generator=generator)
        a = 0.5 * torch.randn(count, 1, generator=generator) + 0.7 * away
        after = s + a + shift * away + std * torch.randn(count, 1, generator=generator)
        return transitions_of(s, a, after)

    home, away = sample(False), sample(True)
    classifiers = DomainClassifiers(1, 1, 32)
    classifiers.fit_units(torch.cat([home, away]))
    parameters = dict(classifiers.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), 2e-3)
    answer = torch.arange(512).ge(256).float()
    for _ in range(1500):
        lots = [lot[torch.randint(count, (256,), generator=generator)] for lot in (home, away)]
        loss = classifiers.loss(torch.cat(lots), answer, 0.0, generator)
        descend(optimizer, parameters, loss, 100.0, "classifiers", {})
    asked = torch.cat([sample(False)[:500], sample(True)[:500]])
    missed = asked[:, 2] - asked[:, 1]
    true = (missed.square() - (missed - shift).square()) / (2 * std**2)
    with torch.no_grad():
        found = classifiers.correction(asked)
    assert (found - true).abs().mean() < 0.25
    assert np.corrcoef(found, true)[0, 1] > 0.98
    # The domain classifier that sees no dynamics still tells the domains apart by the actions alone.
    with torch.no_grad():
        partial = classifiers.partial(asked[:, :2]).squeeze(1)
    assert partial[500:].mean() - partial[:500].mean() > 1


@pytest.fixture
def darc(params: Params) -> DarcSettings:
    return params.rivals.darc.model_copy(update={"hidden": 16, "batch": 32, "lr": 3e-3})


@pytest.fixture
def make(params: Params, small: DreamerSettings, darc: DarcSettings) -> Callable[..., Darc]:
    online = params.source.training.model_copy(
        update={"first_updates": 5, "update_ratio": 0.1, "finalists": 2, "final_episodes": 1}
    )

    def build(gain: float = 0.5) -> Darc:
        source = Point(rewarded=True)
        seeds = seed_episodes(source, 2, 0)  # type: ignore[arg-type]
        target = Point(gain)
        return Darc(
            "point",
            source,  # type: ignore[arg-type]
            target,  # type: ignore[arg-type]
            seeds,
            small,
            online,
            darc,
            steps=400,
            target_steps=330,
            seed=0,
            horizon=3,
            rate_ratio=1.0,
        )

    return build


def test_the_target_s_reward_is_not_touched_and_both_budgets_are_kept(make: Callable[..., Darc]) -> None:
    training = make()
    progress = Counting()
    trained = training.run(progress, NoScratch())  # type: ignore[arg-type]
    assert progress.count == training.update_budget
    assert sum(episode.steps for episode in trained.episodes) == 400
    assert training.target_steps == 320
    assert all(episode.reward is None for episode in training.away.episodes)
    with pytest.raises(AssertionError, match="touched"):
        _ = training.target.step(np.zeros(1)).reward


@pytest.mark.parametrize("stop", [2, 20])
def test_a_run_taken_up_from_a_checkpoint_ends_in_the_same_bits(make: Callable[..., Darc], stop: int) -> None:
    straight = make()
    whole = straight.run(Counting(), NoScratch())  # type: ignore[arg-type]
    scratch = StopAt(stop)
    with pytest.raises(Stopped):
        make().run(Counting(), scratch)  # type: ignore[arg-type]
    resumed = make()
    again = resumed.run(Counting(), Kept(scratch))  # type: ignore[arg-type]
    for one, other in zip(straight.classifiers.parameters(), resumed.classifiers.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.agent.parameters(), again.agent.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.curve == again.curve


def test_where_nothing_differs_nothing_is_corrected_and_a_weak_motor_is_told(make: Callable[..., Darc]) -> None:
    worth = {}
    for gain in (1.0, 0.3):
        training = make(gain)
        while len(training.away) < training.visits_due():
            training.visit()
        for _ in range(600):
            training.learn_domains()
        worth[gain] = float(training.corrections(table(training.replay.episodes)).abs().mean())
    assert worth[0.3] > 3 * worth[1.0]


def test_the_first_record_of_a_window_is_corrected_by_what_came_before_it(
    make: Callable[..., Darc], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make()
    training.replay.episodes = [counting_episode(0, 10)]
    seen = []
    monkeypatch.setattr(training, "corrections", lambda rows: seen.append(rows) or rows[..., 1] * 0 + 100)
    episode = training.replay.episodes[0]

    def cut(start: int) -> Batch:
        part = slice(start, start + 4)
        first = torch.zeros(4, 1)
        first[0] = start == 0
        arrays = (torch.from_numpy(a[part])[:, None] for a in (episode.observation, episode.action, episode.reward))  # type: ignore[index]
        return Batch(*arrays, first, torch.zeros(4, 1), np.array([0]), np.array([start]))  # type: ignore[arg-type]

    rate = training.rate(cut(3))
    assert seen[-1][:, 0, 1].tolist() == [2, 3, 4, 5], "the observations before the window's records"
    assert seen[-1][:, 0, 4].tolist() == [1, 1, 1, 1], "each a step further"
    assert rate[:, 0].tolist() == [103, 104, 105, 106]
    rate = training.rate(cut(0))
    assert rate[:, 0].tolist() == [0, 101, 102, 103], "nothing led to an episode's first record"


def test_the_finalist_with_the_best_corrected_return_is_kept(
    make: Callable[..., Darc], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make()
    training.finalists = [{k: v.clone() for k, v in training.agent.state_dict().items()} for _ in range(3)]
    for number, finalist in enumerate(training.finalists):
        finalist["behavior.scale"].fill_(number)
    scores = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(training, "corrected_return", lambda episode: next(scores))
    training.settings = training.settings.model_copy(update={"final_episodes": 1})
    training.choose()
    assert float(training.agent.behavior.scale) == 1

import numpy as np
import pytest

from telepath.baselines.randomised import RandomisedSource, random_gaps
from telepath.config import Params
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import seed_episodes
from telepath.errors import UserError
from telepath.rival_settings import RandomisedSettings
from telepath.settings import DreamerSettings
from tests.conftest import Counting, NoScratch

TASK = "cartpole-swingup"


@pytest.fixture
def settings(params: Params) -> RandomisedSettings:
    return params.rivals.randomised.model_copy(update={"variants": 3})


def masses(source: RandomisedSource) -> list[float]:
    return [float(simulator.physics.model.body_mass.sum()) for simulator in source.simulators]


def test_factors_lie_within_reach_and_are_even_in_their_logarithm(settings: RandomisedSettings) -> None:
    gaps = random_gaps("walker-walk", 3, settings.model_copy(update={"variants": 400}), 0)
    factors = np.array([[gap.mass, gap.friction, gap.damping, gap.gear] for gap in gaps])
    assert factors.min() >= 0.5
    assert factors.max() <= 2
    assert np.abs(np.log(factors).mean(0)).max() < 0.1
    assert np.abs((factors < 1).mean(0) - 0.5).max() < 0.1
    assert np.abs(np.corrcoef(factors.T) - np.eye(4)).max() < 0.2
    assert {gap.action_repeat for gap in gaps} == {3}
    assert {gap.gravity for gap in gaps} == {1.0}


def test_every_episode_has_its_physics_and_the_same_ones_again(settings: RandomisedSettings) -> None:
    source = RandomisedSource(TASK, 4, settings, 0)
    assert len({round(mass, 6) for mass in masses(source)}) == 3

    def episode(number: int) -> tuple[float, float]:
        source.reseed(0, number)
        source.reset()
        observation = source.step(np.full(source.action_dim, 0.5)).observation
        return float(source.physics.model.body_mass.sum()), float(observation.sum())

    first = [episode(number) for number in range(12)]
    assert {mass for mass, _ in first} == set(masses(source))
    assert [episode(number) for number in reversed(range(12))] == first[::-1]


def test_a_quantity_that_is_none_or_not_the_task_s_says_so(settings: RandomisedSettings) -> None:
    with pytest.raises(UserError, match=r"no quantity 'mas'; did you mean 'mass'\?"):
        random_gaps(TASK, 4, settings.model_copy(update={"quantities": ["mas"]}), 0)
    with pytest.raises(UserError, match=r"cartpole-swingup has none of these; valid are .*mass"):
        random_gaps(TASK, 4, settings.model_copy(update={"quantities": ["thigh_length"]}), 0)


def test_a_dreamer_is_trained_in_it(params: Params, small: DreamerSettings, settings: RandomisedSettings) -> None:
    source = RandomisedSource(TASK, 50, settings, 0)
    online = params.source.training.model_copy(
        update={"first_updates": 2, "update_ratio": 0.05, "finalists": 1, "final_episodes": 1}
    )
    training = OnlineTraining(TASK, source, seed_episodes(source, 2, 0), small, online, steps=100, seed=0, horizon=3)
    trained = training.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert sum(episode.steps for episode in trained.episodes) == 100
    assert all(episode.reward is not None for episode in trained.episodes)

import numpy as np
import pytest

from telepath.envs.rollout import ActionHold, RandomPolicy, rollout, seed_episodes
from telepath.envs.suite import Environment, Step


class Counting:
    """Observes the number of steps taken; pays ten times it plus the action; ends after ``length`` steps."""

    action_dim, divergences = 1, 0

    def __init__(self, length, rewarded=True, terminal=False):
        self.length, self.rewarded, self.terminal = length, rewarded, terminal

    def reset(self):
        self.time = 0
        return np.zeros(1, np.float32)

    def step(self, action):
        self.time += 1
        last = self.time == self.length
        paid = 10 * self.time + float(action[0]) if self.rewarded else None
        return Step(np.full(1, self.time, np.float32), paid, self.terminal and last, last)


class Scripted:
    """Acts 0.1 times the number of observations it has seen, and keeps them."""

    def __init__(self, scale=0.1):
        self.scale = scale

    def reset(self, batch):
        self.batch, self.seen = batch, []

    def act(self, observation):
        assert observation.shape == (self.batch, 1)
        self.seen.append(observation[:, 0].tolist())
        return np.full((self.batch, 1), self.scale * len(self.seen), np.float32)


def test_record_t_holds_the_action_and_reward_that_led_to_observation_t():
    (episode,) = rollout([Counting(3, terminal=True)], Scripted())
    np.testing.assert_array_equal(episode.observation[:, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(episode.action[:, 0], [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(episode.reward, [0, 10.1, 20.2, 30.3], rtol=1e-6)
    assert episode.terminal
    assert {episode.observation.dtype, episode.action.dtype, episode.reward.dtype} == {np.dtype(np.float32)}


def test_environments_run_in_lockstep_and_wait_for_the_longest():
    policy = Scripted()
    short, long = rollout([Counting(1), Counting(3)], policy)
    assert policy.seen == [[0, 0], [1, 1], [1, 2]]
    assert (short.steps, long.steps) == (1, 3)
    assert not short.terminal


def test_steps_limit():
    (episode,) = rollout([Counting(9)], Scripted(), steps=2)
    assert episode.steps == 2


def test_actions_are_recorded_clipped():
    (episode,) = rollout([Counting(2)], Scripted(scale=7))
    np.testing.assert_array_equal(episode.action[:, 0], [0, 1, 1])
    assert episode.reward[1] == 11


def test_unrewarded_environments_give_episodes_without_reward():
    (fake,) = rollout([Counting(2, rewarded=False)], Scripted())
    assert fake.reward is None
    environment = Environment("cartpole-balance", 500, 0, rewarded=False)
    (episode,) = rollout([environment], RandomPolicy(1, np.random.default_rng(0)))
    assert episode.reward is None
    assert episode.steps == environment.episode_steps == 2


def test_action_hold_asks_at_the_inner_rate_only():
    inner = Scripted()
    (episode,) = rollout([Counting(7)], ActionHold(inner, 3.0))
    assert inner.seen == [[0], [3], [6]]
    np.testing.assert_allclose(episode.action[1:, 0], [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3])


def test_action_hold_begins_anew_with_every_episode():
    policy = ActionHold(Scripted(), 2)
    for _ in range(2):
        (episode,) = rollout([Counting(3)], policy)
        np.testing.assert_allclose(episode.action[1:, 0], [0.1, 0.1, 0.2])


def test_action_hold_for_a_slower_target_asks_every_step():
    inner = Scripted()
    rollout([Counting(3)], ActionHold(inner, 0.5))
    assert len(inner.seen) == 3


@pytest.mark.parametrize("ratio", [0, -1, 1.5])
def test_action_hold_needs_a_whole_ratio(ratio):
    with pytest.raises(ValueError, match="ratio"):
        ActionHold(Scripted(), ratio)


def test_random_policy_is_uniform_and_held():
    policy = RandomPolicy(2, np.random.default_rng(0), hold=3)
    policy.reset(400)
    seen = np.stack([policy.act(np.zeros((400, 1))) for _ in range(6)])
    assert seen.shape == (6, 400, 2)
    assert seen.dtype == np.float32
    assert np.abs(seen).max() <= 1
    assert abs(seen.mean()) < 0.05
    assert seen.var() == pytest.approx(1 / 3, abs=0.03)
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[2], seen[3])


def test_random_policy_hold_must_be_positive():
    with pytest.raises(ValueError, match="hold"):
        RandomPolicy(1, np.random.default_rng(0), hold=0)


class Bar:
    total = 0

    def advance(self, amount):
        self.total += amount


def test_seed_episodes_do_not_depend_on_the_past_of_the_environment():
    bar = Bar()
    environment = Environment("pendulum-swingup", 100, seed=9)
    first = seed_episodes(environment, 2, seed=4, progress=bar)
    again = seed_episodes(environment, 2, seed=4)
    assert bar.total == 2
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.observation, two.observation)
        np.testing.assert_array_equal(one.action, two.action)
        np.testing.assert_array_equal(one.reward, two.reward)
    assert not np.array_equal(first[0].action, first[1].action)

import numpy as np
import pytest

from telepath.envs import gaps
from telepath.envs.backend import Physics
from telepath.envs.gaps import MULTIPLIERS, applicable, induced_gap, rate_ratio, target_environment
from telepath.envs.rollout import RandomPolicy, rollout
from telepath.envs.suite import TASKS, Environment
from telepath.errors import UserError
from telepath.settings import GapSettings

ONE_TASK_A_DOMAIN = list({task.rpartition("-")[0]: task for task in TASKS}.values())


def gap(action_repeat=2, **multipliers):
    return GapSettings(action_repeat=action_repeat, **multipliers)


def random_episode(environment, steps=10, seed=0):
    (episode,) = rollout([environment], RandomPolicy(environment.action_dim, np.random.default_rng(seed)), steps)
    return episode


def assert_steps(environment):
    environment.reset()
    for _ in range(3):
        step = environment.step(np.full(environment.action_dim, 0.1))
        assert np.isfinite(step.observation).all()
    assert environment.divergences == 0


@pytest.mark.parametrize("task", ONE_TASK_A_DOMAIN)
def test_every_applicable_multiplier_of_every_domain(task):
    assert "mass" in applicable(task)
    for name in applicable(task):
        assert_steps(target_environment(task, gap(**{name: 0.6}), 0, rewarded=True))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_takes_all_its_multipliers_together(task):
    multipliers = dict.fromkeys(applicable(task), 1.5)
    assert_steps(target_environment(task, gap(**multipliers), 0, rewarded=False))


@pytest.mark.parametrize("task", ["walker-walk", "cheetah-run", "ball_in_cup-catch"])
def test_a_strong_gap_runs_for_a_whole_episode(task):
    environment = target_environment(task, gap(10, mass=2.0, gravity=0.5, gear=0.5), 0, rewarded=True)
    assert random_episode(environment, steps=None).steps == environment.episode_steps == 100


@pytest.mark.parametrize("task", ["walker-walk", "quadruped-fetch", "ball_in_cup-catch"])
def test_the_identity_gap_is_the_source_bit_for_bit(task):
    source = random_episode(Environment(task, 3, seed=7))
    target = random_episode(target_environment(task, gap(3), 7, rewarded=True))
    np.testing.assert_array_equal(target.observation, source.observation)
    np.testing.assert_array_equal(target.reward, source.reward)


def test_a_gap_is_deterministic_in_seed_and_episode():
    settings = gap(mass=1.5, action_noise=0.1, observation_noise=0.1)
    one, two = (target_environment("walker-walk", settings, 3, rewarded=True) for _ in range(2))
    first = random_episode(one)
    np.testing.assert_array_equal(random_episode(two).observation, first.observation)
    assert not np.array_equal(random_episode(one).observation, first.observation)
    one.reseed(3, 0)
    np.testing.assert_array_equal(random_episode(one).observation, first.observation)


def test_the_physics_class_is_left_as_it_was():
    original = Physics.__dict__["from_xml_string"]
    target_environment("walker-walk", gap(mass=2.0), 0, rewarded=True)
    assert Physics.__dict__["from_xml_string"] is original


def test_verification_catches_an_edit_that_did_not_take(monkeypatch):
    idle = gaps.QUANTITIES["mass"]
    monkeypatch.setitem(gaps.QUANTITIES, "mass", type(idle)(lambda spec, factor: None, idle.measure, idle.why_not))
    with pytest.raises(RuntimeError, match="mass came out"):
        target_environment("walker-walk", gap(mass=2.0), 0, rewarded=True)


def test_verification_catches_an_edit_of_something_else(monkeypatch):
    mass, gear = gaps.QUANTITIES["mass"], gaps.QUANTITIES["gear"]

    def both(spec, factor):
        mass.scale(spec, factor)
        gear.scale(spec, factor)

    monkeypatch.setitem(gaps.QUANTITIES, "mass", type(mass)(both, mass.measure, mass.why_not))
    with pytest.raises(RuntimeError, match="gear came out"):
        target_environment("walker-walk", gap(mass=2.0), 0, rewarded=True)


def test_actions_arrive_after_their_delay():
    prompt = target_environment("cheetah-run", gap(), 0, rewarded=True)
    late = target_environment("cheetah-run", gap(action_delay=2), 0, rewarded=True)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 6))
    expected = [prompt.reset()] + [prompt.step(a).observation for a in [np.zeros(6), np.zeros(6), *actions[:4]]]
    found = [late.reset()] + [late.step(a).observation for a in actions]
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_observations_arrive_after_their_delay_and_rewards_at_once():
    prompt = random_episode(target_environment("cheetah-run", gap(), 0, rewarded=True))
    late = random_episode(target_environment("cheetah-run", gap(observation_delay=3), 0, rewarded=True))
    np.testing.assert_array_equal(late.observation[3:], prompt.observation[:-3])
    np.testing.assert_array_equal(late.observation[:3], np.repeat(prompt.observation[:1], 3, 0))
    np.testing.assert_array_equal(late.reward, prompt.reward)


def test_observation_noise_has_its_spread_and_leaves_the_physics_alone():
    settings = gap(observation_noise=0.3)
    quiet = random_episode(target_environment("pendulum-swingup", gap(), 0, rewarded=True), steps=None)
    noisy = random_episode(target_environment("pendulum-swingup", settings, 0, rewarded=True), steps=None)
    assert noisy.observation.dtype == np.float32
    assert (noisy.observation - quiet.observation).std() == pytest.approx(0.3, rel=0.1)
    np.testing.assert_array_equal(noisy.reward, quiet.reward)


def test_action_noise_reaches_the_simulator_but_not_the_record():
    quiet = random_episode(target_environment("cheetah-run", gap(), 0, rewarded=True))
    noisy = random_episode(target_environment("cheetah-run", gap(action_noise=0.5), 0, rewarded=True))
    np.testing.assert_array_equal(noisy.action, quiet.action)
    assert not np.array_equal(noisy.observation[1], quiet.observation[1])


def test_unrewarded_target():
    environment = target_environment("walker-walk", gap(mass=1.5), 0, rewarded=False)
    environment.reset()
    step = environment.step(np.zeros(6))
    with pytest.raises(RuntimeError, match="withholds"):
        _ = step.reward


@pytest.mark.parametrize(
    ("task", "name", "why"),
    [
        ("walker-walk", "joint_stiffness", "spring"),
        ("ball_in_cup-catch", "thigh_length", "no thigh"),
        ("ball_in_cup-catch", "armature", "armature"),
        ("finger-spin", "gravity", "no gravity"),
        ("reacher-easy", "gravity", "nothing in it can fall"),
        ("cartpole-swingup", "friction", "contacts are switched off"),
        ("swimmer-swimmer6", "damping", "damped"),
        ("walker-walk", "head_size", "no head"),
    ],
)
def test_a_gap_that_does_not_apply_is_a_one_line_user_error(task, name, why):
    assert name not in applicable(task)
    with pytest.raises(UserError, match=rf"^gap\.{name}: ") as error:
        target_environment(task, gap(**{name: 2.0}), 0, rewarded=True)
    message = str(error.value)
    assert all(word in message for word in (task, why, *applicable(task)))
    assert "\n" not in message


def test_multipliers_are_those_of_the_settings():
    others = {"action_repeat", "action_noise", "observation_noise", "action_delay", "observation_delay"}
    assert set(MULTIPLIERS) == set(GapSettings.model_fields) - others


def test_unknown_task_names_the_task():
    with pytest.raises(UserError, match=r"^task: "):
        applicable("walker-wlak")


@pytest.mark.parametrize(("source", "target", "ratio"), [(4, 4, 1), (4, 2, 2), (6, 1, 6), (2, 6, 1 / 3)])
def test_rate_ratio(source, target, ratio):
    assert rate_ratio(source, target) == ratio


def test_rate_ratio_that_does_not_fit_names_both_and_the_valid_ones():
    with pytest.raises(UserError, match=r"^gap\.action_repeat: 4 .* 6, .* 1, 2, 3, 6 and multiples of 6$"):
        rate_ratio(6, 4)


def test_induced_gap_of_the_identity_is_zero():
    measured = induced_gap("walker-walk", 2, gap(2), seed=0, episodes=2, seconds=0.5)
    assert measured.mean == 0
    assert not measured.divergence.any()
    np.testing.assert_allclose(measured.seconds, np.arange(11) * 0.05)


def test_induced_gap_grows_with_the_gap_and_begins_at_zero():
    small, large = (induced_gap("cheetah-run", 4, gap(4, gear=g), 0, episodes=2) for g in (0.95, 0.5))
    assert small.divergence[0] == large.divergence[0] == 0
    assert 0 < small.mean < large.mean


@pytest.mark.parametrize(("source", "target"), [(4, 2), (2, 4)])
def test_holding_an_action_for_the_same_seconds_makes_no_gap(source, target):
    assert induced_gap("cheetah-run", source, gap(target), 0, episodes=1, seconds=0.5).mean == 0


def test_induced_gap_checks_the_rates():
    with pytest.raises(UserError, match=r"gap\.action_repeat"):
        induced_gap("cheetah-run", 3, gap(2), 0)

import numpy as np
import pytest

from telepath.envs import suite
from telepath.envs.backend import PhysicsError
from telepath.envs.suite import TASKS, UNFIT, Environment, Step, frame_seconds, load
from telepath.errors import UserError


def actions(environment, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, environment.action_dim)).astype(np.float32)


def play(environment, count, seed=0):
    first = environment.reset()
    return [first] + [environment.step(action).observation for action in actions(environment, count, seed)]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_steps_and_is_a_function_of_seed_and_episode(task):
    environment = Environment(task, 2, seed=3)
    seen = play(environment, 3)
    assert all(o.shape == (environment.observation_dim,) and o.dtype == np.float32 for o in seen)
    assert np.isfinite(seen).all()
    assert len(environment.observation_names) == len(set(environment.observation_names))
    other = play(environment, 2)
    assert not np.array_equal(other[0], seen[0])
    environment.reseed(3, 0)
    np.testing.assert_array_equal(play(environment, 3), seen)
    assert environment.divergences == 0


@pytest.mark.parametrize("task", ["walker-walk", "cheetah-run", "quadruped-fetch", "finger-turn_easy"])
def test_a_step_is_dm_controls_own_step_repeated(task):
    environment = Environment(task, 3, seed=5)
    raw = load(task)
    raw.task.random.seed([5, 0])
    spec = raw.action_spec()
    observation, expected = environment.reset(), raw.reset().observation
    for action in actions(environment, 4):
        scaled = (spec.minimum + spec.maximum) / 2 + (spec.maximum - spec.minimum) / 2 * action.astype(np.float64)
        step, paid = environment.step(action), 0.0
        for _ in range(3):
            time_step = raw.step(scaled)
            paid += time_step.reward
        observation, expected = step.observation, time_step.observation
        flat = np.concatenate([np.ravel(entry) for entry in expected.values()]).astype(np.float32)
        np.testing.assert_array_equal(observation, flat)
        assert step.reward == paid


def test_two_environments_of_one_seed_are_identical():
    one, two = (play(Environment("hopper-hop", 4, seed=1), 20) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_tasks_split_at_the_last_hyphen_and_the_unfit_are_left_out():
    assert {"ball_in_cup-catch", "walker-walk", "humanoid_CMU-run", "point_mass-easy"} <= set(TASKS)
    assert "quadruped-escape" not in TASKS
    assert not any(task.startswith("lqr") for task in TASKS)


def test_clock_ends_the_episode_without_terminating_it():
    environment = Environment("pendulum-swingup", 300, seed=0)
    assert environment.episode_steps == 4
    assert environment.frame_seconds == frame_seconds("pendulum-swingup") == pytest.approx(0.02)
    assert environment.step_seconds == pytest.approx(6)
    environment.reset()
    steps = [environment.step(np.zeros(1)) for _ in range(4)]
    assert [step.last for step in steps] == [False, False, False, True]
    assert not any(step.terminal for step in steps)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(1))


def test_rewards_are_summed_over_frames_and_the_last_step_is_truncated(monkeypatch):
    environment = Environment("pendulum-swingup", 300, seed=0)
    monkeypatch.setattr(environment.simulator.task, "get_reward", lambda physics: 0.5)
    environment.reset()
    assert [environment.step(np.zeros(1)).reward for _ in range(4)] == [150, 150, 150, 50]


def test_termination_by_the_task_is_terminal(monkeypatch):
    environment = Environment("cartpole-balance", 4, seed=0)
    environment.reset()
    ends = iter([None, None, 0.0])
    monkeypatch.setattr(environment.simulator.task, "get_termination", lambda physics: next(ends))
    step = environment.step(np.zeros(1))
    assert step.terminal
    assert step.last
    assert environment.divergences == 0


def test_unrewarded_raises_on_reward_and_never_computes_it(monkeypatch):
    environment = Environment("cheetah-run", 2, seed=0, rewarded=False)

    def forbidden(physics):
        raise AssertionError("the reward was computed")

    monkeypatch.setattr(environment.simulator.task, "get_reward", forbidden)
    environment.reset()
    step = environment.step(np.zeros(6))
    with pytest.raises(RuntimeError, match="withholds its reward"):
        _ = step.reward
    assert step.paid is None


def test_unrewarded_gives_the_same_observations():
    rewarded = play(Environment("walker-walk", 2, seed=0), 10)
    np.testing.assert_array_equal(play(Environment("walker-walk", 2, seed=0, rewarded=False), 10), rewarded)


def test_divergence_ends_the_episode_at_the_last_finite_observation(monkeypatch):
    environment = Environment("cartpole-balance", 2, seed=0)
    environment.reset()
    before = environment.step(np.zeros(1)).observation

    def diverge(substeps):
        raise PhysicsError("bad")

    monkeypatch.setattr(environment.physics, "step", diverge)
    step = environment.step(np.zeros(1))
    assert (step.last, step.terminal, step.reward, environment.divergences) == (True, False, 0.0, 1)
    np.testing.assert_array_equal(step.observation, before)


def test_observation_that_is_not_finite_counts_as_divergence(monkeypatch):
    environment = Environment("cartpole-balance", 2, seed=0)
    first = environment.reset()
    monkeypatch.setattr(environment.simulator.task, "get_observation", lambda physics: {"position": np.full(5, np.nan)})
    step = environment.step(np.zeros(1))
    assert (step.last, step.terminal, environment.divergences) == (True, False, 1)
    np.testing.assert_array_equal(step.observation, first)


def test_a_simulator_that_cannot_begin_is_a_user_error(monkeypatch):
    environment = Environment("cartpole-balance", 2, seed=0)

    def diverge():
        raise PhysicsError("bad")

    monkeypatch.setattr(environment.simulator, "reset", diverge)
    with pytest.raises(UserError, match=r"^gap: cartpole-balance diverges.*$"):
        environment.reset()
    assert environment.divergences == suite.RESET_ATTEMPTS


def test_reset_to_a_state_begins_there():
    environment = Environment("cheetah-run", 2, seed=0)
    environment.reset()
    environment.step(np.ones(6))
    state = environment.physics_state()
    environment.reset(state)
    np.testing.assert_array_equal(environment.physics_state(), state)


def test_actions_are_clipped_and_rescaled():
    environment = Environment("quadruped-walk", 1, seed=0)
    environment.reset()
    environment.step(np.full(12, 9.0))
    np.testing.assert_allclose(environment.physics.control(), [1, 1.1, 0.8] * 4)
    environment.step(np.full(12, -9.0))
    np.testing.assert_allclose(environment.physics.control(), [-1, -1, -0.8] * 4)


@pytest.mark.parametrize("action", [np.zeros(5), np.zeros((1, 6)), np.full(6, np.nan), np.full(6, np.inf)])
def test_bad_action(action):
    environment = Environment("cheetah-run", 1, seed=0)
    environment.reset()
    with pytest.raises(ValueError, match="action"):
        environment.step(action)


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("walker-wlak", "walker-walk"),
        ("nonsense", "TASKS"),
        *[(name, reason) for name, reason in UNFIT.items()],
    ],
)
def test_unknown_task_is_a_one_line_user_error(task, hint):
    with pytest.raises(UserError, match=r"^task: ") as error:
        Environment(task, 2, seed=0)
    assert hint in str(error.value)
    assert task in str(error.value)
    assert "\n" not in str(error.value)


def test_observation_names():
    assert Environment("walker-walk", 1, 0).observation_names[12:16] == (
        "orientations[12]",
        "orientations[13]",
        "height",
        "velocity[0]",
    )
    assert "box_pos[1,3]" in Environment("stacker-stack_2", 1, 0).observation_names


def test_step_is_frozen():
    with pytest.raises(AttributeError):
        Step(np.zeros(1), None, False, False).paid = 1.0


def test_action_repeat_must_be_positive():
    with pytest.raises(ValueError, match="action_repeat"):
        Environment("walker-walk", 0, 0)

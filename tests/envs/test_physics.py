"""The multipliers against closed forms of mechanics."""

import numpy as np
import pytest

from telepath.envs.backend import mujoco
from telepath.envs.gaps import target_environment
from telepath.settings import GapSettings


def physics(task, **gap):
    environment = target_environment(task, GapSettings(action_repeat=1, **gap), 0, rewarded=False)
    environment.reset()
    return environment.physics


def at(body, qpos=None, qvel=None, ctrl=None):
    """The physics, computed forward at a state (zero where not given)."""
    mujoco.mj_resetData(body.model.ptr, body.data.ptr)
    for array, values in ((body.data.qpos, qpos), (body.data.qvel, qvel), (body.data.ctrl, ctrl)):
        if values is not None:
            array[:] = values
    mujoco.mj_forward(body.model.ptr, body.data.ptr)
    return body


def test_gravity_sets_the_acceleration_of_free_fall():
    for factor in (1.0, 2.0):
        high = np.zeros(9)
        high[:2] = 10, 0
        falling = at(physics("walker-walk", gravity=factor), qpos=high)
        assert falling.data.ncon == 0
        assert falling.named.data.qacc["rootz"] == pytest.approx(-9.81 * factor)


@pytest.mark.parametrize("task", ["cheetah-run", "dog-stand", "cartpole-swingup", "manipulator-bring_ball"])
def test_mass_multiplies_mass_and_inertia_and_moves_nothing(task):
    before, after = physics(task).model, physics(task, mass=1.5).model
    np.testing.assert_allclose(after.body_mass, 1.5 * before.body_mass, rtol=1e-9)
    np.testing.assert_allclose(after.body_inertia, 1.5 * before.body_inertia, rtol=1e-6)
    for unchanged in ("body_pos", "body_ipos", "geom_pos", "geom_size", "jnt_stiffness", "dof_damping"):
        np.testing.assert_allclose(getattr(after, unchanged), getattr(before, unchanged), rtol=1e-9)


def test_mass_enters_the_equations_of_motion():
    push = np.ones(1)
    before, after = (at(physics("cartpole-balance", mass=m), ctrl=push).data.qacc[0] for m in (1.0, 2.0))
    assert after == pytest.approx(before / 2)


@pytest.mark.parametrize("task", ["walker-walk", "ball_in_cup-catch", "dog-stand"])
def test_gear_multiplies_the_force_of_motors(task):
    before, after = (physics(task, gear=g) for g in (1.0, 0.5))
    weak, strong = (at(p, ctrl=np.ones(p.model.nu)) if not p.model.na else self_activated(p) for p in (after, before))
    assert np.abs(strong.data.qfrc_actuator).max() > 0
    np.testing.assert_allclose(weak.data.qfrc_actuator, 0.5 * strong.data.qfrc_actuator)


def self_activated(body):
    """Filtered actuators act by their state, not by the control."""
    mujoco.mj_resetData(body.model.ptr, body.data.ptr)
    body.data.act[:] = 1
    mujoco.mj_forward(body.model.ptr, body.data.ptr)
    return body


def test_gear_of_servos_keeps_the_position_they_drive_to():
    before, after = (physics("fish-swim", gear=g).model for g in (1.0, 2.0))
    np.testing.assert_array_equal(after.actuator_gear, before.actuator_gear)
    np.testing.assert_allclose(after.actuator_gainprm, 2 * before.actuator_gainprm)
    np.testing.assert_allclose(after.actuator_biasprm, 2 * before.actuator_biasprm)


def test_damping_multiplies_the_passive_force_of_a_motion():
    moving = np.arange(9.0)
    before, after = (at(physics("walker-walk", damping=d), qvel=moving).data for d in (1.0, 3.0))
    np.testing.assert_allclose(after.qfrc_passive, 3 * before.qfrc_passive)
    assert before.qfrc_passive.any()


def test_damping_holds_even_where_the_task_writes_its_own():
    environment = target_environment("finger-spin", GapSettings(action_repeat=1, damping=2.0), 0, rewarded=False)
    for _ in range(2):
        environment.reset()
        assert environment.physics.named.model.dof_damping["hinge"][0] == pytest.approx(0.06)


def test_stiffness_multiplies_the_passive_force_of_a_pose():
    bent = np.full(9, 0.1)
    before, after = (at(physics("cheetah-run", joint_stiffness=k), qpos=bent).data for k in (1.0, 0.5))
    np.testing.assert_allclose(after.qfrc_passive, 0.5 * before.qfrc_passive)
    assert before.qfrc_passive.any()


def test_armature_adds_to_the_joint_space_inertia():
    before, after = (at(physics("hopper-stand", armature=a)) for a in (1.0, 2.0))
    inertia = np.zeros((2, 7, 7))
    for full, body in zip(inertia, (before, after), strict=True):
        for column in range(7):
            unit = np.eye(7)[column]
            mujoco.mj_mulM(body.model.ptr, body.data.ptr, full[column], unit)
    np.testing.assert_allclose(inertia[1] - inertia[0], np.diag(before.model.dof_armature), atol=1e-12)


def test_friction_reaches_the_contacts():
    low = np.zeros(9)
    low[0] = -0.01
    before, after = (at(physics("walker-walk", friction=f), qpos=low) for f in (1.0, 0.5))
    assert before.data.ncon > 0
    sliding, rest = slice(0, 2), slice(2, 5)
    for b, a in zip(before.data.contact, after.data.contact, strict=True):
        np.testing.assert_allclose(a.friction[sliding], 0.5 * b.friction[sliding])
        np.testing.assert_allclose(a.friction[rest], b.friction[rest])


def test_period_of_a_pendulum_with_a_longer_pole():
    body = physics("pendulum-swingup", pole_length=2.0, damping=0.01)
    length, mass, radius = 2 * 0.5, 1.0, 0.05
    inertia = mass * (length**2 + 0.4 * radius**2)
    angles = []
    at(body, qpos=[np.pi + 0.05])
    for _ in range(round(10 / body.timestep())):
        mujoco.mj_step(body.model.ptr, body.data.ptr)
        angles.append(body.data.qpos[0] - np.pi)
    crossings = np.flatnonzero(np.diff(np.sign(angles)) > 0) * body.timestep()
    assert np.diff(crossings).mean() == pytest.approx(2 * np.pi * np.sqrt(inertia / (mass * 9.81 * length)), rel=0.01)


def anchors(body, joint):
    return body.data.xanchor[body.model.name2id(joint, "joint")]


@pytest.mark.parametrize(
    ("task", "gap", "upper", "lower"),
    [
        ("walker-walk", "thigh_length", "left_hip", "left_knee"),
        ("walker-walk", "shin_length", "right_knee", "right_ankle"),
        ("cheetah-run", "thigh_length", "bthigh", "bshin"),
        ("cheetah-run", "torso_length", "bthigh", "fthigh"),
        ("hopper-hop", "shin_length", "knee", "ankle"),
        ("quadruped-walk", "shin_length", "knee_front_left", "ankle_front_left"),
        ("humanoid-walk", "thigh_length", "left_hip_y", "left_knee"),
    ],
)
def test_lengths_move_the_next_joint_along_and_keep_the_feet_on_the_ground(task, gap, upper, lower):
    before, after = (at(physics(task, **{gap: f})) for f in (1.0, 1.5))
    stretch = np.linalg.norm(anchors(after, upper) - anchors(after, lower)) / np.linalg.norm(
        anchors(before, upper) - anchors(before, lower)
    )
    assert stretch == pytest.approx(1.5, rel=0.08)
    if task in ("walker-walk", "hopper-hop"):
        assert stretch == pytest.approx(1.5)
        foot = before.model.name2id(before.model.id2name(before.model.nbody - 1, "body"), "body")
        assert after.data.xpos[foot][2] == pytest.approx(before.data.xpos[foot][2])


def test_a_longer_thigh_weighs_more_and_nothing_else_does():
    bodies = [physics("cheetah-run", thigh_length=f) for f in (1.0, 2.0)]
    before, after = (body.named.model.body_mass for body in bodies)
    half, radius = 0.145, 0.046
    volume = [np.pi * radius**2 * (2 * half * f + 4 / 3 * radius) for f in (1.0, 2.0)]
    assert after["bthigh"] / before["bthigh"] == pytest.approx(volume[1] / volume[0])
    for other in ("torso", "bshin", "bfoot", "fshin", "ffoot"):
        assert after[other] == pytest.approx(before[other])


def test_pole_length_keeps_the_mass_and_changes_its_inertia():
    before, after = (physics("cartpole-three_poles", pole_length=f).model for f in (1.0, 0.5))
    np.testing.assert_allclose(after.body_mass, before.body_mass)
    np.testing.assert_allclose(after.body_pos[-1], [0, 0, 0.5], atol=1e-12)
    assert after.body_inertia[-1, 0] < before.body_inertia[-1, 0]


def test_head_size():
    bodies = [physics("humanoid-stand", head_size=f) for f in (1.0, 2.0)]
    before, after = (body.named.model for body in bodies)
    assert after.geom_size["head", 0] == pytest.approx(2 * before.geom_size["head", 0])
    assert after.body_mass["head"] == pytest.approx(8 * before.body_mass["head"])

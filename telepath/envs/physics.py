"""Scalar physics quantities of a MuJoCo model: how to multiply one in its source, and how to read it back.

Edits are made to the ``MjSpec`` a task was built from, before it is compiled, so that whatever the compiler
derives (inverse weights, inertia of limbs, ...) fits. ``measure`` reads the compiled result.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from telepath.envs.backend import mujoco
from telepath.episodes import Array

Spec = Any
Model = Any


@dataclass(frozen=True)
class Quantity:
    """A physical quantity that a gap multiplies.

    scale(spec, factor) edits the model's source; measure(model) gives all its values in a compiled model,
    float64 (n, ...), one row an object; why_not(model) tells why multiplying it would change nothing, or is
    empty.
    """

    scale: Callable[[Spec, float], None]
    measure: Callable[[Model], Array]
    why_not: Callable[[Model], str]


def scale_mass(spec: Spec, factor: float) -> None:
    """Mass and inertia of every body, by the densities and masses that they are computed from."""
    for geom in spec.geoms:
        if np.isnan(geom.mass):
            geom.density *= factor
        else:
            geom.mass *= factor
    for body in spec.bodies:
        if body.explicitinertial:
            body.mass *= factor
            body.inertia = factor * body.inertia
            body.fullinertia = factor * body.fullinertia


def bake_total_mass(spec: Spec) -> None:
    """Replace the compiler's ``settotalmass`` by the densities that it leads to.

    It would otherwise undo a change of mass, and pay for a longer limb with the mass of all others.
    """
    total = spec.compiler.settotalmass
    if total <= 0:
        return
    spec.compiler.settotalmass = -1
    scale_mass(spec, total / spec.compile().body_mass.sum())


def bake_springs(spec: Spec) -> None:
    """Replace springs given by time constant and damping ratio (the dog's) by stiffness and damping.

    They would otherwise follow the masses.
    """
    model = spec.compile()
    for joint in spec.joints:
        if np.any(joint.springdamper):
            joint.springdamper = 0 * joint.springdamper
            joint.stiffness[0] = model.jnt_stiffness[joint.id]
            joint.damping[0] = model.dof_damping[model.jnt_dofadr[joint.id]]


def mass(model: Model) -> Array:
    """(bodies, 4): mass and principal moments of inertia."""
    return np.column_stack([model.body_mass, model.body_inertia])


def scale_gravity(spec: Spec, factor: float) -> None:
    """The gravity vector."""
    spec.option.gravity = factor * spec.option.gravity


def gravity_why_not(model: Model) -> str:
    """Gravity is off, or acts along directions in which nothing can move."""
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY or not model.opt.gravity.any():
        return "it has no gravity"
    data = mujoco.MjData(model)
    # Any generic pose will do: at rest, the bias forces are gravity's alone.
    mujoco.mj_integratePos(model, data.qpos, np.random.default_rng(0).uniform(-1, 1, model.nv), 0.5)
    mujoco.mj_forward(model, data)
    weight = model.body_mass.sum() * np.linalg.norm(model.opt.gravity)
    return "" if np.abs(data.qfrc_bias).max() > 1e-9 * weight else "nothing in it can fall"


def scale_friction(spec: Spec, factor: float) -> None:
    """The sliding coefficient of every geom and contact pair.

    All geoms, because a contact takes the larger coefficient of its two. Torsional and rolling friction are
    lengths rather than coefficients and stay, as does the dry friction of joints.
    """
    for geom in spec.geoms:
        geom.friction[0] *= factor
    for pair in spec.pairs:
        pair.friction[:2] *= factor


def friction(model: Model) -> Array:
    """(geoms + 2 pairs,): sliding coefficients."""
    return np.concatenate([model.geom_friction[:, 0], model.pair_friction[:, :2].ravel()])


def friction_why_not(model: Model) -> str:
    """No two geoms of different bodies can touch, or only without friction."""
    off = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.opt.disableflags & off:
        return "its contacts are switched off"
    if (model.pair_dim > 1).any() or any(itertools.starmap(model_rubs(model), geom_pairs(model))):
        return ""
    return "nothing in it can touch with friction"


def geom_pairs(model: Model) -> itertools.combinations:
    """All pairs of geom numbers."""
    return itertools.combinations(range(model.ngeom), 2)


def model_rubs(model: Model) -> Callable[[int, int], bool]:
    """Whether contact with friction is possible between two geoms, by MuJoCo's own filters."""
    welded = model.body_weldid[model.geom_bodyid]
    parent = model.body_weldid[model.body_parentid[welded]]

    def rubs(a: int, b: int) -> bool:
        related = welded[a] == welded[b] or (
            0 not in (welded[a], welded[b]) and (parent[a] == welded[b] or parent[b] == welded[a])
        )
        meets = (model.geom_contype[a] & model.geom_conaffinity[b]) or (
            model.geom_contype[b] & model.geom_conaffinity[a]
        )
        return bool(meets and not related and max(model.geom_condim[a], model.geom_condim[b]) > 1)

    return rubs


def scale_damping(spec: Spec, factor: float) -> None:
    """Viscous damping of every joint."""
    for joint in spec.joints:
        joint.damping = factor * joint.damping


def scale_gear(spec: Spec, factor: float) -> None:
    """Strength of every actuator.

    A plain motor's gear is its strength. A servo (its force depends on its own position or velocity) has a
    gear that also converts positions, so its gains are multiplied instead, keeping the position that it
    drives to.
    """
    for actuator in spec.actuators:
        if actuator.biastype == mujoco.mjtBias.mjBIAS_NONE:
            actuator.gear = factor * actuator.gear
        else:
            actuator.gainprm = factor * actuator.gainprm
            actuator.biasprm = factor * actuator.biasprm


def strength(model: Model) -> Array:
    """(actuators, ...): gear of plain motors, gains of servos."""
    servo = model.actuator_biastype[:, None] != mujoco.mjtBias.mjBIAS_NONE
    gains = np.column_stack([model.actuator_gainprm, model.actuator_biasprm])
    return np.column_stack([np.where(servo, 0, model.actuator_gear), np.where(servo, gains, 0)])


def actuator_constants(model: Model) -> Array:
    """(actuators, ...): what no gap changes, the gear of servos and the gains of plain motors."""
    servo = model.actuator_biastype[:, None] != mujoco.mjtBias.mjBIAS_NONE
    gains = np.column_stack([model.actuator_gainprm, model.actuator_biasprm])
    return np.column_stack([np.where(servo, model.actuator_gear, 0), np.where(servo, 0, gains)])


def scale_armature(spec: Spec, factor: float) -> None:
    """Rotor inertia of every joint."""
    for joint in spec.joints:
        joint.armature *= factor


def scale_stiffness(spec: Spec, factor: float) -> None:
    """Spring stiffness of every joint."""
    for joint in spec.joints:
        joint.stiffness = factor * joint.stiffness


def unless_any(measure: Callable[[Model], Array], reason: str) -> Callable[[Model], str]:
    """``reason`` where all values are zero."""
    return lambda model: "" if measure(model).any() else reason


def damping(model: Model) -> Array:
    """(degrees of freedom,): viscous damping."""
    return model.dof_damping


def armature(model: Model) -> Array:
    """(degrees of freedom,): rotor inertia."""
    return model.dof_armature


def stiffness(model: Model) -> Array:
    """(joints,): spring stiffness."""
    return model.jnt_stiffness


def gravity(model: Model) -> Array:
    """(3,): m/s^2."""
    return model.opt.gravity


QUANTITIES: dict[str, Quantity] = {
    "mass": Quantity(scale_mass, mass, unless_any(mass, "nothing in it has mass")),
    "gravity": Quantity(scale_gravity, gravity, gravity_why_not),
    "friction": Quantity(scale_friction, friction, friction_why_not),
    "damping": Quantity(scale_damping, damping, unless_any(damping, "none of its joints is damped")),
    "gear": Quantity(scale_gear, strength, unless_any(strength, "it has no actuators")),
    "armature": Quantity(scale_armature, armature, unless_any(armature, "none of its joints has armature")),
    "joint_stiffness": Quantity(scale_stiffness, stiffness, unless_any(stiffness, "none of its joints has a spring")),
}
"""By the name of the gap's multiplier."""

"""Lengths of body parts: which parts of which task, and how to stretch one in a model's source.

The names and their meaning are those of the Real-World RL suite (Dulac-Arnold et al. 2020, "An empirical
investigation of the challenges of real-world reinforcement learning"), widened to all tasks with such a part:

- pole, thigh, shin, torso: the capsule is stretched along its axis at the same thickness, and whatever hangs
  on the body moves with it. Mass follows the volume, except where the task gives it outright (cartpole,
  pendulum).
- head: the radius of the sphere.

Beyond that suite, a body that stands on the ground is set higher or lower, so that its lowest point in the
zero pose stays where it was: longer legs do not begin inside the floor.
"""

import re
from typing import Any

import numpy as np

from telepath.envs.backend import mujoco
from telepath.episodes import Array

Spec = Any
Model = Any
Element = Any

PARTS: dict[str, dict[str, str]] = {
    "pole_length": {"cartpole": r"pole_\d+", "pendulum": "pole"},
    "thigh_length": {
        "walker": "(left|right)_thigh",
        "cheetah": "[bf]thigh",
        "hopper": "thigh",
        "humanoid": "(left|right)_thigh",
        "quadruped": "thigh_.*",
    },
    "torso_length": {"walker": "torso", "cheetah": "torso", "hopper": "torso"},
    "shin_length": {
        "walker": "(left|right)_leg",
        "cheetah": "[bf]shin",
        "hopper": "calf",
        "humanoid": "(left|right)_shin",
        "quadruped": "shin_.*",
    },
    "head_size": {"humanoid": "head"},
}
"""Multiplier -> domain -> regular expression of the geoms that are such a part."""

SIZE_INDEX = {"head_size": 0}
"""Which entry of a geom's size is multiplied: a sphere's radius, otherwise a capsule's half length."""

GROUNDED = ("thigh_length", "torso_length", "shin_length")

MIN_ALIGNED = 0.99
"""Cosine between a capsule's axis and the part's from which on it is stretched rather than moved."""

SLENDER = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)


def part_geoms(model: Model, domain: str, multiplier: str) -> list[int]:
    """Numbers of the geoms that a length multiplies; none where the domain has no such part."""
    if (pattern := PARTS[multiplier].get(domain)) is None:
        return []
    return [number for number in range(model.ngeom) if re.fullmatch(pattern, model.geom(number).name)]


def resize(spec: Spec, domain: str, multiplier: str, factor: float) -> None:
    """Multiply a length in the model's source."""
    model = spec.compile()
    numbers = part_geoms(model, domain, multiplier)
    for geom in [geom for geom in spec.geoms if geom.id in numbers]:
        if multiplier == "head_size":
            geom.size[0] *= factor
        else:
            stretch(geom.parent, model, turn(model.geom_quat[geom.id])[:, 2], factor)
    if multiplier in GROUNDED:
        root = model.body_rootid[model.geom_bodyid[numbers[0]]]
        spec.bodies[root].pos[2] += lowest_point(model, root) - lowest_point(spec.compile(), root)


def stretch(body: Element, model: Model, axis: Array, factor: float) -> None:
    """Stretch a body along ``axis`` (3,), in its own frame, from the joint by which it hangs."""
    fixed = np.array(body.joints[0].pos) if body.joints else np.zeros(3)

    def shift(point: Array) -> Array:
        return (factor - 1) * axis * (axis @ (point - fixed))

    for geom in body.geoms:
        placed = model.geom_pos[geom.id], model.geom_quat[geom.id], geom.type in SLENDER
        stretch_element(geom, *placed, axis, factor, shift)
    for site in body.sites:
        placed = model.site_pos[site.id], model.site_quat[site.id], site.type in SLENDER
        stretch_element(site, *placed, axis, factor, shift)
    for child in body.bodies:
        joint = np.array(child.joints[0].pos) if child.joints else np.zeros(3)
        child.pos = child.pos + shift(child.pos + turn(model.body_quat[child.id]) @ joint)


def stretch_element(
    element: Element, center: Array, quaternion: Array, slender: bool, axis: Array, factor: float, shift: Any
) -> None:
    """Stretch a geom or site that lies along the axis; move any other as a whole."""
    aligned = slender and abs(turn(quaternion)[:, 2] @ axis) > MIN_ALIGNED
    if np.isnan(element.fromto[0]):
        element.pos = center + shift(center)
        if aligned:
            element.size[1] *= factor
        return
    ends = np.array(element.fromto).reshape(2, 3)
    moves = [shift(end) for end in ends] if aligned else 2 * [shift(ends.mean(0))]
    element.fromto = (ends + moves).ravel()


def turn(quaternion: Array) -> Array:
    """(3, 3) rotation matrix of a quaternion."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def lowest_point(model: Model, root: int) -> float:
    """Height of the lowest point of the tree of bodies on ``root``, in the zero pose; exact for capsules."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mine = model.body_rootid[model.geom_bodyid] == root
    capsule = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    reach = np.abs(data.geom_xmat[:, 8]) * model.geom_size[:, 1] + model.geom_size[:, 0]
    return float((data.geom_xpos[:, 2] - np.where(capsule, reach, model.geom_rbound))[mine].min())


def expected_sizes(model: Model, domain: str, factors: dict[str, float]) -> Array:
    """(geoms, 3): the sizes that a model must have once its lengths are multiplied."""
    sizes = np.array(model.geom_size)
    for multiplier in PARTS.keys() & factors.keys():
        sizes[part_geoms(model, domain, multiplier), SIZE_INDEX.get(multiplier, 1)] *= factors[multiplier]
    return sizes


def resized_bodies(model: Model, domain: str, factors: dict[str, float]) -> Array:
    """(bodies,) bool: whose mass may follow their volume."""
    resized = np.zeros(model.nbody, bool)
    for multiplier in PARTS.keys() & factors.keys():
        resized[model.geom_bodyid[part_geoms(model, domain, multiplier)]] = True
    return resized

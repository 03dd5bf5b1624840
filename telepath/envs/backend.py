"""The one door to MuJoCo and dm_control, opened without graphics.

Physics needs no OpenGL. Both packages read ``MUJOCO_GL`` when they are imported, so the rest of ``envs``
takes them from here; whoever renders sets the variable first.
"""

import os

os.environ.setdefault("MUJOCO_GL", "disabled")

import mujoco
from dm_control import suite
from dm_control.mujoco import Physics
from dm_control.mujoco.wrapper import MjModel
from dm_control.rl.control import PhysicsError

__all__ = ["MjModel", "Physics", "PhysicsError", "mujoco", "suite"]

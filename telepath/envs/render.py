"""Frames of an environment, without a screen: what a person sees, or an agent that learns from pixels.

Shadows, reflections and multisampling are off: they take most of the time in software, and show nothing of a motion.
"""

from typing import Any

import numpy as np

from telepath.envs.backend import mujoco
from telepath.envs.gl import find_backend, open_context
from telepath.episodes import Array

MAX_GEOMS = 2000
"""Shapes that a scene may have; the largest of the suite has some hundreds."""


class Camera:
    """Looks at a simulator from one of its model's cameras.

    A context manager: memory of the GL library is given back at the end. Only how things are drawn is changed in the
    model, nothing that moves.
    """

    def __init__(self, physics: Any, height: int, width: int, camera: int = 0):
        """``physics``: an environment's; ``camera``: number in the model, where there is none a free one is taken.

        Raises ``NoGraphics`` where nothing can be rendered.
        """
        self._model, self._data = physics.model.ptr, physics.data.ptr
        self._image = np.empty((height, width, 3), np.uint8)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._context = open_context(find_backend(), height, width)
        self._model.vis.global_.offheight, self._model.vis.global_.offwidth = height, width
        self._model.vis.quality.shadowsize = self._model.vis.quality.offsamples = 0
        self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._scene = mujoco.MjvScene(self._model, MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        if camera < self._model.ncam:
            self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
        else:
            mujoco.mjv_defaultFreeCamera(self._model, self._camera)

    def frame(self, physics: Any = None) -> Array:
        """The present state as (H, W, 3) uint8, top row first.

        physics: another one of the same task, to be seen by the same camera; its numbers may differ, its textures and
        meshes must not.
        """
        model, data = (self._model, self._data) if physics is None else (physics.model.ptr, physics.data.ptr)
        # Another camera's context may be the current one.
        self._context.make_current()
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._viewport, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._image, None, self._viewport, self._drawing)
        # OpenGL begins at the bottom.
        return self._image[::-1].copy()

    def close(self) -> None:
        """Give everything back."""
        self._context.make_current()
        self._drawing.free()
        self._context.free()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

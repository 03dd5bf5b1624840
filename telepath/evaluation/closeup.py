"""What moves, as large as it fits: the model's camera with a window that follows the bodies and not the scenery."""

import numpy as np

from telepath.envs.backend import mujoco
from telepath.envs.render import Camera
from telepath.envs.suite import Environment
from telepath.episodes import Array

FINER = 2
"""Rendered so many times as large, then averaged: edges are smooth without multisampling."""

AROUND = 0.05
"""Left free round the bodies, as a share of their extent."""


class CloseUp(Camera):
    """Sees through a window that may be narrower than the camera's own, or lie beside it.

    Windows and extents are (2, 2): least and largest, right and up, as tangents to where the camera looks.
    """

    def __init__(self, environment: Environment, side: int):
        """``side``: height and width, pixels. Raises ``NoGraphics`` where nothing can be rendered."""
        super().__init__(environment.physics, FINER * side, FINER * side)
        # What hangs on the world without a joint is scenery.
        moves = self._model.body_weldid[self._model.geom_bodyid] != 0
        drawn = self._option.geomgroup[self._model.geom_group] != 0
        self._bodies: list[int] = np.flatnonzero(moves & drawn).tolist()

    def extent(self) -> Array:
        """Where the bodies are at present."""
        self._look()
        eyes = self._scene.camera
        eye, ahead, up = (np.mean([getattr(one, name) for one in eyes], axis=0) for name in ("pos", "forward", "up"))
        corners = np.concatenate([self._corners(body) for body in self._bodies]) - eye
        depth = np.maximum(corners @ ahead, eyes[0].frustum_near)
        directions = np.stack([corners @ np.cross(ahead, up), corners @ up], 1) / depth[:, None]
        return np.stack([directions.min(0), directions.max(0)])

    def picture(self, window: Array) -> Array:
        """The present state through a square window: (side, side, 3) uint8."""
        self._look()
        (left, low), (right, high) = window
        for eye in self._scene.camera:
            near = eye.frustum_near
            eye.frustum_bottom, eye.frustum_top = near * low, near * high
            eye.frustum_center, eye.frustum_width = near * (left + right) / 2, near * (right - left) / 2
        self._context.make_current()
        mujoco.mjr_render(self._viewport, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._image, None, self._viewport, self._drawing)
        side = len(self._image) // FINER
        parts = self._image[::-1].reshape(side, FINER, side, FINER, 3)
        return parts.mean((1, 3)).round().astype(np.uint8)

    def _look(self) -> None:
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)

    def _corners(self, body: int) -> Array:
        """Of the box round a shape: (8, 3), in the world."""
        middle, half = self._model.geom_aabb[body].reshape(2, 3)
        signs = np.stack(np.meshgrid(*[(-1, 1)] * 3), -1).reshape(8, 3)
        turned: Array = (middle + signs * half) @ self._data.geom_xmat[body].reshape(3, 3).T
        return turned + self._data.geom_xpos[body]


def square(extents: Array) -> Array:
    """The smallest square window that holds all of the extents (K, 2, 2), with a margin."""
    low, high = extents[:, 0].min(0), extents[:, 1].max(0)
    middle, reach = (low + high) / 2, (0.5 + AROUND) * (high - low).max()
    return np.stack([middle - reach, middle + reach])

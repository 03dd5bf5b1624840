"""What of a simulator an agent is shown: its state, a frame of its camera, or both."""

import atexit
from collections import deque
from typing import Any

from telepath.envs.render import Camera
from telepath.episodes import Array
from telepath.observations import SIDE, pack
from telepath.settings import ObservationKind

_CAMERAS: dict[str, Camera] = {}
"""One for each task and process: opening one takes a moment and tens of megabytes, and an evaluation has dozens of
environments. Source and target are seen by the same one, camera 0 of the model (as dm_control's pixel tasks have it).
"""


class Sight:
    """state (D,) float32, as the simulator has it at this moment -> an observation of that moment."""

    def __init__(self, task: str, physics: Any, kind: ObservationKind):
        self._see = {
            "state": lambda state: state,
            "pixels": lambda state: self._frame(),
            "pixels+state": lambda state: pack(self._frame(), state),
        }[kind]
        self._task, self._physics = task, physics
        self.known: deque[Array] = deque()
        """What was seen from here on by an earlier session that did the same: given out instead of looking."""

    def __call__(self, state: Array) -> Array:
        """Look. Raises ``NoGraphics`` where a frame is wanted and nothing can be rendered."""
        return self.known.popleft() if self.known else self._see(state)

    def _frame(self) -> Array:
        if self._task not in _CAMERAS:
            _CAMERAS[self._task] = camera = Camera(self._physics, SIDE, SIDE)
            # Registered after the libraries' own ends, so called before them: they want their contexts back.
            atexit.register(camera.close)
        return _CAMERAS[self._task].frame(self._physics)

"""Alignments of states as poses: what would be observed as the source's states were, and as the imagined ones are."""

import numpy as np

from telepath.envs.pose import PoseFinder
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.evaluation.closeup import CloseUp, square
from telepath.evaluation.evidence import Reenactments
from telepath.evaluation.figures import telling_segments

SIDE = 144
"""Height and width of a pose, pixels."""


def posed(found: Reenactments, home: Environment, away: Environment) -> tuple[Reenactments, float]:
    """The best, the median and the worst re-enactment of states with rendered poses for observations, and the misfit.

    The references are posed by the source's environment, what was imagined by the target's. Both are seen through the
    same window, which holds all that moves in this re-enactment. The misfit is the largest of all frames, in spreads.
    Raises ``NoGraphics`` where nothing can be rendered, ValueError where poses cannot be told from what is observed.
    """
    chosen = list(telling_segments(found.cost).values())
    path = found.path[chosen]
    ends = 1 + path.max(axis=1)  # nobody sees what was imagined after the path's end
    before = Posed(home, found.inverse, found.reference[chosen])
    after = Posed(away, found.inverse, found.imagined[chosen])
    both = zip(before.extents(ends[:, 0]), after.extents(ends[:, 1]), strict=True)
    windows = [square(np.stack(extents)) for extents in both]
    kept = found._replace(
        reference=before.frames(windows),
        imagined=after.frames(windows),
        path=path,
        cost=found.cost[chosen],
        inverse=np.empty(0),
    )
    return kept, max(before.misfit, after.misfit)


class Posed:
    """Motions as poses of an environment's bodies; misfit: the largest one, in spreads."""

    def __init__(self, environment: Environment, inverse: Array, motions: Array):
        """``inverse`` (D,): the scale of the motions (S, N, D)."""
        self._environment, self._finder = environment, PoseFinder(environment, inverse)
        poses = [self._finder.fit(motion) for motion in motions]
        self._positions = [pose.position for pose in poses]
        self.misfit = max(float(pose.misfit.max()) for pose in poses)

    def extents(self, ends: Array) -> Array:
        """Where the bodies come in the first ``ends`` (S,) frames of each motion: (S, 2, 2), as ``CloseUp`` says."""
        camera = CloseUp(self._environment, SIDE)
        with camera:
            found = [
                np.stack([self._shown(camera, position).extent() for position in positions[:end]])
                for positions, end in zip(self._positions, ends, strict=True)
            ]
        return np.stack([np.stack([extent[:, 0].min(0), extent[:, 1].max(0)]) for extent in found])

    def frames(self, windows: list[Array]) -> Array:
        """All frames (S, N, ``SIDE``, ``SIDE``, 3) uint8, every motion through its window."""
        camera = CloseUp(self._environment, SIDE)
        with camera:
            frames = [
                np.stack([self._shown(camera, position).picture(window) for position in positions])
                for positions, window in zip(self._positions, windows, strict=True)
            ]
        return np.stack(frames)

    def _shown(self, camera: CloseUp, position: Array) -> CloseUp:
        self._finder.show(position)
        return camera

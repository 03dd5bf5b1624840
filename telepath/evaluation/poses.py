"""Alignments of states as poses: what would be observed as the source's states were, and as the imagined ones are."""

import numpy as np

from telepath.envs.pose import PoseFinder
from telepath.envs.render import Camera
from telepath.envs.suite import Environment
from telepath.episodes import Array
from telepath.evaluation.evidence import Reenactments
from telepath.evaluation.figures import telling_segments

SIDE = 96
"""Height and width of a pose, pixels."""


def posed(found: Reenactments, home: Environment, away: Environment) -> tuple[Reenactments, float]:
    """The best, the median and the worst re-enactment of states with rendered poses for observations, and the misfit.

    The references are posed by the source's environment, what was imagined by the target's. The misfit is the largest
    of all frames, in spreads. Raises ``NoGraphics`` where nothing can be rendered, ValueError where poses cannot be
    told from what is observed.
    """
    chosen = list(telling_segments(found.cost).values())
    reference, off = pose_frames(home, found.inverse, found.reference[chosen])
    imagined, further_off = pose_frames(away, found.inverse, found.imagined[chosen])
    kept = found._replace(
        reference=reference, imagined=imagined, path=found.path[chosen], cost=found.cost[chosen], inverse=np.empty(0)
    )
    return kept, max(off, further_off)


def pose_frames(environment: Environment, inverse: Array, motions: Array) -> tuple[Array, float]:
    """Motions (S, N, D) as frames (S, N, ``SIDE``, ``SIDE``, 3) uint8, and the largest misfit."""
    finder = PoseFinder(environment, inverse)
    poses = [finder.fit(motion) for motion in motions]
    with Camera(environment.physics, SIDE, SIDE) as camera:

        def shot(position: Array) -> Array:
            finder.show(position)
            return camera.frame()

        frames = np.stack([np.stack([shot(position) for position in pose.position]) for pose in poses])
    return frames, max(float(pose.misfit.max()) for pose in poses)

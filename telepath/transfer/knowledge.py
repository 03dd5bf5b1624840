"""What the target side may know of the source: observations and rewards, and *with source agent* that agent too."""

import copy
from typing import NamedTuple

from telepath.alignment.segments import Frames, Segments
from telepath.dreamer.agent import Agent


class Knowledge(NamedTuple):
    """segments: to be re-enacted; frames: to be placed by the belief net, as they were paid; agent: the source's, where
    it may be used.
    """

    segments: Segments
    frames: Frames
    agent: Agent | None

    def agents(self, rate_ratio: float) -> list[Agent]:
        """The source agent asked at every step and, where ``rate_ratio`` steps last as long as one of its own, held."""
        if self.agent is None:
            return []
        if rate_ratio <= 1:
            return [self.agent]
        held = copy.deepcopy(self.agent)
        held.pace = round(rate_ratio)
        return [self.agent, held]

"""What the target side may know of the source: observations and rewards, and *with source agent* that agent too."""

import copy
from typing import NamedTuple

import numpy as np

from telepath.alignment.segments import Frames, Segments
from telepath.dreamer.agent import Agent
from telepath.episodes import Episode

GOOD = 0.9
"""Quantile of the source's episodes that counts as a good one: a source agent learns, so its last ones are good."""


class Knowledge(NamedTuple):
    """segments: to be re-enacted; frames: to be placed by the belief net, as they were paid; good_return: of a good
    episode; agent: the source's, where it may be used.
    """

    segments: Segments
    frames: Frames
    good_return: float
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


def good_return(episodes: list[Episode]) -> float:
    """The return of a good one of these rewarded episodes."""
    return float(np.quantile([episode.ret for episode in episodes], GOOD))

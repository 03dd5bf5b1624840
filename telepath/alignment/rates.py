"""The control rates of source and target, and what follows from them."""

import math
from typing import NamedTuple


class Rates(NamedTuple):
    """Frames a step on both sides, and the seconds of a frame."""

    source_repeat: int
    target_repeat: int
    frame_seconds: float

    @property
    def ratio(self) -> float:
        """Target steps per source step."""
        return self.source_repeat / self.target_repeat

    @property
    def source_step_seconds(self) -> float:
        """Seconds of one source step."""
        return self.source_repeat * self.frame_seconds

    @property
    def target_step_seconds(self) -> float:
        """Seconds of one target step."""
        return self.target_repeat * self.frame_seconds

    def target_steps(self, source_steps: int, slack: float = 0.0) -> int:
        """Target steps that last as long as ``source_steps``, stretched by ``slack``."""
        return math.ceil(source_steps * self.ratio * (1 + slack))

    def source_steps(self, target_steps: int, slack: float = 0.0) -> int:
        """Source steps that last as long as ``target_steps``, stretched by ``slack``."""
        return math.ceil(target_steps / self.ratio * (1 + slack))

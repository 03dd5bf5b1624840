"""What the refinement of a target policy asks of a source of labels, whatever they are made from."""

from typing import NamedTuple, Protocol

from telepath.episodes import Array, Episode


class ReplayLabels(NamedTuple):
    """Labels of one episode's records: inferred reward rate (T,) and confidence (T,) in [0, 1] (how well matched)."""

    rate: Array
    confidence: Array


class Labeller(Protocol):
    """Says what the records of target episodes are worth. It sees observations, never a target's reward.

    rate: rates that the source paid, of any shape; no label means anything beyond the lowest and highest.
    """

    rate: Array

    def label(self, episode: Episode) -> ReplayLabels:
        """Label every record of a target episode."""
        ...

    def revise(self, episodes: list[Episode], labels: list[Array]) -> list[Array]:
        """The rates (T,) of all ``episodes`` seen so far, at the end of a round; ``labels`` are those they have.

        A function of the episodes alone, so that a resumed run may ask for it again.
        """
        ...

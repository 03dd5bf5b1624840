"""Learned agents outside of the pipeline: ``telepath.load(path).act(observation, state)``. See docs/library.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telepath.loading import LoadedAgent, State, load

__all__ = ["LoadedAgent", "State", "load"]


def __getattr__(name: str) -> Any:
    # Not before somebody asks: every stage imports this package, and few of them what an agent needs.
    if name not in __all__:
        raise AttributeError(f"module 'telepath' has no attribute {name!r}")
    from telepath import loading

    return getattr(loading, name)

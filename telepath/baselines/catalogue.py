"""The rivals by name: how one is made, and how its policy comes back from disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from telepath.alignment.labeller import Labeller
from telepath.alignment.rates import Rates
from telepath.alignment.segments import Scale
from telepath.baselines.aime import Aime
from telepath.baselines.bco import Bco, cloned_policy
from telepath.baselines.coverage import coverage_likeness
from telepath.baselines.discriminator import DiscriminatorLabels
from telepath.baselines.likeness import LikenessLabels, Standing, scaled_tracks
from telepath.baselines.pada import Pada, adapted_policy
from telepath.baselines.rival import Allowed, Rival, read_policy
from telepath.baselines.temporal_transport import temporal_likeness
from telepath.baselines.transport import transport_likeness
from telepath.dreamer.agent import Agent
from telepath.envs.rollout import Policy
from telepath.episodes import Episode
from telepath.rival_settings import (
    AimeSettings,
    BcoSettings,
    CoverageSettings,
    DiscriminatorSettings,
    PlainPadaSettings,
    TemporalTransportSettings,
    TransportSettings,
)


def agent_s_policy(stored: dict[str, Any], path: Path) -> Policy:
    """The policy of a rival that leaves a whole agent."""
    return Agent.from_artefact(stored["agent"], path).policy()


POLICIES: dict[str, Callable[[dict[str, Any], Path], Policy]] = {
    "pada": adapted_policy,
    "pada_model": adapted_policy,
    "bco": lambda stored, path: cloned_policy(stored),
    "aime": agent_s_policy,
    "dtw": agent_s_policy,
    "ot": agent_s_policy,
    "temporal_ot": agent_s_policy,
    "orca": agent_s_policy,
    "gaifo": agent_s_policy,
    "darc": agent_s_policy,
    "randomised": agent_s_policy,
}
"""Name of a rival, as in params.yaml -> its policy, from its artefact and where that was read."""


def make_rival(allowed: Allowed, settings: PlainPadaSettings | BcoSettings | AimeSettings) -> Rival:
    """The rival that the settings are for."""
    if isinstance(settings, AimeSettings):
        return Aime(allowed, settings)
    if isinstance(settings, PlainPadaSettings):
        return Pada(allowed, settings)
    return Bco(allowed, settings)


LabellerSettings = TransportSettings | CoverageSettings | DiscriminatorSettings
"""Those of the rivals that differ from Telepath in the labels alone; TemporalOT's are a kind of the first."""


def make_labeller(
    settings: LabellerSettings,
    source: list[Episode],
    exploration: list[Episode],
    scale: Scale,
    rates: Rates,
    seed: int,
) -> Labeller:
    """The labeller that the settings are for.

    ``source``: rewarded episodes; ``exploration``: those of the target so far, for a labeller that learns from them.
    """
    standing = Standing(source, rates, settings.demonstrations)
    if isinstance(settings, DiscriminatorSettings):
        return DiscriminatorLabels(standing, scale, rates, exploration, settings, seed)
    if isinstance(settings, CoverageSettings):
        likeness = coverage_likeness(scaled_tracks(standing.best, scale, rates), settings)
        return LikenessLabels(standing, scale, rates, likeness)
    if isinstance(settings, TemporalTransportSettings):
        return LikenessLabels(standing, scale, rates, temporal_likeness(settings))
    return LikenessLabels(standing, scale, rates, transport_likeness(settings))


def load_policy(path: Path, name: str, task: str, dims: tuple[int, int] | None = None) -> Policy:
    """Read a rival's policy; one of another rival, task or ``dims`` (D and A, where known) is a ``UserError``."""
    return read_policy(path, name, task, POLICIES[name], dims)

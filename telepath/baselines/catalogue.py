"""The rivals by name: how one is made, and how its policy is saved and comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from telepath.baselines.bco import Bco, cloned_policy
from telepath.baselines.pada import Pada, adapted_policy
from telepath.baselines.rival import Allowed, Rival
from telepath.config import BcoSettings, PadaSettings
from telepath.envs.rollout import Policy
from telepath.errors import UserError
from telepath.files import one_line
from telepath.runtime.store import load_state, save_state

POLICIES: dict[str, Callable[[dict[str, Any], Path], Policy]] = {
    "pada": adapted_policy,
    "bco": lambda stored, path: cloned_policy(stored),
}
"""Name of a rival, as in params.yaml -> its policy, from its artefact and where that was read."""


def make_rival(allowed: Allowed, settings: PadaSettings | BcoSettings) -> Rival:
    """The rival that the settings are for."""
    if isinstance(settings, PadaSettings):
        return Pada(allowed, settings)
    return Bco(allowed, settings)


def save_policy(path: Path, name: str, task: str, rival: Rival) -> None:
    """Write what the rival has learnt."""
    save_state(path, {"rival": name, "task": task} | rival.artefact(), kind="rival")


def load_policy(path: Path, name: str, task: str) -> Policy:
    """Read a rival's policy; one of another rival or task is a ``UserError``."""
    stored = load_state(path, kind="rival")
    try:
        found = f"{stored['rival']} for {stored['task']}"
        if found == f"{name} for {task}":
            return POLICIES[name](stored, path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: holds no policy ({one_line(error)}); run `make rivals` to remake it") from None
    raise UserError(f"{path}: holds {one_line(found)}, not {name} for {task}; run `make rivals` to remake it")

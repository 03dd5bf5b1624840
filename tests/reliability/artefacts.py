"""One small whole artefact of every kind, and the function that reads it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.evaluate import read_policies
from telepath.alignment.belief import BeliefNet
from telepath.alignment.projection import INPUTS, Projection
from telepath.baselines.catalogue import load_policy
from telepath.baselines.pada import Deviation, Habit
from telepath.baselines.regression import Regressor
from telepath.config import load
from telepath.dreamer.agent import Agent
from telepath.episodes import Episode, load_arrays, load_episodes, save_arrays, save_episodes
from telepath.errors import UserError
from telepath.evaluation.evidence import read_facts, read_film, read_heldout, read_table
from telepath.observations import Observation
from telepath.runtime.store import load_state, save_state
from telepath.transfer.labels import Labels
from tests.conftest import counting_episode

PARAMS = load()
SMALL = PARAMS.dreamer.model_copy(update={"deter": 5, "stoch": 2, "hidden": 6, "layers": 1})
BELIEF = PARAMS.belief.model_copy(update={"hidden": 4})
EPISODES = [counting_episode(number, 6) for number in range(2)]
LABEL_ARRAYS = {
    "scale": np.ones(2, np.float32),
    "origin": np.zeros((3, 2), np.int64),
    "tau": np.array(0.5),
    "length": np.array([6, 6]),
    "replay_rate": np.zeros(12, np.float32),
    "replay_confidence": np.zeros(12, np.float32),
    "noise": np.zeros((3, 7), np.float32),
    "actions": np.zeros((3, 4, 1), np.float32),
    "observation": np.zeros((3, 4, 2), np.float32),
    "path": np.zeros((3, 8, 2), np.int32),
    "rate": np.zeros((3, 4), np.float32),
    "coverage": np.zeros((3, 4), np.float32),
    "cost": np.zeros(3, np.float32),
    "history": np.zeros((2, 3), np.float32),
}
FRAMES = Observation("pixels", 0)
SHALLOW = SMALL.model_copy(update={"cnn_depth": 1})
FILMED = [
    Episode(np.random.default_rng(number).integers(0, 256, (3, *FRAMES.shape), np.uint8), episode.action[:3], None)
    for number, episode in enumerate(EPISODES)
]
FRAME_LABELS = {name: array for name, array in LABEL_ARRAYS.items() if name != "scale"}
FRAME_LABELS |= Projection(np.zeros(INPUTS, np.float32), np.zeros((INPUTS, 2), np.float32), 0.1).arrays()
FRAME_LABELS |= {"observation": np.zeros((3, 4, *FRAMES.shape), np.uint8), "length": np.array([3, 3])}
FRAME_LABELS |= {name: np.zeros(6, np.float32) for name in ("replay_rate", "replay_confidence")}
HELDOUT = {name: np.zeros(3, np.float32) for name in ("true", "inferred", "predicted", "confidence")}
HELDOUT["policy"] = np.arange(3, dtype=np.int32)
FACTS = {"source_steps": 3, "target_steps": 4, "target_divergences": 0}
FACTS |= {"observation_names": ["a", "b"], "frame_seconds": 0.02}
FILM = {"missing": "", "agents": ["telepath"], "episode": 3, "seconds": 8.0, "misfit": 0.01}


@dataclass(frozen=True)
class Kind:
    """``write`` makes a whole artefact, ``read`` is what the stages read it with."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]


def agent() -> Agent:
    torch.manual_seed(0)
    return Agent("point", 2, 1, SMALL)


def seeing_agent() -> Agent:
    torch.manual_seed(0)
    return Agent("point", FRAMES, 1, SHALLOW)


def policies() -> dict[str, Any]:
    counts = {"target_steps": 9, "target_divergences": 0}
    return {"rounds": [agent().artefact()], "trained": 0, "reward": {"w": torch.ones(2)}} | counts


def save_belief(path: Path) -> None:
    model = agent().model
    net = BeliefNet(model.observation_dim, model.feature_dim, BELIEF)
    save_state(path, {"weights": dict(net.state_dict())}, kind="belief")


def rival() -> dict[str, Any]:
    clone = Regressor(4, 1, 3)
    dims = {"history": 2, "observation_dim": 2, "action_dim": 1, "hidden": 3}
    return {"rival": "bco", "task": "point", **dims, "clone": dict(clone.state_dict())}


def adapted() -> dict[str, Any]:
    networks = {"deviation": Deviation(2, 1, 3), "habit": Habit(2, 1, 3)}
    weights = {name: dict(network.state_dict()) for name, network in networks.items()}
    cem = PARAMS.rivals.pada.cem.model_dump()
    known = {"rival": "pada", "task": "point", "source": agent().artefact()}
    return {**known, "rate_ratio": 2.0, "hidden": 3, "plain": False, **weights, "cem": cem}


KINDS = [
    Kind(
        "state",
        lambda path: save_state(path, {"a": torch.arange(4.0), "b": [1, (2.5, "x")]}, kind="checkpoint"),
        lambda path: load_state(path, "checkpoint"),
    ),
    Kind("agent", lambda path: agent().save(path), lambda path: Agent.load(path, "point")),
    Kind(
        "pixel agent",
        lambda path: seeing_agent().save(path),
        lambda path: Agent.load(path, "point", "pixels"),
    ),
    Kind("belief", save_belief, lambda path: BeliefNet.load(path, agent().model, BELIEF)),
    Kind(
        "policies",
        lambda path: save_state(path, policies(), kind="policies"),
        lambda path: read_policies(path, 1, (2, 1)),
    ),
    Kind(
        "rival",
        lambda path: save_state(path, rival(), kind="rival"),
        lambda path: load_policy(path, "bco", "point"),
    ),
    Kind(
        "adapted rival",
        lambda path: save_state(path, adapted(), kind="rival"),
        lambda path: load_policy(path, "pada", "point"),
    ),
    Kind(
        "rival's agent",
        lambda path: save_state(path, {"rival": "ot", "task": "point", "agent": agent().artefact()}, kind="rival"),
        lambda path: load_policy(path, "ot", "point"),
    ),
    Kind(
        "episodes",
        lambda path: save_episodes(path, EPISODES),
        lambda path: load_episodes(path, rewarded=True, dims=(2, 1)),
    ),
    Kind(
        "pixel episodes",
        lambda path: save_episodes(path, FILMED),
        lambda path: load_episodes(path, rewarded=False, dims=(FRAMES, 1)),
    ),
    Kind("arrays", lambda path: save_arrays(path, LABEL_ARRAYS), lambda path: load_arrays(path, ["tau", "path"])),
    Kind("labels", lambda path: save_arrays(path, LABEL_ARRAYS), lambda path: Labels.load(path, EPISODES, 2)),
    Kind(
        "pixel labels",
        lambda path: save_arrays(path, FRAME_LABELS),
        lambda path: Labels.load(path, FILMED, FRAMES),
    ),
    Kind("heldout", lambda path: save_arrays(path, HELDOUT), read_heldout),
    Kind(
        "table",
        lambda path: pd.DataFrame({"agent": ["a", "b"], "episode": [0, 1], "return": [1.5, 2.5]}).to_csv(
            path, index=False
        ),
        lambda path: read_table(path, ("agent", "episode", "return")),
    ),
    Kind("film", lambda path: path.write_text(json.dumps(FILM)) and None, read_film),
    Kind("facts", lambda path: path.write_text(json.dumps(FACTS)) and None, read_facts),
]


def works_or_says_why(read: Callable[[], Any], *names: object) -> bool:
    """Whether it worked; if not, it must have said why in one line that begins with one of ``names``."""
    try:
        read()
    except UserError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert len(message) < 1000, message
        assert any(message.startswith(f"{name}: ") for name in names), message
        return False
    return True

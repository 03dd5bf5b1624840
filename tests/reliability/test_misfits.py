"""Artefacts that are whole, with a checksum that fits, and of other shapes or contents than a stage needs."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.evaluate import read_policies
from telepath.baselines.catalogue import load_policy
from telepath.baselines.rival import save_policy
from telepath.dreamer.agent import Agent
from telepath.episodes import Array, save_arrays
from telepath.errors import UserError
from telepath.files import read
from telepath.observations import Observation
from telepath.runtime.store import save_state
from telepath.transfer.labels import Labels
from tests.reliability.artefacts import EPISODES, LABEL_ARRAYS, adapted, agent, policies, rival


@pytest.mark.parametrize("dims", [(5, 1), (2, 2), (Observation("pixels", 0), 1)])
def test_an_agent_for_other_dimensions(tmp_path: Path, dims: tuple[Observation | int, int]) -> None:
    path = tmp_path / "agent.safetensors"
    agent().save(path)
    assert Agent.load(path, "point", dims=(2, 1)).task == "point"
    with pytest.raises(UserError, match=rf"^{path}: holds an agent for other dimensions .*; run `dvc repro`$"):
        Agent.load(path, "point", dims=dims)


def test_an_agent_for_other_dimensions_among_the_rounds(tmp_path: Path) -> None:
    path = tmp_path / "policies.safetensors"
    save_state(path, policies(), kind="policies")
    assert len(read_policies(path, 1, (2, 1))["rounds"]) == 1
    with pytest.raises(UserError, match=rf"^{path}: holds an agent for other dimensions"):
        read_policies(path, 1, (5, 2))


def test_counts_that_are_none_among_the_rounds(tmp_path: Path) -> None:
    path = tmp_path / "policies.safetensors"
    save_state(path, policies() | {"target_steps": "many"}, kind="policies")
    with pytest.raises(UserError, match=rf"^{path}: not as `train_target` leaves it"):
        read_policies(path, 1, (2, 1))


@pytest.mark.parametrize("name", ["bco", "pada", "ot"])
def test_a_rival_for_other_dimensions(tmp_path: Path, name: str) -> None:
    path = tmp_path / "policy.safetensors"
    artefact = {"bco": rival, "pada": adapted, "ot": lambda: {"agent": agent().artefact()}}[name]()
    save_policy(path, name, "point", artefact)
    load_policy(path, name, "point", (2, 1))
    with pytest.raises(UserError, match=rf"^{path}: holds a policy for other dimensions \(\(2, 1\), not \(5, 2\)\)"):
        load_policy(path, name, "point", (5, 2))


NONE = {name: array[:0] for name, array in LABEL_ARRAYS.items() if array.shape[:1] == (3,)}


@pytest.mark.parametrize(
    "change",
    [
        {"actions": np.zeros((3, 4, 2), np.float32)},
        {"actions": np.zeros((3, 5, 1), np.float32)},
        {"rate": np.zeros((3, 5), np.float32)},
        {"coverage": np.zeros((3, 5), np.float32)},
        {"observation": np.zeros((3, 3, 2), np.float32)},
        {"path": np.full((3, 8, 2), 4, np.int32)},
        {"path": np.full((3, 8, 2), -1, np.int32)},
        {"scale": np.zeros(2, np.float32)},
        NONE | {"history": np.zeros((2, 0), np.float32)},
    ],
    ids=lambda change: "-".join(change),
)
def test_labels_that_do_not_fit_each_other(tmp_path: Path, change: dict[str, Array]) -> None:
    path = tmp_path / "labels.npz"
    save_arrays(path, LABEL_ARRAYS)
    Labels.load(path, EPISODES, 2)
    save_arrays(path, LABEL_ARRAYS | change)
    with pytest.raises(UserError, match=rf"^{path}: holds labels for other exploration data, or none; run `dvc repro`"):
        Labels.load(path, EPISODES, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"feature_dim": 8}, "another model or length"),
        ({"length": 5}, "another model or length"),
        ({"reference": 0}, "path matches records that no reference has"),
    ],
)
def test_labels_that_do_not_fit_the_model(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "labels.npz"
    save_arrays(path, LABEL_ARRAYS)
    sizes = SimpleNamespace(**{"feature_dim": 7, "length": 4, "reference": 3} | change)
    reenactor: Any = SimpleNamespace(model=sizes, settings=sizes, length=sizes.length)
    labels = Labels.load(path, EPISODES, 2)
    if not says:
        labels.demand(path, reenactor)
        return
    with pytest.raises(UserError, match=rf"^{path}: .*{says}"):
        labels.demand(path, reenactor)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: is no regular file"):
        read(tmp_path / "pipe")


def test_a_file_beyond_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(path: Path) -> bytes:
        raise MemoryError

    (tmp_path / "file").touch()
    monkeypatch.setattr(Path, "read_bytes", too_much)
    with pytest.raises(UserError, match=r"file: is larger than the memory that there is"):
        read(tmp_path / "file")

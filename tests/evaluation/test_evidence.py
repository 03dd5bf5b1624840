import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from telepath.episodes import Array, Episode, load_arrays, save_arrays, save_episodes
from telepath.errors import UserError
from telepath.evaluation.evidence import Evidence, Film, heldout_of, read_evidence, read_film, read_reenactments


def save(evidence: Evidence, folder: Path) -> dict[str, Path]:
    """All tables in a folder, under the names that ``read_evidence`` takes."""
    files = {name: folder / f"{name}.csv" for name in ("source_curve", "oracle_curve", "pada_curve", "diary")}
    for name, path in files.items():
        getattr(evidence, name).to_csv(path, index=False)
    for name in ("rounds", "gap"):
        getattr(evidence, name).to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame({"cost": evidence.null}).to_csv(folder / "null.csv", index=False)
    apart = evidence.returns["agent"].isin(["oracle", "pada"])
    evidence.returns[~apart].to_csv(folder / "returns.csv", index=False)
    for agent in ("oracle", "pada"):
        files[f"{agent}_returns"] = folder / f"{agent}_returns.csv"
        evidence.returns[evidence.returns["agent"] == agent].to_csv(files[f"{agent}_returns"], index=False)
    save_arrays(folder / "heldout.npz", evidence.heldout)
    (folder / "facts.json").write_text(json.dumps(evidence.facts))
    return files | {"evaluation": folder, "facts": folder / "facts.json"}


def test_what_was_written_is_read(make_evidence: Callable[..., Evidence], tmp_path: Path) -> None:
    made = make_evidence()
    found = read_evidence(
        **save(made, tmp_path),
        reenactments=made.reenactments,
        film=made.film,
        costs=made.costs,
        trainings=made.trainings,
    )
    pd.testing.assert_frame_equal(found.diary, made.diary)
    order = ["agent", "episode"]
    pd.testing.assert_frame_equal(
        found.returns.sort_values(order, ignore_index=True), made.returns.sort_values(order, ignore_index=True)
    )
    np.testing.assert_array_equal(found.heldout["inferred"], made.heldout["inferred"])
    assert found.facts == made.facts
    np.testing.assert_allclose(found.null, made.null)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("returns.csv", None, "no such file"),
        ("returns.csv", "", "not a readable table"),
        ("returns.csv", "agent,episode\nrandom,0\n", "lacks return"),
        (
            "returns.csv",
            "agent,episode,return,divergences\nrandom,0,1.5,inf\n",
            "divergences has gaps, or numbers that",
        ),
        ("gap.csv", "seconds,divergence\n", "has no rows"),
        ("null.csv", "cost\n", "has no rows"),
        ("heldout.npz", "no", "not a readable array file"),
        ("facts.json", None, "no such file"),
        ("facts.json", "{", "not readable as JSON"),
        ("facts.json", "{}", "lacks source_steps"),
    ],
)
def test_a_broken_file_is_named(
    make_evidence: Callable[..., Evidence], tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    made = make_evidence()
    files = save(made, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        read_evidence(
            **files, reenactments=made.reenactments, film=made.film, costs=made.costs, trainings=made.trainings
        )
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name))
    assert "dvc repro" in message
    assert "\n" not in message


def without(table: pd.DataFrame, agent: str) -> pd.DataFrame:
    return table[table["agent"] != agent]


@pytest.mark.parametrize(
    ("change", "file", "says"),
    [
        (lambda e: {"facts": e.facts | {"frame_seconds": float("nan")}}, "facts.json", "frame_seconds is nan"),
        (lambda e: {"facts": e.facts | {"frame_seconds": 0.0}}, "facts.json", "frame_seconds is 0.0"),
        (lambda e: {"facts": e.facts | {"target_steps": True}}, "facts.json", "target_steps is True"),
        (lambda e: {"facts": e.facts | {"observation_names": [1] * 8}}, "facts.json", "observation_names is"),
        (lambda e: {"facts": e.facts | {"observation_names": ["a"]}}, "facts.json", "other entries than the states"),
        (lambda e: {"returns": without(e.returns, "zero_shot")}, "returns.csv", "has no returns of zero_shot"),
        (lambda e: {"returns": without(e.returns, "random")}, "returns.csv", "has no returns of random"),
        (
            lambda e: {"returns": without(e.returns, "oracle")},
            "oracle_returns.csv",
            "has no rows",
        ),
        (
            lambda e: {"returns": e.returns.replace({"agent": {"action_hold": "nobody"}})},
            "returns.csv",
            "has returns of nobody",
        ),
        (lambda e: {"returns": e.returns.iloc[1:]}, "returns.csv", "not judged on the same episodes"),
        (lambda e: {"rounds": e.rounds.iloc[1:]}, "rounds.csv", "has other rounds than"),
        (
            lambda e: {"heldout": e.heldout | {"policy": np.full_like(e.heldout["policy"], 7)}},
            "heldout.npz",
            "policy holds other numbers",
        ),
    ],
)
def test_evidence_that_cannot_be_is_named(
    make_evidence: Callable[..., Evidence],
    tmp_path: Path,
    change: Callable[[Evidence], dict[str, Any]],
    file: str,
    says: str,
) -> None:
    made = make_evidence()
    files = save(made._replace(**change(made)), tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        read_evidence(
            **files, reenactments=made.reenactments, film=made.film, costs=made.costs, trainings=made.trainings
        )
    assert str(caught.value).startswith(f"{tmp_path / file}: ")


def save_labels(path: Path, origin: list[tuple[int, int]], dimensions: int) -> None:
    count = len(origin)
    save_arrays(
        path,
        {
            "origin": np.array(origin),
            "observation": np.zeros((count, 5, dimensions), np.float32),
            "path": np.zeros((count, 8, 2), np.int32),
            "cost": np.arange(count, dtype=np.float32),
            "history": np.ones((2, count), np.float32),
            "scale": np.ones(dimensions, np.float32),
            "tau": np.array(0.25),
        },
    )


def save_counting_episodes(path: Path) -> None:
    """Observation [episode, t] at record t."""
    episodes = []
    for number in range(2):
        t = np.arange(12, dtype=np.float32)
        observation = np.stack([np.full_like(t, number), t], 1)
        episodes.append(Episode(observation, t[:, None], t))
    save_episodes(path, episodes)


def test_the_reference_is_what_came_after_the_prefix(tmp_path: Path) -> None:
    labels, episodes = tmp_path / "labels.npz", tmp_path / "episodes.npz"
    save_labels(labels, [(0, 3), (1, 7)], 2)
    save_counting_episodes(episodes)
    found = read_reenactments(labels, episodes, prefix=3, reference=4, source_repeat=6)
    assert found.reference[0].tolist() == [[0, 4], [0, 5], [0, 6], [0, 7]]
    assert found.reference[1].tolist() == [[1, 8], [1, 9], [1, 10], [1, 11]]
    assert found.tau == 0.25
    assert found.cost.tolist() == [0, 1]
    assert found.origin.tolist() == [[0, 3], [1, 7]]


@pytest.mark.parametrize(
    ("origin", "dimensions", "says"),
    [([(5, 3)], 2, "other source episodes"), ([(0, 3), (0, 10)], 2, "other source"), ([(0, 3)], 4, "task")],
)
def test_labels_of_another_run_are_refused(
    tmp_path: Path, origin: list[tuple[int, int]], dimensions: int, says: str
) -> None:
    labels, episodes = tmp_path / "labels.npz", tmp_path / "episodes.npz"
    save_labels(labels, origin, dimensions)
    save_counting_episodes(episodes)
    with pytest.raises(UserError, match=says):
        read_reenactments(labels, episodes, prefix=3, reference=4, source_repeat=6)


@pytest.mark.parametrize(
    "change",
    [
        {"path": np.full((2, 8, 2), 5, np.int32)},
        {"path": np.full((2, 8, 2), -1, np.int32)},
        {"path": np.zeros((2, 0, 2), np.int32)},
        {"observation": np.zeros((1, 5, 2), np.float32)},
        {"observation": np.zeros((2, 0, 2), np.float32)},
        {"cost": np.zeros(1, np.float32)},
        {"history": np.zeros((0, 2), np.float32)},
        {"scale": np.zeros(2, np.float32)},
        {"scale": np.ones(3, np.float32)},
        {"origin": np.array([(0, 3), (-1, 7)])},
        {
            name: np.empty((0, *shape), kind)
            for name, shape, kind in (
                ("origin", (2,), np.int64),
                ("observation", (5, 2), np.float32),
                ("path", (8, 2), np.int32),
                ("cost", (), np.float32),
            )
        }
        | {"history": np.empty((2, 0), np.float32)},
    ],
    ids=lambda change: "-".join(change),
)
def test_re_enactments_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Array]) -> None:
    labels, episodes = tmp_path / "labels.npz", tmp_path / "episodes.npz"
    save_labels(labels, [(0, 3), (1, 7)], 2)
    save_counting_episodes(episodes)
    names = ("origin", "observation", "path", "cost", "history", "scale", "tau")
    save_arrays(labels, load_arrays(labels, names) | change)
    with pytest.raises(UserError, match=rf"^{labels}: "):
        read_reenactments(labels, episodes, prefix=3, reference=4, source_repeat=6)


def test_the_film_is_as_it_was_told(tmp_path: Path) -> None:
    film = Film("", ["source", "telepath"], 3, 7.98, 0.02)
    path = tmp_path / "film.json"
    path.write_text(json.dumps(film._asdict()))
    assert read_film(path) == film


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"missing": "", "agents": ["nobody"], "episode": 0, "seconds": 1.0, "misfit": null}',
        '{"missing": "", "agents": [], "episode": 0, "seconds": 1.0}',
        '{"missing": "", "agents": [], "episode": true, "seconds": 1.0, "misfit": null}',
        '{"missing": "", "agents": [[]], "episode": 0, "seconds": NaN, "misfit": null}',
        '{"missing": "", "agents": [], "episode": 0, "seconds": 1.0, "misfit": NaN}',
        '{"missing": "", "agents": [], "episode": 0, "seconds": 1.0, "misfit": "small"}',
    ],
)
def test_a_damaged_word_on_the_film_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "film.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"film\.json: not as the film stage leaves it"):
        read_film(path)


def test_heldout_records_of_one_policy() -> None:
    heldout = {"true": np.arange(4.0), "policy": np.array([0, 2, 1, 2])}
    assert heldout_of(heldout, "telepath")["true"].tolist() == [1, 3]
    assert heldout_of(heldout, "random")["true"].tolist() == [0]

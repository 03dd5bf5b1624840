"""What the report rests on: the tables and arrays that the earlier stages left, read and checked."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from telepath.alignment.segments import cut_segments
from telepath.episodes import Array, demand, load_arrays, load_episodes
from telepath.errors import UserError
from telepath.evaluation.agents import NAMES
from telepath.files import MEND, one_line, read
from telepath.settings import ObservationKind

HELDOUT_POLICIES = ("random", "zero_shot", "telepath")
"""Whose held-out episodes the index ``policy`` of the held-out arrays means."""

JUDGED = ("source", "random", "zero_shot", "telepath")
"""Whom the evaluation judges in any case."""

FACTS = {
    "source_steps": int,
    "target_steps": int,
    "target_divergences": int,
    "observation_names": list,
    "frame_seconds": float,
}
"""What the evaluation must tell besides its tables, and its type."""

WORDS = ("agent", "stage", "made", "settings", "commit")
"""Columns that hold no numbers."""

GAPS = ("final_score", "inferred_return", "imagined_return", "score", "low", "high")
"""Columns that may have gaps."""


class Reenactments(NamedTuple):
    """Source segments and what the target model imagined for them.

    reference (S, N, *shape) and imagined (S, M, *shape) observations; path (S, L, 2): (reference, imagined) pairs, rows
    behind a path's end repeat its last pair; cost (S,) per path cell; history (iterations, S): the best
    so far; inverse (D,): the scale of states, empty for frames; tau: the cost at which one counts 1/e; origin (S, 2):
    source episode, and record in it, where the re-enactment begins.
    """

    reference: Array
    imagined: Array
    path: Array
    cost: Array
    history: Array
    inverse: Array
    tau: float
    origin: Array


class Film(NamedTuple):
    """What the film shows: its agents, number of the evaluation's episode, simulated seconds.

    Where there is no film, ``missing`` says why in one line; it is empty otherwise. misfit: of the poses that were
    drawn of alignments, the largest distance from what was observed, in spreads; None where none were drawn.
    """

    missing: str
    agents: list[str]
    episode: int
    seconds: float
    misfit: float | None


class Cost(NamedTuple):
    """What a stage took: minutes by the clock on the wall, MiB of memory at its peak."""

    minutes: float
    mebibytes: float


class Evidence(NamedTuple):
    """Everything a report is written from; columns and keys as the stages write them.

    source_curve, oracle_curve: steps, updates, return, divergences; pada_curve: steps, divergences, empty where PADA
    does not apply; diary: Telepath's rounds, known without true reward; returns: agent, episode, return, divergences;
    rounds: round, steps, return, low, high (true return), divergences; heldout: true, inferred, predicted, confidence,
    policy, all (R,); gap: seconds, divergence (of target from source, not the simulator's); null (K,): alignment costs
    of target pieces that were re-enacted with their own actions; facts: steps, frames, names; costs: of the stages, as
    far as they were measured; trainings: a row a run with other seeds, this one's among them: seed_source, seed_target,
    commit, and a column of mean true returns for each agent; empty where there are none.
    """

    source_curve: pd.DataFrame
    oracle_curve: pd.DataFrame
    pada_curve: pd.DataFrame
    diary: pd.DataFrame
    returns: pd.DataFrame
    rounds: pd.DataFrame
    heldout: dict[str, Array]
    gap: pd.DataFrame
    null: Array
    facts: dict[str, Any]
    reenactments: Reenactments
    film: Film
    costs: dict[str, Cost]
    trainings: pd.DataFrame


def read_table(path: Path, columns: Sequence[str], *, rows: bool = True) -> pd.DataFrame:
    """A CSV file that has at least these columns and, unless ``rows`` may be missing, a row; otherwise a ``UserError``
    that names it.
    """
    data = read(path)
    try:
        table = pd.read_csv(io.BytesIO(data))
    except Exception as error:
        # Whatever a parser trips over in damaged bytes, it means one thing to the user.
        raise UserError(f"{path}: not a readable table ({one_line(error)}); {MEND}") from None
    missing = [name for name in columns if name not in table.columns]
    if not missing and table.empty and not rows:
        return table
    if missing or table.empty:
        what = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise UserError(f"{path}: {what}; {MEND}")
    for name in columns:
        if name not in WORDS and not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{path}: {name} holds other things than numbers; {MEND}")
        whole = table[name].notna() if name in WORDS else np.isfinite(table[name])
        if name not in GAPS and not whole.all():
            raise UserError(f"{path}: {name} has gaps, or numbers that are not finite; {MEND}")
    return table


def read_facts(path: Path) -> dict[str, Any]:
    """The evaluation's facts; otherwise a ``UserError`` that names the file."""
    data = read(path)
    try:
        facts = dict(json.loads(data))
    except Exception as error:
        raise UserError(f"{path}: not readable as JSON ({one_line(error)}); {MEND}") from None
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; {MEND}")
    for name, kind in FACTS.items():
        value = facts[name]
        if type(value) is not kind or not is_sensible(value):
            raise UserError(f"{path}: {name} is {one_line(repr(facts[name]))}, which cannot be; {MEND}")
    return facts


def is_sensible(value: Any) -> bool:
    """Whether a fact can be: a count, a duration above 0 or a list of names."""
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return 0 <= value < 2**63 if isinstance(value, int) else 0 < value < math.inf


def read_reenactments(
    labels: Path,
    source_episodes: Path,
    prefix: int,
    reference: int,
    source_repeat: int,
    observation: ObservationKind = "state",
) -> Reenactments:
    """The label stage's re-enactments, beside the source segments cut anew; lengths in source steps."""
    kinds = {
        "origin": "i2",
        "path": "i3",
        "cost": "f1",
        "history": "f2",
        "tau": "f0",
    } | ({"scale": "f1", "observation": "f3"} if observation == "state" else {"observation": "u5"})
    stored = load_arrays(labels, list(kinds))
    demand(labels, stored, kinds)
    count, steps = stored["observation"].shape[:2]
    path = stored["path"]
    fit = [
        count > 0,
        len(stored["origin"]) == len(path) == len(stored["cost"]) == stored["history"].shape[1] == count,
        len(stored["history"]) > 0,
        path.shape[1] > 0 and path.shape[2] == 2 and (path >= 0).all() and (path < (reference, steps)).all(),
        observation != "state" or (stored["scale"] > 0).all(),
    ]
    if not all(fit):
        raise UserError(f"{labels}: its re-enactments do not fit each other; {MEND}")
    episodes = load_episodes(source_episodes, rewarded=True)
    try:
        if (stored["origin"] < 0).any():
            raise IndexError
        segments = cut_segments(episodes, stored["origin"], prefix, reference, source_repeat)
    except (IndexError, ValueError):
        raise UserError(f"{labels}: holds labels of other source episodes; run `dvc repro`") from None
    fits = segments.reference.shape[2:] == stored["observation"].shape[2:]
    if not fits or (observation == "state" and segments.reference.shape[2:] != stored["scale"].shape):
        raise UserError(f"{labels}: holds labels of another task; run `dvc repro` to remake it")
    return Reenactments(
        segments.reference,
        stored["observation"],
        stored["path"],
        stored["cost"],
        stored["history"],
        stored["scale"] if observation == "state" else np.empty(0, np.float32),
        float(stored["tau"]),
        stored["origin"],
    )


def read_film(path: Path) -> Film:
    """What the film stage says of its film; otherwise a ``UserError`` that names the file."""
    data = read(path)
    try:
        film = Film(**json.loads(data))
    except Exception as error:
        raise UserError(f"{path}: not as the film stage leaves it ({one_line(error)}); {MEND}") from None
    kinds = (str, list, int, float)
    whole = all(type(value) is kind for value, kind in zip(film[:4], kinds, strict=True))
    whole = whole and (film.misfit is None or type(film.misfit) is float)
    if not whole or not set(map(str, film.agents)) <= set(NAMES) or not finite(film.seconds, film.misfit):
        raise UserError(f"{path}: not as the film stage leaves it; {MEND}")
    return film


def finite(*numbers: float | None) -> bool:
    """Whether all of them are, as far as they are there."""
    return all(number is None or math.isfinite(number) for number in numbers)


def read_heldout(path: Path) -> dict[str, Array]:
    """True, inferred and predicted reward of held-out records; a ``UserError`` where lengths differ."""
    kinds = {"true": "f1", "inferred": "f1", "predicted": "f1", "confidence": "f1", "policy": "i1"}
    arrays = load_arrays(path, list(kinds))
    demand(path, arrays, kinds)
    if len({len(array) for array in arrays.values()}) != 1:
        raise UserError(f"{path}: its arrays differ in length; {MEND}")
    if set(arrays["policy"].tolist()) != set(range(len(HELDOUT_POLICIES))):
        raise UserError(f"{path}: policy holds other numbers than 0 to {len(HELDOUT_POLICIES) - 1}, or not all; {MEND}")
    return arrays


def read_returns(path: Path, agents: Sequence[str]) -> pd.DataFrame:
    """True returns of these agents, and of others that are known: each one of the same episodes.

    Where no agent needs to be in it, the table may be empty.
    """
    table = read_table(path, ("agent", "episode", "return", "divergences"), rows=bool(agents))
    episodes = {str(agent): sorted(lot["episode"].tolist()) for agent, lot in table.groupby("agent")}
    if missing := [agent for agent in agents if agent not in episodes]:
        raise UserError(f"{path}: has no returns of {', '.join(missing)}; {MEND}")
    if unknown := [agent for agent in episodes if agent not in NAMES]:
        raise UserError(f"{path}: has returns of {one_line(unknown[0])}, whom nobody knows; {MEND}")
    longest = max(map(len, episodes.values()), default=0)
    if any(numbers != list(range(longest)) for numbers in episodes.values()):
        raise UserError(f"{path}: its agents were not judged on the same episodes; {MEND}")
    return table


def heldout_of(heldout: dict[str, Array], policy: str) -> dict[str, Array]:
    """The records of one policy."""
    chosen = heldout["policy"] == HELDOUT_POLICIES.index(policy)
    return {name: np.asarray(array)[chosen] for name, array in heldout.items()}


def read_evidence(
    *,
    source_curve: Path,
    oracle_curve: Path,
    oracle_returns: Path,
    pada_curve: Path,
    pada_returns: Path,
    diary: Path,
    evaluation: Path,
    facts: Path,
    reenactments: Reenactments,
    film: Film,
    costs: dict[str, Cost],
    trainings: pd.DataFrame,
) -> Evidence:
    """Read all tables; ``evaluation`` is the folder of the evaluation's own."""
    curve = ("steps", "updates", "return", "divergences")
    judged = [
        read_returns(evaluation / "returns.csv", JUDGED),
        read_returns(oracle_returns, ["oracle"]),
        read_returns(pada_returns, []),
    ]
    rounds = read_table(evaluation / "rounds.csv", ("round", "steps", "return", "low", "high", "divergences"))
    known = read_table(diary, ("round", "steps", "updates", "inferred_return", "score", "final_score", "shipped"))
    if sorted(rounds["round"]) != list(range(len(known))) or sorted(known["round"]) != list(range(len(known))):
        raise UserError(f"{evaluation / 'rounds.csv'}: has other rounds than {diary}; {MEND}")
    told = read_facts(facts)
    if reenactments.reference.ndim == 3 and len(told["observation_names"]) != reenactments.reference.shape[-1]:
        raise UserError(f"{facts}: observation_names has other entries than the states of the labels; {MEND}")
    return Evidence(
        read_table(source_curve, curve),
        read_table(oracle_curve, curve),
        read_table(pada_curve, ("steps", "divergences"), rows=False),
        known,
        pd.concat(judged, ignore_index=True),
        rounds,
        read_heldout(evaluation / "heldout.npz"),
        read_table(evaluation / "gap.csv", ("seconds", "divergence")),
        read_table(evaluation / "null.csv", ("cost",))["cost"].to_numpy(np.float64),
        told,
        reenactments,
        film,
        costs,
        trainings,
    )

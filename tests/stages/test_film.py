"""The film's stage where nothing can be rendered, and where the evaluation is not what it should be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import film
from stages.artefacts import EVALUATION, ORACLE_RETURNS
from stages.pictures import FILM, FILM_FACTS
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gl import NoGraphics
from telepath.envs.rollout import Policy
from telepath.envs.suite import Environment
from telepath.errors import UserError
from telepath.evaluation.evidence import read_film
from telepath.evaluation.film import Take, Timing
from telepath.runtime.resume import Scratch
from telepath.settings import DreamerSettings


def returns(agents: list[str], episodes: int) -> pd.DataFrame:
    rows = [(agent, number, float(number)) for agent in agents for number in range(episodes)]
    return pd.DataFrame(rows, columns=["agent", "episode", "return"])


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path, agents in (
        (EVALUATION / "returns.csv", ["source", "random", "zero_shot", "telepath"]),
        (ORACLE_RETURNS, ["oracle"]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        returns(agents, 4).to_csv(path, index=False)
    return tmp_path


def test_without_opengl_there_is_a_note_and_no_error(
    params: Params, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing() -> str:
        raise NoGraphics("no OpenGL; `apt install libosmesa6`")

    monkeypatch.setattr(film, "find_backend", nothing)
    film.main(params, None)  # type: ignore[arg-type]
    assert not FILM.exists()
    assert read_film(FILM_FACTS).missing == "no OpenGL; `apt install libosmesa6`"
    assert capsys.readouterr().err == "telepath: film: none is made: no OpenGL; `apt install libosmesa6`\n"


def test_returns_are_a_column_an_agent(workspace: Path) -> None:
    table = film.read_returns(4)
    assert list(table.columns) == ["source", "zero_shot", "telepath", "oracle"]
    assert table["oracle"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("path", [EVALUATION / "returns.csv", ORACLE_RETURNS])
@pytest.mark.parametrize("damage", ["shorter", "nobody"])
def test_other_returns_are_refused_in_one_line(workspace: Path, path: Path, damage: str) -> None:
    table = pd.read_csv(path)
    table = table.iloc[:-1] if damage == "shorter" else table.assign(agent="nobody")
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match="not the returns of 4 episodes") as caught:
        film.read_returns(4)
    assert len(str(caught.value).splitlines()) == 1


def test_a_film_that_was_killed_takes_up_what_it_has(
    params: Params, workspace: Path, monkeypatch: pytest.MonkeyPatch, small: DreamerSettings
) -> None:
    params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"episodes": 4})})
    taken, killed_at = [0], [0]

    def shoot(environment: Environment, policy: Policy, timing: Timing, *numbers: int) -> Take:
        taken[0] += 1
        if taken[0] == killed_at[0]:
            raise KeyboardInterrupt
        rng = np.random.default_rng(environment.action_repeat)
        return Take(rng.integers(0, 255, (3, 176, 176, 3), np.uint8), rng.random(3), np.arange(3))

    def load(path: Path, task: str, kind: str, dims: object) -> Agent:
        return Agent(task, 8, 2, small)

    monkeypatch.setattr(film, "find_backend", lambda: "none")
    monkeypatch.setattr(film, "shoot", shoot)
    monkeypatch.setattr(film, "read_reenactments", lambda *what: None)
    monkeypatch.setattr(film, "draw_poses", lambda *what: None)
    monkeypatch.setattr(Agent, "load", load)
    monkeypatch.setattr(Timing, "of", lambda seconds: Timing(2, 3, seconds))
    film.main(params, Kept(workspace / "whole"))  # type: ignore[arg-type]
    whole = FILM.read_bytes()
    FILM.unlink()
    for killed_at[0] in (7, 9):
        with pytest.raises(KeyboardInterrupt):
            film.main(params, Kept(workspace / "killed"))  # type: ignore[arg-type]
    film.main(params, Kept(workspace / "killed"))  # type: ignore[arg-type]
    assert FILM.read_bytes() == whole
    assert taken[0] == 4 + 4 + 2  # nothing was shot twice but what was being shot


class Kept:
    """A context with a scratch."""

    def __init__(self, folder: Path):
        self.scratch = lambda: Scratch(folder)

"""Who may read the target's reward is a short list, and everybody else's target withholds it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from telepath.envs.gaps import target_environment
from telepath.settings import GapSettings

ROOT = Path(__file__).resolve().parents[1]

READERS = {
    "stages/adaptation.py: evaluate",
    "stages/evaluate.py: main",
    "stages/evaluate_oracle.py: main",
    "stages/film.py: make_film",
    "stages/train_oracle.py: main",
    "benchmarks/pada.py: judging_targets",
}
"""Functions that make a target with its reward: those that judge, the oracle, and the film."""


def targets(path: Path) -> Iterator[tuple[str, str]]:
    """(file: function, ``rewarded`` as it is written) of every target that a module makes."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in NAMES:
                    asked = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                    yield f"{path.relative_to(ROOT).as_posix()}: {function.name}", asked.get("rewarded", "missing")


NAMES = {"target_environment", "TargetEnvironment"}


def test_only_those_who_judge_and_the_oracle_make_a_target_with_its_reward() -> None:
    modules = [path for folder in ("telepath", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    made = [found for path in modules for found in targets(path) if not found[0].startswith("telepath/envs/gaps.py")]
    assert {where for where, asked in made if asked == "True"} == READERS
    unpaid = {where for where, asked in made if asked != "True"}
    assert {asked for _, asked in made} == {"True", "False"}, "it is always said, and never a variable"
    needed = ("explore_target.py: main", "train_target.py: prepare", "adaptation.py: train", "train_online.py: prepare")
    assert {f"stages/{name}" for name in needed} <= unpaid


def test_a_target_that_withholds_its_reward_raises_when_it_is_touched() -> None:
    target = target_environment("ball_in_cup-catch", GapSettings(action_repeat=3, mass=1.5), 0, rewarded=False)
    target.reset()
    step = target.step([0.0, 0.0])  # type: ignore[arg-type]
    assert step.paid is None
    with pytest.raises(RuntimeError, match="withholds its reward"):
        _ = step.reward

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

SOURCES = {"telepath/baselines/randomised.py: RandomisedSource.__init__"}
"""Who makes a *source* out of what targets are made of; its gaps are drawn, and none of them is the target's."""

MAKERS = {"target_environment", "target_simulator"}


def targets(source: str) -> Iterator[tuple[str, str]]:
    """(function, ``rewarded`` as it is written) of every target that a module makes, wherever in it.

    That is whoever calls a maker, a class of the module's own that is made of ``TargetEnvironment``, or the
    ``__init__`` above such a class, and whoever gives an ``Environment`` a simulator: whether that is a target's is not
    seen there.
    """
    tree = ast.parse(source)
    kinds = {"TargetEnvironment"}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in classes:  # a class of a class of a target's
        kinds |= {made.name for made in classes if {named(base) for base in made.bases} & kinds}

    def visit(node: ast.AST, where: tuple[str, ...], kind: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Call):
            called, asked = named(node.func), {part.arg: ast.unparse(part.value) for part in node.keywords}
            above = ast.unparse(node.func) == "super().__init__" and kind in kinds
            if called in MAKERS | kinds or above or (called == "Environment" and "simulator" in asked):
                yield ".".join(where) or "module", asked.get("rewarded", "missing")
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            where = (*where, node.name)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, where, node.name if isinstance(node, ast.ClassDef) else kind)

    yield from visit(tree, (), "")


def named(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return ast.unparse(node).split(".")[-1]


@pytest.mark.parametrize(
    "source",
    [
        "class Mine(TargetEnvironment):\n def __init__(self):\n  super().__init__(task, gap, 0, rewarded=True)",
        "class Mine(gaps.TargetEnvironment): ...\nclass Yours(Mine): ...\nmine = Yours(task, gap, 0, rewarded=True)",
        "def f(): return Environment(task, 3, 0, rewarded=True, simulator=model)",
        "f = lambda: target_environment(task, gap, 0, rewarded=True)",
        "class A:\n target = target_environment(task, gap, 0, rewarded=True)",
        "async def f(): return gaps.target_environment(task, gap, 0, rewarded=True)",
    ],
)
def test_no_way_to_make_a_paid_target_goes_unseen(source: str) -> None:
    assert [asked for _, asked in targets(source)] == ["True"]


def test_only_those_who_judge_and_the_oracle_make_a_target_with_its_reward() -> None:
    modules = [path for folder in ("telepath", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    made = {
        (f"{path.relative_to(ROOT).as_posix()}: {where}", asked)
        for path in modules
        for where, asked in targets(path.read_text(encoding="utf-8"))
        if path != ROOT / "telepath/envs/gaps.py"
    }
    made = {(where, asked) for where, asked in made if where not in SOURCES}
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

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from telepath.config import load
from telepath.errors import UserError

ROOT = Path(__file__).parent.parent


def edited(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    edit(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_settings_that_come_with_the_project_are_valid() -> None:
    params = load(ROOT / "params.yaml")
    assert params.task in params.tasks


def test_settings_cannot_be_changed() -> None:
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.gap.mass = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["gap"].update(mas=2.0), "gap.mas: unknown key; did you mean 'mass'?"),
        (lambda c: c["gap"].update(mass=-1), "gap.mass: input should be greater than or equal to 0.01, got -1"),
        (lambda c: c["gap"].update(mass="heavy"), "gap.mass: input should be a valid number"),
        (lambda c: c["gap"].update(mass=True), "gap.mass: input should be a valid number"),
        (lambda c: c["gap"].update(mass=float("inf")), "gap.mass"),
        (lambda c: c["gap"].update(action_repeat=1.5), "gap.action_repeat: input should be a valid integer"),
        (lambda c: c["seed"].pop("source"), "seed.source: missing"),
        (lambda c: c["seed"].update(target=-1), "seed.target: input should be greater than or equal to 0"),
        (lambda c: c.update(seed=3), "seed: input should be a valid dictionary"),
        (lambda c: c.update(task="walker-wlak"), "did you mean 'walker-walk'?"),
        (lambda c: c.update(setting="both"), "setting: input should be 'trajectories only' or 'with source agent'"),
        (lambda c: c["tasks"]["walker-walk"].update(steps=1), "tasks.walker-walk.steps: unknown key"),
        (lambda c: c["label"]["cem"].update(elite_fraction=0), "label.cem.elite_fraction"),
        (lambda c: c["label"]["cem"].update(elites=3), "label.cem.elites: unknown key"),
        (lambda c: c["dreamer"].update(deter=None, stoch=0), "(and 1 more)"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = edited(tmp_path, edit)
    with pytest.raises(UserError) as raised:
        load(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "task: [", "a: 1\n b: 2\n", "\x00", "just words"])
def test_a_file_that_holds_no_settings_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load(path)
    assert "\n" not in str(raised.value)
    assert "params.yaml" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "params.yaml")


def test_every_declared_key_stands_in_the_file(tmp_path: Path) -> None:
    """A reader finds every setting, with its default, in params.yaml."""
    written = yaml.safe_load((ROOT / "params.yaml").read_text())

    def keys(node: Any) -> Any:
        return {key: keys(value) for key, value in node.items()} if isinstance(node, dict) else None

    assert keys(load(ROOT / "params.yaml").model_dump()) == keys(copy.deepcopy(written))

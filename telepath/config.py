"""params.yaml -> validated, frozen settings.

A key that is unknown, of the wrong type or out of range is a ``UserError`` that names the key.
"""

import difflib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from telepath.errors import UserError
from telepath.files import one_line
from telepath.rival_settings import RivalSettings
from telepath.settings import (
    BeliefSettings,
    DreamerSettings,
    EvaluateSettings,
    ExploreSettings,
    GapSettings,
    LabelSettings,
    ObservationKind,
    OracleSettings,
    SeedSettings,
    Settings,
    SourceSettings,
    TargetSettings,
    TaskSettings,
    TransferSetting,
)

DEEPEST = 20
OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, and the floats of YAML 1.2's core schema, which dvc writes: 1e-05 is no word."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    # Digits alone are an integer: there is a point or an exponent.
    re.compile(r"[-+]?(?=.*[.eE])(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class Params(Settings):
    """The whole of params.yaml."""

    task: str
    setting: TransferSetting
    observation: ObservationKind
    seed: SeedSettings
    gap: GapSettings
    tasks: dict[str, TaskSettings]
    source: SourceSettings
    dreamer: DreamerSettings
    explore: ExploreSettings
    belief: BeliefSettings
    label: LabelSettings
    target: TargetSettings
    oracle: OracleSettings
    rivals: RivalSettings
    evaluate: EvaluateSettings


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the settings; every mistake is a ``UserError`` of one line that names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
        demand_plain(text)
        loader = Loader(text)
        node = loader.get_single_node()
        twice = repeated(node)
        content = None if node is None else loader.construct_document(node)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the project") from None
    except Exception as error:
        # Besides its own errors the parser lets through those of the types: a 13th month is a ValueError.
        raise UserError(f"{path}: not readable as YAML ({one_line(error)}); correct it") from None
    if twice:
        raise UserError(f"{path}: {one_line(twice)}")
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of settings, got {type(content).__name__}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(explain(error))}") from None
    if params.task not in params.tasks:
        raise UserError(
            f"{path}: task: {one_line(repr(params.task))} has no entry under `tasks`; "
            f"{did_you_mean(params.task, params.tasks)}add one with its action_repeat and budgets"
        )
    return params


def demand_plain(text: str) -> None:
    """Raise ValueError for YAML that no settings need and that can cost any amount of memory or time to read."""
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        if isinstance(token, yaml.AliasToken):
            raise ValueError("it holds an alias (*name); write the value out")


def repeated(node: yaml.Node | None, parent: str = "") -> str:
    """Which key stands twice in a mapping, and the mend, or nothing: YAML forbids it, the parser does not."""
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, (repeated(child, parent) for child in node.value)), "")
    if not isinstance(node, yaml.MappingNode):
        return ""
    lines: dict[str, int] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            name, line = f"{parent}{key.value}", key.start_mark.line + 1
            if name in lines:
                return f"{name}: stands on line {lines[name]} and again on line {line}; remove one of them"
            lines[name] = line
            if twice := repeated(value, f"{name}."):
                return twice
    return ""


def explain(error: ValidationError) -> str:
    """The first mistake in a sentence: key, what is wrong, what was found, and how many more there are."""
    mistakes = error.errors(include_url=False)
    first = mistakes[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        reason = (
            f"unknown key; {did_you_mean(str(first['loc'][-1]), siblings(first['loc'][:-1]))}remove it or correct it"
        )
    elif first["type"] == "missing":
        reason = "missing; put it back (see the params.yaml that came with the project)"
    else:
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {reprlib.repr(first['input'])}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{key}: {reason}{more}"


def siblings(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place of params.yaml."""
    model: Any = Params
    for part in location:
        annotation = model.model_fields[str(part)].annotation if model is not TaskSettings else None
        if annotation == dict[str, TaskSettings]:
            return list(TaskSettings.model_fields)
        model = annotation
    return list(model.model_fields)


def did_you_mean(word: str, known: Any) -> str:
    """A hint at the nearest known word, or nothing."""
    nearest = difflib.get_close_matches(word[:100], list(known), 1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""

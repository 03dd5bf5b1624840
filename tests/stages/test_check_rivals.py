"""Mistakes in the rivals' settings end in a line before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from stages.check_rivals import main
from telepath.config import Params
from telepath.errors import UserError


def with_rival(params: Params, name: str, **changed: Any) -> Params:
    settings = getattr(params.rivals, name).model_copy(update=changed)
    return params.model_copy(update={"rivals": params.rivals.model_copy(update={name: settings})})


def test_settings_that_fit_pass(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(params, None)  # type: ignore[arg-type]
    assert (tmp_path / "data" / "rivals" / "checked.txt").read_text().startswith("The rivals' settings passed")


def test_what_does_not_fit_is_named(params: Params) -> None:
    for wrong, named in (
        (params.model_copy(update={"observation": "pixels"}), r"^observation: pixels, but the rivals know states only"),
        (
            with_rival(params, "pada_model", first_steps=10**5),
            r"^rivals\.pada_model\.first_steps: 100000 leave",
        ),
        (with_rival(params, "randomised", quantities=["mas"]), r"no quantity 'mas'; did you mean 'mass'"),
        (with_rival(params, "randomised", quantities=["floor"]), r"^rivals\.randomised\.quantities"),
    ):
        with pytest.raises(UserError, match=named):
            main(wrong, None)  # type: ignore[arg-type]

"""The import closure and the rewriting of dvc.yaml, on a toy project."""

from pathlib import Path

import pytest

from stages.dependencies import closure, main
from telepath.errors import UserError

FILES = {
    "stages/one.py": "import json\nfrom telepath.a import f\nfrom stages.harness import run\n",
    "stages/two.py": "def main():\n    from telepath import b\n    import telepath.deep.c as c\n",
    "stages/harness.py": "import numpy\n",
    "telepath/a.py": "from .deep import c\nfrom . import errors\nfrom .errors import UserError\n",
    "telepath/b.py": "import telepath.a\nimport telepathy\n",
    "telepath/deep/c.py": "from ..b import g\nfrom telepath.deep.d import (\n    x,\n    y,\n)\n",
    "telepath/deep/d.py": "",
    "telepath/errors.py": "",
    "telepath/unused.py": "",
    "telepath/__init__.py": "",
    "telepath/deep/__init__.py": "",
}
PIPELINE = """\
# the pipeline
stages:
  one:
    cmd: python -m stages.one
    params: [task]   # few
    deps:
      - data/in.npz  # from before
      - telepath/unused.py
      - telepath/a.py
      - data/other: {cache: false}
    outs:
      - 'data/out'

  # the second
  two:
    cmd: python -m stages.two --fast
    deps: []
    outs:
      - data/end
  plain:
    cmd: echo hello
    deps:
      - telepath/unused.py
"""
REWRITTEN = """\
# the pipeline
stages:
  one:
    cmd: python -m stages.one
    params: [task]   # few
    deps:
      - stages/harness.py
      - stages/one.py
      - telepath/a.py
      - telepath/b.py
      - telepath/deep/c.py
      - telepath/deep/d.py
      - telepath/errors.py
      - data/in.npz  # from before
      - data/other: {cache: false}
    outs:
      - 'data/out'

  # the second
  two:
    cmd: python -m stages.two --fast
    deps:
      - stages/two.py
      - telepath/a.py
      - telepath/b.py
      - telepath/deep/c.py
      - telepath/deep/d.py
      - telepath/errors.py
    outs:
      - data/end
  plain:
    cmd: echo hello
    deps:
      - telepath/unused.py
"""

RIVALS = """\
stages:
  play:
    wdir: ..
    matrix:
      rival: [one, two]
    cmd: python -m stages.one ${item.rival}
    deps:
      - data/in
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def test_the_closure_holds_every_local_import(toy: Path) -> None:
    shared = {
        "telepath/a.py",
        "telepath/b.py",
        "telepath/deep/c.py",
        "telepath/deep/d.py",
        "telepath/errors.py",
    }
    assert closure("one", toy) == shared | {"stages/one.py", "stages/harness.py"}
    assert closure("two", toy) == shared | {"stages/two.py"}


def test_rewriting_keeps_everything_else(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], toy) == 1
    report = capsys.readouterr().out.splitlines()
    assert report[0].startswith("one: +stages/harness.py, +stages/one.py, ")
    assert report[0].endswith("-telepath/unused.py")
    assert report[1].startswith("two: +stages/two.py, ")
    assert (toy / "dvc.yaml").read_text() == PIPELINE
    assert main([], toy) == 0
    assert (toy / "dvc.yaml").read_text() == REWRITTEN
    assert main(["--check"], toy) == 0
    assert main([], toy) == 0
    assert (toy / "dvc.yaml").read_text() == REWRITTEN


def test_the_rivals_are_looked_after_as_well(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "dvc.yaml").write_text(REWRITTEN)
    (toy / "rivals").mkdir()
    (toy / "rivals" / "dvc.yaml").write_text(RIVALS)
    assert main(["--check"], toy) == 1
    assert capsys.readouterr().out.startswith("play: +stages/harness.py, +stages/one.py, ")
    assert main([], toy) == 0
    rewritten = (toy / "rivals" / "dvc.yaml").read_text()
    assert rewritten.startswith(RIVALS.partition("    deps:")[0])
    assert "      - telepath/deep/d.py\n      - telepath/errors.py\n      - data/in\n" in rewritten
    assert (toy / "dvc.yaml").read_text() == REWRITTEN
    assert main(["--check"], toy) == 0


def test_an_unsorted_list_is_put_in_order(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "dvc.yaml").write_text(
        REWRITTEN.replace(
            "      - stages/harness.py\n      - stages/one.py",
            "      - stages/one.py\n      - stages/harness.py",
        )
    )
    assert main(["--check"], toy) == 1
    assert capsys.readouterr().out == "one: not sorted, or something twice\n"
    assert main([], toy) == 0
    assert (toy / "dvc.yaml").read_text() == REWRITTEN


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import telepath.nothing", "telepath.nothing"),
        ("from telepath import deep, nothing", "telepath.nothing"),
        ("from telepath.nothing import x", "telepath.nothing"),
        ("from .deep.nothing import x", "telepath.deep.nothing"),
    ],
)
def test_an_import_of_nothing_is_named(toy: Path, line: str, message: str) -> None:
    (toy / "telepath/a.py").write_text(f"import os\n{line}\n")
    with pytest.raises(UserError, match=rf"^telepath/a\.py:2: imports {message}, which does not exist"):
        closure("one", toy)


def test_a_stage_without_a_file(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "stages/two.py").unlink()
    assert main([], toy) == 1
    assert capsys.readouterr().err.startswith("telepath: dependencies: stages/two.py: no such file")

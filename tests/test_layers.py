"""The house stands: imports go downward, and heavy or foreign packages stay in their rooms."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.dependencies import PACKAGES, ROOT, imported, local_imports

# Lowest first; those in one tuple do not know each other.
LAYERS = (
    ("telepath/errors",),
    ("telepath/files",),
    ("telepath/settings",),
    ("telepath/rival_settings",),
    ("telepath/config",),
    ("telepath/observations",),
    ("telepath/episodes",),
    ("telepath/runtime",),
    ("telepath/envs",),
    ("telepath/dreamer",),
    ("telepath/alignment",),
    ("telepath/transfer", "telepath/baselines"),
    ("telepath/evaluation",),
    ("telepath/loading",),
    ("stages",),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
ROOMS: dict[str, str | tuple[str, ...]] = {
    "dm_control": "telepath/envs/",
    "mujoco": "telepath/envs/",
    "numba": ("telepath/alignment/", "telepath/dreamer/kernels.py", "telepath/runtime/compiled.py"),
    "llvmlite": ("telepath/alignment/", "telepath/dreamer/kernels.py"),
    "OpenGL": "telepath/envs/",
    "distributed": "telepath/runtime/",
    "matplotlib": "telepath/evaluation/",
    "PIL": "telepath/evaluation/",
    "markdown_it": "telepath/evaluation/",
}
FILES = sorted(p.relative_to(ROOT).as_posix() for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def layer(path: str) -> str:
    """The layer of a file: its package, or its own name where it lies directly in telepath/."""
    if path.startswith("stages/"):
        return "stages"
    return "/".join(path.removesuffix(".py").split("/")[:2])


@pytest.mark.parametrize("path", FILES)
def test_imports_go_downward(path: str) -> None:
    if path == "telepath/__init__.py":
        return
    for other in sorted(local_imports(path)):
        below = HEIGHT[layer(other)] < HEIGHT[layer(path)]
        assert below or layer(other) == layer(path), f"{path} imports {other}, which is not below it"


def test_no_module_imports_itself_round_a_corner() -> None:
    graph = graphlib.TopologicalSorter({path: local_imports(path) for path in FILES})
    graph.prepare()  # raises CycleError, which lists the modules on the cycle


@pytest.mark.parametrize("path", FILES)
def test_foreign_packages_stay_in_their_rooms(path: str) -> None:
    for module, _, line in imported(path):
        package = module.partition(".")[0]
        assert path.startswith(ROOMS.get(package, "")), f"{path}:{line}: {package} belongs in {ROOMS[package]}"


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("telepath/")])
def test_the_library_knows_nothing_of_dvc(path: str) -> None:
    assert not [line for module, _, line in imported(path) if module.partition(".")[0] == "dvc"]
    assert not [text for text in strings(path) if "dvc.yaml" in text or "dvc.lock" in text]


def strings(path: str) -> Iterator[str]:
    """The string constants of a file, without its docstrings."""
    tree = ast.parse(Path(ROOT, path).read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value

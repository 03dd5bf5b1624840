"""The code that a stage depends on, and its entries in dvc.yaml and rivals/dvc.yaml.

    python -m stages.dependencies            write the code entries of every stage's `deps`
    python -m stages.dependencies --check    only say what differs; exit status 1 if anything does

dvc reruns a stage when a file in its ``deps`` changes, so those have to name the stage's own module and all
of this project that it imports, however indirectly. Found by reading the source, not by importing it: imports
inside functions count, ``importlib`` would not be seen. Package ``__init__.py`` files decide no result: left out.
"""

import argparse
import ast
import functools
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from telepath.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("telepath", "stages")
PIPELINES = ("dvc.yaml", "rivals/dvc.yaml")
"""The second one's stages run in the root as well (``wdir``), so that both name the same paths."""

STAGE_COMMAND = re.compile(r"python -m stages\.(\w+)")


def closure(stage: str, root: Path = ROOT) -> set[str]:
    """The files, as posix paths from ``root``, that ``stages/STAGE.py`` consists of, itself included.

    Raises ``UserError`` for a stage without a file and for an import of a local module that does not exist.
    """
    start = f"stages/{stage}.py"
    if not (root / start).is_file():
        raise UserError(f"{start}: no such file; create it, or remove the stage from dvc.yaml")
    found: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(local_imports(path, root))
    return found


@functools.cache
def local_imports(path: str, root: Path = ROOT) -> frozenset[str]:
    """The files of this project that the file at ``path`` imports itself."""
    modules = (module for line in imported(path, root) for module in resolve(*line, path, root))
    return frozenset(module for module in modules if module is not None)


def imported(path: str, root: Path = ROOT) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Every import in a file as (module, names imported from it, line); relative ones made absolute."""
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"), path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, (), node.lineno
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            yield (
                ".".join([*package, *filter(None, [node.module])]),
                tuple(a.name for a in node.names),
                node.lineno,
            )


def resolve(module: str, names: tuple[str, ...], line: int, path: str, root: Path) -> Iterator[str | None]:
    """The files behind one import; None for a package."""
    if module.partition(".")[0] not in PACKAGES:
        return
    where = f"{path}:{line}"
    file = find(module, where, root)
    yield file
    if file is None:
        # A package has no names of its own: whatever is imported from it is a module.
        yield from (find(f"{module}.{name}", where, root) for name in names)


def find(module: str, where: str, root: Path) -> str | None:
    """The file of a module, None for a package; ``UserError`` if it is neither."""
    path = module.replace(".", "/")
    if (root / f"{path}.py").is_file():
        return f"{path}.py"
    if (root / path).is_dir():
        return None
    raise UserError(f"{where}: imports {module}, which does not exist; correct the import")


def is_code(entry: Any) -> bool:
    """Whether an entry of `deps` is one that this module looks after."""
    return isinstance(entry, str) and entry.partition("/")[0] in PACKAGES


def pipeline_stages(pipeline: CommentedMap) -> Iterator[tuple[str, str, CommentedMap]]:
    """(name, module, entry) of the stages of dvc.yaml that are modules of this project."""
    for name, entry in pipeline.get("stages", {}).items():
        if match := STAGE_COMMAND.search(str(entry.get("cmd", ""))):
            yield name, match[1], entry


def differences(pipeline: CommentedMap, root: Path = ROOT) -> list[str]:
    """One line for each stage whose code entries are not its imports."""
    lines = []
    for name, module, entry in pipeline_stages(pipeline):
        listed = [dep for dep in entry.get("deps") or [] if is_code(dep)]
        needed = closure(module, root)
        missing, stale = sorted(needed - set(listed)), sorted(set(listed) - needed)
        if missing or stale:
            lines.append(f"{name}: " + ", ".join([f"+{dep}" for dep in missing] + [f"-{dep}" for dep in stale]))
        elif listed != sorted(needed):
            lines.append(f"{name}: not sorted, or something twice")
    return lines


def rewrite(pipeline: CommentedMap, root: Path = ROOT) -> None:
    """Put every stage's code entries, sorted, before its data; comments and data stay as they are."""
    for _, module, entry in pipeline_stages(pipeline):
        deps = entry.get("deps") or CommentedSeq()
        # In place and one by one, because ruamel.yaml ties comments to positions in the list.
        for index in reversed(range(len(deps))):
            if is_code(deps[index]):
                del deps[index]
        for index, path in enumerate(sorted(closure(module, root))):
            deps.insert(index, path)
        deps.fa.set_block_style()
        entry["deps"] = deps


def yaml_style() -> YAML:
    """A reader and writer that leaves the look of dvc.yaml alone."""
    style = YAML()
    style.indent(mapping=2, sequence=4, offset=2)
    style.width = 4096
    style.preserve_quotes = True
    return style


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stages.dependencies", description="Code entries of dvc.yaml.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if something differs")
    check = parser.parse_args(arguments).check
    main_pipeline, *others = (root / name for name in PIPELINES)
    lines: list[str] = []
    try:
        for path in [main_pipeline, *(path for path in others if path.exists())]:
            lines += bring_up_to_date(path, root, check)
    except (UserError, OSError) as error:
        print(f"telepath: dependencies: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines) or "dvc.yaml names the code of every stage")
    return 1 if lines and check else 0


def bring_up_to_date(path: Path, root: Path, check: bool) -> list[str]:
    """What differs in a pipeline file; without ``check`` it is mended as well."""
    style = yaml_style()
    pipeline = style.load(path.read_text(encoding="utf-8"))
    lines = differences(pipeline, root)
    if lines and not check:
        rewrite(pipeline, root)
        text = io.StringIO()
        style.dump(pipeline, text)
        path.write_text(text.getvalue(), encoding="utf-8")
    return lines


if __name__ == "__main__":
    sys.exit(main())

"""What all stages share: settings, the check of what they read, checkpoints, and a decent end.

A stage is a module ``stages/NAME.py`` with a ``main(params, context)``, run as ``python -m stages.NAME`` from
the root of the project, by dvc or by hand. dvc.yaml says what it may read: only the parameters declared there
come through ``params``, since dvc would not notice a change of any other and would serve a stale result.

Note on outputs: dvc deletes the declared outputs of a stage *before* it runs the command. So an interrupted
stage leaves none, and what it may continue from has to lie elsewhere (``Context.scratch``). Run by hand, a
stage keeps the earlier outputs until it writes new ones, which it does at its very end.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from stages.artefacts import RECORDS
from telepath.config import Params, load
from telepath.episodes import save_arrays
from telepath.errors import Fault, UserError
from telepath.files import FULL, MEND, one_line, together, unwritable
from telepath.runtime.device import be_deterministic, keep_memory, limit_threads
from telepath.runtime.environment import check_variables
from telepath.runtime.interrupt import INTERRUPTED, insist_on_signals, stop_on_signals
from telepath.runtime.ledger import LEDGER, session
from telepath.runtime.live import Watcher
from telepath.runtime.memory import GIB, memory_limit
from telepath.runtime.progress import Progress
from telepath.runtime.resume import PATIENCE, Scratch, locked, sweep

PIPELINE = Path("dvc.yaml")
RIVALS = Path("rivals") / "dvc.yaml"
SETTINGS = Path("params.yaml")
LOCKS = Path(".telepath") / "locks"
FAILED = 1

# MuJoCo reads it when it is imported, and ends in a traceback where it says nothing that MuJoCo knows. Stages ask
# TELEPATH_GL alone.
os.environ["MUJOCO_GL"] = "disabled"


# -- running -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """What dvc.yaml says of a stage, templates filled in.

    params: dotted keys of params.yaml; item: which one it is of a stage with a matrix.
    """

    name: str
    cmd: str
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    item: str = ""


@dataclass(frozen=True)
class Context:
    """What a stage may know about its own run.

    fingerprint: hexadecimal SHA-256 over command, declared parameters and the content of all dependencies.
    reads: those of the declared parameters that were read so far.
    """

    stage: Stage
    fingerprint: str
    reads: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What the files of this run are called: equal for a rerun with equal inputs, and for no other."""
        return f"{self.stage.name}-{self.fingerprint[:16]}"

    def scratch(self) -> Scratch:
        """The stage's checkpoint, always the same object: found again by a rerun with equal inputs, and by no other."""
        return self._scratch

    def progress(self, total: int, unit: str) -> Progress:
        """A progress line of the stage, whose figures also grow a curve under ``.telepath/curves``."""
        return Progress(self.stage.name, total, unit, Watcher(home(), self.name, total, unit))

    @cached_property
    def _scratch(self) -> Scratch:
        # Two experiments of a queue often share a stage, and nobody watches who could start the second one again.
        return Scratch(home() / "scratch" / self.name, math.inf if is_queued() else PATIENCE)

    def tell_divergences(self, count: int) -> None:
        """Say in the log that the simulator diverged in episodes of the stage, in whichever session, if it did."""
        if count:
            what = f"the simulator diverged {count} times; such an episode ends there, at its last finite observation"
            print(f"telepath: {self.stage.name}: {what}", file=sys.stderr, flush=True)


def home() -> Path:
    """Where checkpoints and post-mortems lie."""
    # In a queued experiment the current folder is a temporary workspace, and DVC_ROOT the one that stays.
    return Path(os.environ.get("DVC_ROOT") or ".") / ".telepath"


def is_queued() -> bool:
    """Whether this is an experiment in a temporary workspace of its own."""
    return "DVC_ROOT" in os.environ and Path(os.environ["DVC_ROOT"]).resolve() != Path.cwd()


Main = Callable[[Params, Context], None]


def run(main: Main) -> NoReturn:
    """Run the stage whose module defines ``main`` and exit: 0, 1 after a ``UserError``, 130 when stopped."""
    name = "stage"
    try:
        name = stage_name(main)
        stop_on_signals()
        insist_on_signals(name)
        execute(main, name, *sys.argv[1:2])
    except UserError as error:
        end(name, str(error), FAILED)
    except OSError as error:
        if error.errno in FULL:
            end(name, f"{error.filename or 'some file'}: {unwritable(error)}", FAILED)
        if error.filename is None:
            raise  # of no file: a bug of ours
        end(name, f"{error.filename}: {error.strerror}; make it readable and its folder writable", FAILED)
    except KeyboardInterrupt as stop:
        end(name, f"interrupted; {stop}" if stop.args else "interrupted", INTERRUPTED)
    sys.exit(0)


def execute(main: Main, name: str, item: str = "") -> Context:
    """Run ``main`` as the stage called ``name`` in the current folder; returns the context it was given.

    ``item`` chooses of a stage with a matrix, and means nothing to the others. Settings, dependencies and environment
    variables are checked before any work begins. Raises ``UserError``.
    """
    check_variables()
    params = load(SETTINGS)
    stage = read_stage(name, params, item)
    demand(stage)
    limit_threads()
    keep_memory()
    be_deterministic()
    context = Context(stage, fingerprint(stage, params))
    # Both are held to the end. A twin would write the same scratch; the same stage with other inputs has a scratch of
    # its own, but in this folder, which is no other experiment's, the same outputs.
    outputs = locked(LOCKS / stage.name, PATIENCE, f"{stage.name} in this folder")
    with context.scratch() as scratch, outputs, session(home() / LEDGER, stage.name, context.fingerprint):
        sweep(scratch.folder.parent, keep=scratch.folder, recorded=recorded())
        outs = [Path(out) for out in stage.outs]
        for out in outs:
            probe(out)
        try:
            # Outputs belong together: whoever is stopped on the way leaves the earlier ones, and not a mixture.
            with together(outs):
                main(scoped(params, context), context)
        except KeyboardInterrupt:
            kept = scratch.holds_state()
            how = "goes on from the last checkpoint" if kept else "starts over: there was no checkpoint yet"
            raise KeyboardInterrupt(f"a rerun with the same settings {how}") from None
        except Fault as fault:
            raise UserError(post_mortem(fault, home() / "faults" / f"{context.name}.npz")) from None
        if "DVC_STAGE" in os.environ:
            # dvc has yet to hash, store and record the outputs.
            scratch.finish(dvc_hash(out) for out in outs if out.exists())
        else:
            scratch.clear()
    return context


def post_mortem(fault: Fault, path: Path) -> str:
    """Write down what the part that failed was working on; returns the one line for the user."""
    try:
        save_arrays(path, dict(fault.evidence))
        where = f"what it was working on is in {path}"
    except UserError as error:
        where = f"what it was working on could not be kept: {error}"
    mend = "lower that part's learning rate in params.yaml, or try another seed"
    return f"{fault}; {where}, and the last checkpoint is kept; {mend}"


def probe(out: Path) -> None:
    """Raise ``UserError`` where an output could not be written, before there is any work that would be lost.

    Outputs whose name has a suffix are files, the others folders.
    """
    try:
        if out.suffix and out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not out.suffix and out.exists() and not out.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder = out if out.is_dir() else out.parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{out}: {unwritable(error)}") from None


def stage_name(main: Main) -> str:
    """The stage of ``main``: the last part of its module's name, also where that module runs as a program."""
    spec = getattr(main, "__globals__", {}).get("__spec__")
    if spec is None:
        raise UserError("a stage runs as a module: `python -m stages.NAME` from the root of the project")
    return str(spec.name).rpartition(".")[2]


def end(name: str, message: str, status: int) -> NoReturn:
    """Say why in one line, where there is anybody to be told, and exit."""
    with contextlib.suppress(OSError):  # nobody reads it any more, or the disk that it goes to is full
        print(f"telepath: {name}: {message}", file=sys.stderr, flush=True)
    # `from None`, because the traceback of something that the user can mend only hides the message.
    raise SystemExit(status) from None


def demand(stage: Stage) -> None:
    """Raise ``UserError`` for the first dependency that is not there, or can be no artefact of a stage."""
    for dep in stage.deps:
        try:
            found = Path(dep).stat()
            if stat.S_ISDIR(found.st_mode):
                os.listdir(dep)
        except (FileNotFoundError, NotADirectoryError):
            mend = "python -m stages.dependencies" if dep.endswith(".py") else "dvc repro"
            raise UserError(f"{dep}: missing, and this stage needs it; run `{mend}`") from None
        except OSError as error:
            raise UserError(f"{dep}: cannot be read ({error.strerror}); make it readable") from None
        if stat.S_ISDIR(found.st_mode):
            continue
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{dep}: is neither a file nor a folder; {MEND}")
        if found.st_size > (limit := memory_limit()):
            raise UserError(
                f"{dep}: {found.st_size / GIB:,.1f} GiB, and there are {limit / GIB:,.1f} of memory; {MEND}"
            )


# -- dvc.yaml ----------------------------------------------------------------------------------------------


def read_stage(name: str, params: Params, item: str = "") -> Stage:
    """The entry of dvc.yaml, or of the rivals', with ``${key}`` replaced by the value in params.yaml, as dvc does it.

    A stage with a matrix is one for each value of its one axis; ``item`` is the value.
    """
    stages = read_stages(PIPELINE)
    if name not in stages and RIVALS.exists():
        stages = read_stages(RIVALS)
    if name not in stages:
        raise UserError(f"{PIPELINE}: has no stage {name!r}; add it, its deps and outs")
    values: dict[str, Any] = params.model_dump(mode="json")
    matrix = stages[name].get("matrix", {})
    for axis, choices in matrix.items():
        if item not in choices:
            raise UserError(f"no {axis} {item!r}; run `python -m stages.{name} X` with X one of {', '.join(choices)}")
        values["item"] = {axis: item}

    def filled(key: str) -> tuple[str, ...]:
        return tuple(fill(entry, values) for entry in entries(stages[name].get(key) or []))

    try:
        outs = (*filled("outs"), *filled("metrics"), *filled("plots"))
        stage = Stage(name, fill(stages[name]["cmd"], values), filled("params"), filled("deps"), outs)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{PIPELINE}: stage {name} is not readable ({one_line(error)}); correct it") from None
    return replace(stage, name=f"{name}@{item}", item=item) if matrix else stage


def read_stages(pipeline: Path) -> dict[str, Any]:
    """The list of stages of a pipeline file, as it is written."""
    try:
        return dict(yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"])
    except FileNotFoundError:
        raise UserError(f"{pipeline}: no such file; run from the root of the project") from None
    except Exception as error:
        raise UserError(f"{pipeline}: no readable list of stages ({one_line(error)}); correct it") from None


def entries(listed: Iterable[str | Mapping[str, Any]]) -> Iterator[str]:
    """The paths or keys of a list in dvc.yaml; an entry with options is a mapping under its path."""
    for entry in listed:
        yield from [entry] if isinstance(entry, str) else entry


def fill(template: str, values: Mapping[str, Any]) -> str:
    """``template`` with every ``${dotted.key}`` replaced."""

    def replace(match: re.Match[str]) -> str:
        value = look_up(values, match[1])
        return value if isinstance(value, str) else json.dumps(value)

    return re.sub(r"\$\{\s*([^}\s]+)\s*\}", replace, template)


def look_up(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; ``UserError`` if there is none."""
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise UserError(f"{PIPELINE}: names the parameter {key}, which {SETTINGS} does not have; correct one")
        node = node[part]
    return node


# -- the fingerprint ---------------------------------------------------------------------------------------


def fingerprint(stage: Stage, params: Params) -> str:
    """Hexadecimal SHA-256 over all that decides the result of a stage, as dvc sees it."""
    values = params.model_dump(mode="json")
    content = {
        "cmd": stage.cmd,
        "params": {key: look_up(values, key) for key in stage.params},
        "deps": {dep: content_hash(Path(dep)) for dep in stage.deps},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            listing = [(p.relative_to(path).as_posix(), content_hash(p)) for p in files]
            return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None


def dvc_hash(out: Path) -> str:
    """What dvc.lock calls the content of an output: the MD5 of a file, or of the list of a folder's files."""
    if not out.is_dir():
        with out.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = {path.relative_to(out).as_posix(): dvc_hash(path) for path in out.rglob("*") if path.is_file()}
    listing = json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)])
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"


def recorded() -> str:
    """What dvc has recorded of this workspace, as it is written."""
    texts = []
    for path in RECORDS:
        with contextlib.suppress(OSError):
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)


# -- only what is declared ---------------------------------------------------------------------------------


class UndeclaredRead(AssertionError):
    """A stage read a parameter that dvc.yaml does not declare for it: a bug of ours, not of the user's."""


def scoped(params: Params, context: Context) -> Params:
    """``params`` as the stage declared them: all else raises ``UndeclaredRead``; reads are recorded."""
    return cast(Params, Scope(params, (), context))


class Scope:
    """A part of the settings of which not everything is declared; what is declared comes out as itself."""

    __slots__ = ("_context", "_key", "_value")

    def __init__(self, value: Any, key: tuple[str, ...], context: Context):
        self._value, self._key, self._context = value, key, context

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asking for a protocol, not a stage for a parameter
            raise AttributeError(name)
        return self._child(name, lambda: getattr(self._value, name))

    def __getitem__(self, name: str) -> Any:
        return self._child(name, lambda: self._value[name])

    def _child(self, name: str, get: Callable[[], Any]) -> Any:
        key = (*self._key, name)
        below = False
        for declared in self._context.stage.params:
            parts = tuple(declared.split("."))
            if key[: len(parts)] == parts:
                self._context.reads.add(declared)
                return get()
            below |= parts[: len(key)] == key
        if below:
            return Scope(get(), key, self._context)
        raise self._undeclared(".".join(key))

    # Which keys a dict has is information too: a change of it would go unnoticed.
    def __iter__(self) -> Iterator[str]:
        raise self._undeclared(".".join(self._key))

    def __len__(self) -> int:
        raise self._undeclared(".".join(self._key))

    def __contains__(self, name: str) -> bool:
        raise self._undeclared(".".join(self._key))

    def _undeclared(self, key: str) -> UndeclaredRead:
        name = self._context.stage.name
        return UndeclaredRead(f"stage {name} reads the parameter {key}, which {PIPELINE} does not declare for it")

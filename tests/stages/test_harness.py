"""The stage harness, on a toy project in a temporary folder."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stages.harness import (
    Context,
    Stage,
    UndeclaredRead,
    dvc_hash,
    execute,
    fingerprint,
    is_queued,
    read_stage,
    run,
    scoped,
)
from telepath.config import Params, load
from telepath.errors import UserError
from telepath.files import read, write_atomically
from telepath.runtime.environment import VARIABLES, Variable
from telepath.settings import DreamerSettings, TaskSettings
from tests.unread import unread

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
stages:
  toy:
    cmd: python -m stages.toy  # ${task}
    params:
      - task
      - tasks.${task}.action_repeat
      - seed.source
      - dreamer
    deps:
      - stages/toy.py
      - data/in
    outs:
      - data/${task}/out.txt
      - data/more/table.csv: {cache: false}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one stage, and the current folder in it."""
    for variable in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "toy.py").write_text("")
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "data" / "in" / "episodes").write_text("12345")
    monkeypatch.chdir(tmp_path)
    # Other tests in this process shall not notice.
    monkeypatch.setattr("stages.harness.be_deterministic", lambda: None)
    monkeypatch.setenv("TELEPATH_THREADS", str(torch.get_num_threads()))
    return tmp_path


@pytest.fixture
def here(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``run`` runs any function as the toy stage and leaves this process's signals alone."""
    monkeypatch.setattr("stages.harness.stop_on_signals", lambda: None)
    monkeypatch.setattr("stages.harness.insist_on_signals", lambda name: None)
    monkeypatch.setattr("stages.harness.stage_name", lambda main: "toy")


def change(key: str, value: Any) -> None:
    """Set a dotted key of params.yaml."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    node = content
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(content))


def view(*declared: str) -> tuple[Params, Context]:
    context = Context(Stage("toy", "", declared, (), ()), "0" * 64)
    return scoped(load(), context), context


# -- what a stage may read -------------------------------------------------------------------------------


def test_declared_parameters_come_out_as_themselves(toy: Path) -> None:
    whole = load()
    params, context = view("task", "seed.source", f"tasks.{whole.task}", "dreamer")
    assert params.seed.source == whole.seed.source
    assert params.tasks[params.task] == whole.tasks[whole.task]
    assert isinstance(params.tasks[params.task], TaskSettings)
    assert context.reads == {"seed.source", "task", f"tasks.{whole.task}"}
    assert unread(context) == {"dreamer"}
    assert isinstance(params.dreamer, DreamerSettings)
    assert params.dreamer.deter == whole.dreamer.deter
    assert unread(context) == set()


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (lambda p: p.seed.target, "seed.target"),
        (lambda p: p.gap, "gap"),
        (lambda p: p.sed, "sed"),
        (lambda p: p.tasks["cheetah-run"].action_repeat, "tasks.cheetah-run"),
        (lambda p: p.tasks["walker-walk"].source_steps, "tasks.walker-walk.source_steps"),
        (lambda p: list(p.tasks), "tasks"),
        (lambda p: len(p.tasks), "tasks"),
        (lambda p: "walker-walk" in p.tasks, "tasks"),
        (lambda p: p.tasks.get("walker-walk"), "tasks.get"),
        (lambda p: p.seed.model_dump(), "seed.model_dump"),
    ],
)
def test_undeclared_reads_are_bugs(toy: Path, read: Callable[[Any], Any], key: str) -> None:
    params, context = view("seed.source", "tasks.walker-walk.action_repeat")
    with pytest.raises(UndeclaredRead, match=rf"stage toy reads the parameter {key},"):
        read(params)
    assert context.reads == set()


def test_nothing_can_be_written(toy: Path) -> None:
    params, _ = view("seed.source")
    with pytest.raises(AttributeError):
        params.seed.source = 3


def test_a_key_is_no_prefix_of_another_word(toy: Path) -> None:
    params, _ = view("task")
    with pytest.raises(UndeclaredRead):
        params.tasks["walker-walk"]


# -- dvc.yaml --------------------------------------------------------------------------------------------


def test_templates_are_filled_in(toy: Path) -> None:
    change("task", "walker-walk")
    stage = read_stage("toy", load())
    assert stage == Stage(
        "toy",
        "python -m stages.toy",
        ("task", "tasks.walker-walk.action_repeat", "seed.source", "dreamer"),
        ("stages/toy.py", "data/in"),
        ("data/walker-walk/out.txt", "data/more/table.csv"),
    )


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (None, "no such file"),
        ("stages: [", "no readable list"),
        ("plots: []", "no readable list"),
        ("stages: {other: {cmd: x}}", "no stage 'toy'"),
        ("stages: {toy: {cmd: '${nothing}'}}", "names the parameter nothing"),
        ("stages: {toy: {cmd: x, params: [seed.nothing]}}", "names the parameter seed.nothing"),
    ],
)
def test_a_bad_pipeline_is_a_user_error(toy: Path, pipeline: str | None, message: str) -> None:
    Path("dvc.yaml").unlink()
    if pipeline is not None:
        Path("dvc.yaml").write_text(pipeline)
    with pytest.raises(UserError, match=rf"^dvc\.yaml: .*{message}"):
        execute(lambda params, context: None, "toy")


RIVALS = """
vars: [../params.yaml]
stages:
  play:
    wdir: ..
    matrix:
      rival: [one, two]
    cmd: python -m stages.play ${item.rival}
    params: [task, "tasks.${task}.action_repeat"]
    deps: [data/in]
    outs: ["data/${item.rival}/out"]
"""


@pytest.fixture
def rivals(toy: Path) -> Path:
    (toy / "rivals").mkdir()
    (toy / "rivals" / "dvc.yaml").write_text(RIVALS)
    return toy


def test_a_stage_with_a_matrix_is_found_among_the_rivals(rivals: Path) -> None:
    stage = read_stage("play", load(), "two")
    repeat = f"tasks.{load().task}.action_repeat"
    assert stage == Stage(
        "play@two", "python -m stages.play two", ("task", repeat), ("data/in",), ("data/two/out",), "two"
    )
    assert fingerprint(stage, load()) != fingerprint(read_stage("play", load(), "one"), load())
    assert read_stage("toy", load(), "two").item == ""


@pytest.mark.parametrize("item", ["", "three"])
def test_an_item_that_the_matrix_lacks_names_those_that_it_has(rivals: Path, item: str) -> None:
    message = rf"^no rival '{item}'; run `python -m stages\.play X` with X one of one, two"
    with pytest.raises(UserError, match=message):
        execute(lambda params, context: None, "play", item)


def test_a_bad_list_of_rivals_is_a_user_error(rivals: Path) -> None:
    Path("rivals/dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match=r"^rivals/dvc\.yaml: no readable list"):
        execute(lambda params, context: None, "play", "one")


# -- the fingerprint -------------------------------------------------------------------------------------


def print_of() -> str:
    params = load()
    return fingerprint(read_stage("toy", params), params)


@pytest.mark.parametrize(
    "edit",
    [
        lambda: change("seed.source", 99),
        lambda: change("dreamer.deter", 99),
        lambda: change("task", "walker-walk"),
        lambda: Path("data/in/episodes").write_text("12346"),
        lambda: Path("data/in/episodes").rename("data/in/renamed"),
        lambda: Path("data/in/more").write_text(""),
        lambda: Path("stages/toy.py").write_text("pass"),
        lambda: Path("dvc.yaml").write_text(PIPELINE.replace("stages.toy  #", "stages.toy --fast  #")),
        lambda: Path("dvc.yaml").write_text(PIPELINE.replace("seed.source", "seed.target")),
    ],
)
def test_the_fingerprint_follows_what_decides_the_result(toy: Path, edit: Callable[[], Any]) -> None:
    before = print_of()
    edit()
    assert print_of() != before


def test_the_fingerprint_ignores_the_rest(toy: Path) -> None:
    before = print_of()
    change("seed.target", 99)
    change("explore.members", 9)
    Path("params.yaml").write_text("# a comment\n" + Path("params.yaml").read_text())
    Path("dvc.yaml").write_text(PIPELINE + "# a comment\n")
    (Path("data/in") / "__pycache__").mkdir()
    (Path("data/in") / "__pycache__" / "x.pyc").write_text("")
    os.utime("data/in/episodes", (1, 1))
    assert print_of() == before
    os.chdir(shutil.copytree(toy, toy.with_name("elsewhere")))
    assert print_of() == before


# -- a run -----------------------------------------------------------------------------------------------


def test_a_run_checks_everything_first_and_clears_its_checkpoint_last(toy: Path) -> None:
    seen: list[Path] = []

    def main(params: Params, context: Context) -> None:
        assert Path("data", params.task).is_dir()
        assert Path("data/more").is_dir()
        with context.scratch() as scratch:
            scratch.save({"updates": 1})
            seen.append(scratch.folder)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        execute(main, "toy")
    assert (seen[0] / "state.safetensors").exists()

    def second(params: Params, context: Context) -> None:
        with context.scratch() as scratch:
            assert scratch.load() == {"updates": 1}

    context = execute(second, "toy")
    assert seen[0] == Path(".telepath/scratch") / f"toy-{context.fingerprint[:16]}"
    assert not seen[0].exists()


def rest(params: Params, context: Context) -> None:
    """A stage that does nothing."""


def test_under_dvc_a_checkpoint_stays_until_dvc_has_recorded_what_was_made_of_it(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(params: Params, context: Context) -> None:
        with context.scratch() as scratch:
            assert scratch.load() in (None, {"updates": 1})
            scratch.save({"updates": 1})
        for out in context.stage.outs:
            Path(out).write_text(Path(out).stem)

    monkeypatch.setenv("DVC_STAGE", "toy")
    # dvc may be killed, or find the disk full, before it has recorded what the stage made.
    folder = execute(main, "toy").scratch().folder
    assert execute(main, "toy").scratch().holds_state()
    (toy / "dvc.yaml").write_text(PIPELINE + "  next: {cmd: x}\n")
    execute(rest, "next")
    assert folder.exists()
    # Another one's record, and one of a part of it.
    outs = read_stage("toy", load()).outs
    (toy / "dvc.lock").write_text(f"md5: {hashlib.md5(b'table').hexdigest()}\n")
    execute(rest, "next")
    assert folder.exists()
    (toy / "dvc.lock").write_text("".join(f"md5: {hashlib.md5(Path(out).read_bytes()).hexdigest()}\n" for out in outs))
    execute(rest, "next")
    assert not folder.exists()


def test_what_is_never_recorded_goes_after_a_week(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(params: Params, context: Context) -> None:
        with context.scratch() as scratch:
            scratch.save({"updates": 1})
        Path("data/more/table.csv").write_text("table")

    monkeypatch.setenv("DVC_STAGE", "toy")
    folder = execute(main, "toy").scratch().folder
    (toy / "dvc.yaml").write_text(PIPELINE + "  next: {cmd: x}\n")
    for days, there in ((6, True), (8, False)):
        moment = time.time() - days * 24 * 3600
        os.utime(folder / "finished", (moment, moment))
        execute(rest, "next")
        assert folder.exists() == there


def test_outputs_are_hashed_as_dvc_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "below").mkdir(parents=True)
    for name in ("z.csv", "below/a", "below.txt", "ümlaut"):
        (tmp_path / "out" / name).write_text(name)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for out in (tmp_path / "out", tmp_path / "out" / "z.csv"):
            stage = repo.stage.create(outs_no_cache=[str(out)], cmd="x", name="s", single_stage=False)
            stage.save()
            assert dvc_hash(out) == stage.outs[0].hash_info.value


def test_divergences_are_told(capsys: pytest.CaptureFixture[str], toy: Path) -> None:
    _, context = view()
    context.tell_divergences(0)
    assert capsys.readouterr().err == ""
    context.tell_divergences(3)
    assert capsys.readouterr().err.startswith(
        "telepath: toy: the simulator diverged 3 times; such an episode ends there"
    )


def test_a_twin_is_refused_before_it_writes_anything(toy: Path) -> None:
    program = "import time; from pathlib import Path; from telepath.runtime.resume import Scratch\n"
    program += "with Scratch(Path('.telepath/scratch', __import__('sys').argv[1])): print(flush=True); time.sleep(30)"
    params = load()
    context = Context(read_stage("toy", params), fingerprint(read_stage("toy", params), params))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program, context.name], stdout=subprocess.PIPE, env=environment
    ) as twin:
        assert twin.stdout is not None
        twin.stdout.readline()
        with pytest.raises(UserError, match=f"process {twin.pid} is at work on the same stage"):
            execute(never, "toy")
        twin.kill()


HOLDER = """
import sys, time
from pathlib import Path
from telepath.runtime.resume import acquire
acquire(Path(sys.argv[1]))
print(flush=True)
time.sleep(30)
"""


def test_the_same_stage_with_other_settings_is_refused_in_this_folder_and_not_in_another(toy: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, ".telepath/locks/toy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            UserError, match=rf"^\.telepath/locks: process {other.pid} is at work on toy in this folder; wait"
        ):
            execute(never, "toy")
        (toy / "dvc.yaml").write_text(PIPELINE + "  next: {cmd: x}\n")
        execute(rest, "next")
        elsewhere = shutil.copytree(toy, toy / "elsewhere", ignore=shutil.ignore_patterns(".telepath"))
        with contextlib.chdir(elsewhere):
            execute(rest, "toy")
        other.kill()
    locks: list[Path] = []

    def look(params: Params, context: Context) -> None:
        locks.extend(Path(".telepath/locks").iterdir())

    execute(look, "toy")
    assert locks == [Path(".telepath/locks/toy")]
    assert list(Path(".telepath/locks").iterdir()) == []


def test_checkpoints_lie_under_the_main_workspace(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, context = view()
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert context.scratch().folder == Path("/elsewhere/.telepath/scratch/toy-0000000000000000")
    assert dataclasses.replace(context, fingerprint="1" * 64).scratch().folder.name == "toy-1111111111111111"


def test_a_twin_in_a_queue_waits_and_one_in_the_workspace_does_not(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_queued()
    monkeypatch.setenv("DVC_ROOT", str(toy))
    assert not is_queued()
    # A queued experiment's own folder is a temporary one below the workspace.
    (toy / "tmp").mkdir()
    monkeypatch.chdir(toy / "tmp")
    assert is_queued()


def never(params: Params, context: Context) -> None:
    raise AssertionError("no work may begin")


def test_a_bad_key_stops_a_stage_that_does_not_read_it(toy: Path) -> None:
    change("evaluate.episodes", "many")
    with pytest.raises(UserError, match=r"evaluate\.episodes"):
        execute(never, "toy")


def test_a_missing_dependency_names_the_mend(toy: Path) -> None:
    shutil.rmtree("data/in")
    with pytest.raises(UserError, match=r"^data/in: missing.*`dvc repro`"):
        execute(never, "toy")
    Path("stages/toy.py").unlink()
    with pytest.raises(UserError, match=r"^stages/toy\.py: missing.*`python -m stages\.dependencies`"):
        execute(never, "toy")


def refuse(call: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a function fail as the operating system makes it fail."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), "data/in/episodes")

    monkeypatch.setattr(call, fail)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("call", ["os.listdir", "hashlib.file_digest"])
def test_an_unreadable_dependency_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    refuse(call, errno.EACCES, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run(never)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"telepath: toy: (data|stages)/\S+: cannot be read \(Permission denied\); make it readable", line
    )


def test_a_dependency_that_is_no_file_is_named_and_not_waited_for(toy: Path) -> None:
    Path("stages/toy.py").unlink()
    os.mkfifo("stages/toy.py")
    with pytest.raises(UserError, match=r"^stages/toy\.py: is neither a file nor a folder"):
        execute(never, "toy")


def test_a_dependency_beyond_all_memory_is_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate("stages/toy.py", 3 * 2**29)
    monkeypatch.setenv("TELEPATH_MEMORY_GIB", "1")
    with pytest.raises(UserError, match=r"^stages/toy\.py: 1\.5 GiB, and there are 1\.0 of memory; delete it"):
        execute(never, "toy")


# -- outputs ---------------------------------------------------------------------------------------------


def block_a_file(out: Path) -> None:
    out.mkdir(parents=True)


def block_a_folder(out: Path) -> None:
    out.parent.parent.mkdir(exist_ok=True)
    out.parent.write_text("")


@pytest.mark.parametrize(
    ("block", "says"), [(block_a_file, "Is a directory"), (block_a_folder, "File exists|Not a directory")]
)
def test_an_output_s_place_is_tried_before_any_work(toy: Path, block: Callable[[Path], None], says: str) -> None:
    out = Path(read_stage("toy", load()).outs[1])
    block(out)
    with pytest.raises(UserError, match=rf"^{out}: cannot be written \(({says})\); make the folder writable"):
        execute(never, "toy")


def test_so_is_that_of_a_folder(toy: Path) -> None:
    (toy / "dvc.yaml").write_text("stages: {toy: {cmd: x, outs: [data/made]}}")
    Path("data/made").write_text("")
    with pytest.raises(UserError, match=r"^data/made: cannot be written \(Not a directory\)"):
        execute(never, "toy")


def test_a_folder_that_may_not_be_written_to_is_named_before_any_work(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = read_stage("toy", load()).outs[0]
    refuse("tempfile.TemporaryFile", errno.EROFS, monkeypatch)
    with pytest.raises(UserError, match=rf"^{out}: cannot be written \(Read-only file system\)"):
        execute(never, "toy")


def test_outputs_take_their_places_together_or_not_at_all(toy: Path) -> None:
    first, second = (Path(out) for out in read_stage("toy", load()).outs)

    def main(params: Params, context: Context) -> None:
        write_atomically(first, "new")
        write_atomically(Path("data/checkpoint"), "new")
        assert first.read_text() == "old"
        assert read(first) == b"new"  # as the stage itself sees it
        write_atomically(second, "new")
        if trouble is not None:
            raise trouble

    for out in (first, second):
        out.parent.mkdir(exist_ok=True)
        out.write_text("old")
    for trouble in (UserError("too odd"), KeyboardInterrupt(), None):
        with contextlib.suppress(UserError, KeyboardInterrupt):
            execute(main, "toy")
        assert {first.read_text(), second.read_text()} == {"old" if trouble else "new"}
        assert Path("data/checkpoint").read_text() == "new"
        assert not [path for out in (first, second) for path in out.parent.iterdir() if path != out]


BAD_WORDS = {
    "TELEPATH_CHECKPOINT_SECONDS": "-1",
    "TELEPATH_DEVICE": "banana",
    "TELEPATH_EXECUTOR": "zz",
    "TELEPATH_GL": "vulkan",
    "TELEPATH_HALF": "7",
    "TELEPATH_LOG": "mars",
    "TELEPATH_MEMORY_GIB": "0",
    "TELEPATH_PROGRESS_SECONDS": "x",
    "TELEPATH_THREADS": "many",
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_a_bad_environment_variable_stops_a_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: Variable[Any]
) -> None:
    word = BAD_WORDS[variable.name]
    monkeypatch.setenv(variable.name, word)
    with pytest.raises(SystemExit) as ended:
        run(never)
    assert ended.value.code == 1
    said = f"telepath: toy: {variable.name}: '{word}' is not {variable.allowed}; mend it or unset it\n"
    assert capsys.readouterr().err == said


def test_a_misspelt_environment_variable_stops_a_stage(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPATH_SCREENSHOTS", "not ours, and like none of ours")
    monkeypatch.setenv("TELEPATH_THREAD", "1")
    with pytest.raises(
        UserError, match=r"^TELEPATH_THREAD: there is no such variable; did you mean TELEPATH_THREADS\?"
    ):
        execute(never, "toy")


# -- exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (None, 0, ""),
        (UserError("seed.source: too odd; make it even"), 1, "seed.source: too odd; make it even"),
        (
            OSError(28, "No space left on device", "reports/x.png"),
            1,
            "reports/x.png: cannot be written (No space left on device); what was there before is whole: "
            "make room, then run this again",
        ),
        (
            PermissionError(13, "Permission denied", "reports/x.png"),
            1,
            "reports/x.png: Permission denied; make it readable and its folder writable",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; a rerun with the same settings starts over: there was no checkpoint yet",
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_exit_codes(capsys: pytest.CaptureFixture[str], error: BaseException | None, status: int, line: str) -> None:
    def main(params: Params, context: Context) -> None:
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == (f"telepath: toy: {line}\n" if line else "")


STAGE = """
import time
from pathlib import Path
from stages.harness import Context, run
from telepath.config import Params

def main(params: Params, context: Context) -> None:
    with context.scratch() as scratch:
        done = (scratch.load() or {"done": 0})["done"]
        print("from", done, flush=True)
        for number in range(done, 3):
            scratch.save({"done": number + 1})
            print("step", number, flush=True)
            if done == 0 and number == 1:
                time.sleep(30)
    Path("data", params.task, "out.txt").write_text(str(params.seed.source))

if __name__ == "__main__":
    run(main)
"""


def test_a_stage_that_is_stopped_goes_on_where_it_was(toy: Path) -> None:
    (toy / "stages" / "toy.py").write_text(textwrap.dedent(STAGE))
    (toy / "stages" / "__init__.py").touch()
    for name in ("artefacts.py", "harness.py"):
        shutil.copy(ROOT / "stages" / name, toy / "stages")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.toy"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stdout.readline() for _ in range(3)] == ["from 0\n", "step 0\n", "step 1\n"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert process.stderr.read() == (
            "telepath: toy: interrupted; a rerun with the same settings goes on from the last checkpoint\n"
        )
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert again.stdout == "from 2\nstep 2\n"
    assert again.stderr == ""
    assert Path("data", load().task, "out.txt").read_text() == str(load().seed.source)
    assert list(Path(".telepath/scratch").iterdir()) == []

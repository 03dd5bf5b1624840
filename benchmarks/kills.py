"""Kill anything, any time: the small pipeline under SIGKILL, SIGTERM and SIGINT at random moments.

    python -m benchmarks.kills [--kills 100] [--seed 0] [--minutes 60]

The pipeline runs once undisturbed. Then it is started again and again in a second copy and each time killed after a
random while: DVC alone, the stage alone, or both at once, as Ctrl-C does. Whenever it comes to its end all the same,
its artefacts must be those of the undisturbed run, byte for byte, and it begins afresh. Shown at the end: which stages
were hit how often, the longest work that a kill cost, and who outlived DVC. Exit status 1 where anything differs.
`python -m benchmarks.queued` does the same to queued experiments.

The lost work of a kill is the time since the stage's last checkpoint or part, or since its start where it had none yet.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.tiny import TINY, Project, copy_project
from stages.unlock import LOCKS, RECORDS, restore, unlock

LONGER = {
    "source.training.first_updates": 60,
    "oracle.first_updates": 60,
    "explore.update_ratio": 0.06,
    "belief.updates": 250,
    "label.segments": 24,
    "label.chunk": 4,
    "target.first_updates": 60,
}
"""On top of ``TINY``: loops that last for seconds, so that not every kill meets an import."""

CHECKPOINT_SECONDS = 0.3
STARTS = 6
"""A start is killed within this part of the time that the undisturbed run took: about two stages. One that has no
checkpoint and takes longer on a busy machine would never end, so there it becomes more and more.
"""

PATIENCE = 10.0
"""Seconds after which whoever still runs is an orphan."""

VICTIMS = {
    signal.SIGKILL: ("dvc", "stage", "both"),
    signal.SIGTERM: ("dvc", "stage", "both"),
    signal.SIGINT: ("stage", "both"),  # DVC alone ignores it while a stage runs
}
KEPT = (".git", ".dvc", "benchmarks", "docs", "stages", "telepath", "tests")
"""Folders that a fresh start leaves alone; of .dvc the cache goes."""


@dataclass
class Tally:
    """What the kills did."""

    signals: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    lost: dict[str, float] = field(default_factory=dict)
    slowest_end: float = 0.0
    finished: int = 0
    last: str = ""
    in_a_row: int = 0
    troubles: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many so far."""
        return self.signals.total()

    def note(self, number: signal.Signals, whom: str, stage: str) -> None:
        """Another kill."""
        self.signals[f"{number.name} to {whom}"] += 1
        self.stages[stage] += 1
        self.in_a_row = self.in_a_row + 1 if stage == self.last else 1
        self.last = stage

    def patience(self, longest: float) -> float:
        """Seconds to let the next start run at most: ever more while it is always the same stage that is hit."""
        return longest * max(1, self.in_a_row)


class Victim:
    """A copy of the project whose pipeline is started and killed."""

    def __init__(self, project: Project, log: Path):
        self.project, self.log = project, log
        self.project.environment |= {"TELEPATH_CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS), "TELEPATH_THREADS": "1"}

    def start(self) -> psutil.Popen:
        """What `make repro` runs, in a session of its own."""
        self.unlock()
        with self.log.open("w") as log:
            return psutil.Popen(
                ["dvc", "repro"],
                cwd=self.project.folder,
                env=self.project.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def unlock(self) -> None:
        """Remove what a killed DVC left half written."""
        for lock in LOCKS:
            unlock(self.project.folder / lock)
        for record in RECORDS:
            restore(self.project.folder / record)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs in the folder, or in a temporary workspace below it."""
        found = []
        for process in psutil.process_iter():
            try:
                within = Path(process.cwd()).is_relative_to(self.project.folder)
                if within and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stage(self) -> tuple[str, psutil.Process | None]:
        """The stage at work and its process; between two stages it is DVC's own work."""
        for process in self.processes():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            for word in words:
                if word.startswith("stages."):
                    return word.removeprefix("stages."), process
        return "dvc itself", None

    def lost(self, stage: str, process: psutil.Process) -> float:
        """Seconds of work that ending the process now throws away."""
        now = time.time()
        begun = [process.create_time()]
        for state in (self.project.folder / ".telepath" / "scratch").glob(f"{stage}-*/*state.safetensors"):
            try:
                begun.append(state.stat().st_mtime)
            except FileNotFoundError:
                continue
        return max(0.0, now - max(begun))

    def wait_until_quiet(self, patience: float = PATIENCE) -> tuple[float, list[psutil.Process]]:
        """Wait for everything in the folder to end: how long that took, and who did not within so many seconds."""
        begin = time.monotonic()
        while (left := self.processes()) and time.monotonic() < begin + patience:
            time.sleep(0.05)
        return time.monotonic() - begin, left

    def artefacts(self) -> dict[str, str]:
        """SHA-256 of every file that the pipeline leaves."""
        return digests(self.project.folder)

    def reset(self) -> None:
        """As if nothing had ever run."""
        for name in ("data", "reports", ".telepath", ".dvc/cache", ".dvc/tmp", "dvc.lock"):
            path = self.project.folder / name
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files under data/ and reports/."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("data", "reports")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


def kill_once(victim: Victim, rng: random.Random, wanted: dict[str, str], longest: float, tally: Tally) -> None:
    """Start the pipeline and kill it after a while, or see it end and compare."""
    dvc = victim.start()
    try:
        status = dvc.wait(rng.uniform(0.0, tally.patience(longest)))
    except psutil.TimeoutExpired:
        status = None
    if status is not None:
        if status:
            tally.troubles.append(f"a rerun ended with status {status}: {tail(victim.log)}")
        elif (found := victim.artefacts()) != wanted:
            different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            tally.troubles.append(f"not identical: {', '.join(different)}")
        tally.finished += not status
        victim.reset()
        return
    number = rng.choice(list(VICTIMS))
    whom = rng.choice(VICTIMS[number])
    stage, process = victim.stage()
    if process is None:
        whom = "dvc"
    tally.note(number, whom, stage)
    if process is not None:
        tally.lost[stage] = max(tally.lost.get(stage, 0.0), victim.lost(stage, process))
    try:
        if whom == "both":
            os.killpg(dvc.pid, number)
        else:
            (dvc if process is None or whom == "dvc" else process).send_signal(number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass  # it ended by itself in this very moment
    end(dvc)
    seconds, left = victim.wait_until_quiet()
    tally.slowest_end = max(tally.slowest_end, seconds)
    for orphan in left:
        tally.troubles.append(f"{orphan.pid} outlived {number.name} to {whom} in {stage}: {command_of(orphan)}")
        orphan.kill()


def end(dvc: psutil.Popen) -> None:
    """See DVC end; one that goes on, because its stage had just ended by itself, is killed as well."""
    try:
        dvc.wait(PATIENCE)
    except psutil.TimeoutExpired:
        dvc.kill()
        dvc.wait()


def command_of(process: psutil.Process) -> str:
    """Its command line, and how it is."""
    try:
        return f"{' '.join(process.cmdline())} ({process.status()}, parent {process.ppid()})"
    except psutil.Error:
        return "gone"


def tail(log: Path) -> str:
    """The last lines of a log, as one."""
    return " | ".join(log.read_text(errors="replace").split("\n")[-12:])


def show(tally: Tally) -> str:
    """The figures."""
    lines = [
        f"{tally.kills} kills, {tally.finished} runs that came to their end, {len(tally.troubles)} troubles",
        "by signal: " + ", ".join(f"{name} {count}" for name, count in sorted(tally.signals.items())),
        "by stage: " + ", ".join(f"{name} {count}" for name, count in tally.stages.most_common()),
        "longest work lost, s: " + ", ".join(f"{name} {lost:.1f}" for name, lost in sorted(tally.lost.items())),
        f"everything had ended {tally.slowest_end:.1f} s after a kill at the latest",
    ]
    return "\n".join(lines + tally.troubles)


def main() -> int:
    """Run the campaign; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long, whatever the count")
    wishes = parser.parse_args()
    rng, tally = random.Random(wishes.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        reference, victim = (
            Victim(copy_project(make(Path(folder) / name)), Path(folder) / f"{name}.log")
            for name in ("whole", "killed")
        )
        for each in (reference, victim):
            each.project.set(**TINY | LONGER)
        begin = time.monotonic()
        if status := reference.start().wait():
            print(f"the undisturbed run ended with status {status}: {tail(reference.log)}", file=sys.stderr)
            return 1
        undisturbed = time.monotonic() - begin
        print(f"undisturbed: {undisturbed:.0f} s", flush=True)
        wanted, longest = reference.artefacts(), undisturbed / STARTS
        begin = time.monotonic()
        while tally.kills < wishes.kills and time.monotonic() - begin < 60 * wishes.minutes:
            kill_once(victim, rng, wanted, longest, tally)
            if tally.kills % 10 == 0 or tally.troubles:
                print(show(tally), flush=True)
        # What the last kills left must come to its end, too.
        while (not tally.troubles and tally.finished == 0) or victim.artefacts():
            kill_once(victim, rng, wanted, 1e6, tally)
    print(show(tally))
    return 1 if tally.troubles else 0


def make(folder: Path) -> Path:
    """The folder, created."""
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())

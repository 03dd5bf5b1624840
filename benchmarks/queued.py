"""Kill queued experiments: the small pipeline in `dvc queue`, and its worker, executor, stage or all of them killed.

    python -m benchmarks.queued [--kills 20] [--seed 0] [--minutes 60] [--stage report]

An experiment is queued and run undisturbed. Then, in a second copy, it is queued, started, and killed after a random
while; taken out of the queue as a user would (`dvc queue kill`, `dvc queue remove`), queued again, and so on. Whenever
it comes to its end all the same, the outputs that its dvc.lock records must be those of the undisturbed one, byte for
byte (DVC's digests of them), and it begins afresh. ``--stage``: the last one to be run. Exit status 1 where anything
differs or outlives `dvc queue kill`.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.kills import LONGER, Tally, Victim, command_of, make, show, tail
from benchmarks.tiny import TINY, copy_project

NAME = "queued"
ROLES = {"worker": "queue-worker", "executor": "exec-run"}
"""What DVC's processes have in their command lines."""

VICTIMS = {
    signal.SIGKILL: ("worker", "executor", "stage", "all"),
    signal.SIGTERM: ("worker", "executor", "stage", "all"),
    signal.SIGINT: ("stage", "all"),
}
PATIENCE = 60.0
"""Seconds after which whoever still runs is an orphan: a worker looks only now and then whether its queue is empty."""

STARTS = 4
"""An experiment is killed within this part of the time that the undisturbed one took."""


class Queued(Victim):
    """A copy of the project in which one experiment is queued, started and killed."""

    def __init__(self, folder: Path, log: Path, stage: str):
        super().__init__(copy_project(make(folder)), log)
        self.last = stage
        self.project.set(**TINY | LONGER)
        for key, value in (("user.name", "t"), ("user.email", "t@t")):
            self.project.run("git", "config", key, value)
        self.project.run("git", "commit", "-qam", "tiny")

    def dvc(self, *words: str) -> int:
        """Run dvc; what it says goes to the log, since the worker that it starts keeps it open."""
        with self.log.open("a") as log:
            return subprocess.run(
                ["dvc", *words],
                cwd=self.project.folder,
                env=self.project.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=600,
            ).returncode

    def begin(self) -> None:
        """Queue the experiment and have a worker start it."""
        self.unlock()
        self.log.write_text("")
        for words in (("exp", "run", "--queue", "-n", NAME, self.last), ("queue", "start")):
            if status := self.dvc(*words):
                raise RuntimeError(f"dvc {' '.join(words)} ended with status {status}: {tail(self.log)}")

    def wait(self, seconds: float) -> bool:
        """Whether the queue was empty within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.processes():
                return True
            time.sleep(0.1)
        return False

    def dequeue(self) -> None:
        """What a user does about an experiment that was killed."""
        self.unlock()
        self.dvc("queue", "kill", NAME)
        self.dvc("queue", "remove", "--all")

    def reference(self, name: str = NAME) -> str:
        """The git reference of the finished experiment; empty while there is none."""
        listed = self.project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps")
        return next((each for each in listed.split() if each.endswith(f"/{name}")), "")

    def outputs(self, name: str = NAME) -> dict[str, str]:
        """DVC's digest of every output that the finished experiment has."""
        lock: dict[str, Any] = yaml.safe_load(self.project.run("git", "show", f"{self.reference(name)}:dvc.lock"))
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}

    def roles(self) -> dict[str, psutil.Process]:
        """Who is at work on the experiment."""
        found: dict[str, psutil.Process] = {}
        for process in self.processes():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            found |= {role: process for role, word in ROLES.items() if word in words}
        return found

    def forget(self) -> None:
        """As if nothing had ever run."""
        if reference := self.reference():
            self.project.run("git", "update-ref", "-d", reference)
        self.reset()

    def why(self) -> str:
        """The last words of the experiment's own log, or else of dvc's."""
        logs = sorted(self.project.folder.glob(".dvc/tmp/exps/run/*/*.out"), key=lambda path: path.stat().st_mtime)
        return tail(logs[-1] if logs else self.log)


def kill_once(victim: Queued, rng: random.Random, wanted: dict[str, str], longest: float, tally: Tally) -> None:
    """Queue and start the experiment, kill it after a while, or see it end and compare."""
    victim.begin()
    if victim.wait(rng.uniform(0.0, tally.patience(longest))):
        if not victim.reference():
            tally.troubles.append(f"an experiment that nobody killed failed: {victim.why()}")
        elif (found := victim.outputs()) != wanted:
            different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            tally.troubles.append(f"not identical: {', '.join(different)}")
        tally.finished += bool(victim.reference())
        victim.forget()
        return
    number = rng.choice(list(VICTIMS))
    strike(victim, number, rng.choice(VICTIMS[number]), tally)
    if victim.reference():  # it had come to its end in this very moment
        victim.forget()


def strike(victim: Queued, number: signal.Signals, whom: str, tally: Tally) -> None:
    """Send the signal to whoever is meant, see the others end, and take the experiment out of the queue."""
    everybody, (stage, process) = victim.roles(), victim.stage()
    if process is not None:
        everybody["stage"] = process
        tally.lost[stage] = max(tally.lost.get(stage, 0.0), victim.lost(stage, process))
    whom = whom if whom in everybody or whom == "all" else "all"
    tally.note(number, whom, stage)
    for role, each in everybody.items():
        if whom in (role, "all"):
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                continue  # it ended by itself in this very moment
    if whom in ("executor", "all"):
        # The stage has nobody left who ordered it.
        gone, _ = psutil.wait_procs([p for role, p in everybody.items() if role == "stage"], timeout=PATIENCE)
        if process is not None and not gone and process.is_running():
            tally.troubles.append(f"{stage} outlived {number.name} to {whom}")
    victim.dequeue()
    seconds, left = victim.wait_until_quiet(PATIENCE)
    tally.slowest_end = max(tally.slowest_end, seconds)
    for orphan in left:
        tally.troubles.append(f"{orphan.pid} outlived {number.name} to {whom} in {stage}: {command_of(orphan)}")
        orphan.kill()
    for leftover in victim.project.folder.glob(".dvc/tmp/exps/tmp*"):
        shutil.rmtree(leftover, ignore_errors=True)


def main() -> int:
    """Run the campaign; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long, whatever the count")
    parser.add_argument("--stage", default="report", help="the last stage to be run")
    wishes = parser.parse_args()
    rng, tally = random.Random(wishes.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        reference, victim = (
            Queued(Path(folder) / name, Path(folder) / f"{name}.log", wishes.stage) for name in ("whole", "killed")
        )
        begin = time.monotonic()
        reference.begin()
        if not reference.wait(3600) or not reference.reference():
            print(f"the undisturbed experiment failed: {reference.why()}", file=sys.stderr)
            return 1
        undisturbed = time.monotonic() - begin
        print(f"undisturbed: {undisturbed:.0f} s", flush=True)
        wanted, begin = reference.outputs(), time.monotonic()
        while tally.kills < wishes.kills and time.monotonic() - begin < 60 * wishes.minutes:
            kill_once(victim, rng, wanted, undisturbed / STARTS, tally)
            print(show(tally), flush=True)
        # What the last kills left must come to its end, too.
        while not tally.troubles and tally.finished == 0:
            kill_once(victim, rng, wanted, 1e6, tally)
    print(show(tally))
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    os.environ.pop("DVC_ROOT", None)
    sys.exit(main())

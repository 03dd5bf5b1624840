"""Signals, and the death of the parent, in processes of their own."""

import signal
import subprocess
import sys

import psutil
import pytest

SLEEPER = """
import sys, time
from telepath.runtime.interrupt import end_with_parent, stop_on_signals
stop_on_signals()
if "orphan" in sys.argv:
    end_with_parent()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("stopped", flush=True)
    if "stubborn" in sys.argv:
        time.sleep(30)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], "orphan"], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


LATE = """
import os, sys, time
from telepath.runtime.interrupt import end_with_parent
parent = os.getppid()
print(os.getpid(), flush=True)
while os.getppid() == parent:
    time.sleep(0.01)
end_with_parent()
time.sleep(30)
"""
PARENT_OF_LATE = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]]).wait()
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_raises_and_a_second_one_kills(number: signal.Signals) -> None:
    with start(SLEEPER, "stubborn") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopped\n"
        process.send_signal(number)
        # It would sleep for half a minute, and then end by itself with status 0.
        assert process.wait(20) == -number


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
@pytest.mark.parametrize(
    "programs",
    [(PARENT, SLEEPER), (PARENT_OF_LATE, LATE)],
    ids=["asked before", "an orphan before it could ask"],
)
def test_no_orphan_runs_on(programs: tuple[str, str]) -> None:
    with start(*programs) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        _, alive = psutil.wait_procs([child], timeout=20)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


DEAF = """
import time
from telepath.runtime import interrupt
interrupt.GRACE = 0.3
# As where a signal is taken note of and no more: in a compiler, or in a callback that lets no exception out.
interrupt._interrupt = lambda number, frame: None
interrupt.stop_on_signals()
interrupt.insist_on_signals("toy")
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_does_not_come_to_raise_is_ended(number: signal.Signals) -> None:
    with start(DEAF) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == (
            "telepath: toy: interrupted where it stood; a rerun goes on from its last checkpoint, if there was one\n"
        )

"""Stopping: signals become KeyboardInterrupt, and no stage outlives the process that ordered it.

Raising at once is enough, because every file is written whole or not at all: there is no state to tidy up. For the same
reason a stage that does not come to raise, deep in a compiler, say, may be ended where it stands.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
STOPPING = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
GRACE = 8.0
"""Seconds from a signal to the end of the process, come what may; on a busy machine a decent end may take some."""


def stop_on_signals() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt in the main thread; a second one kills at once."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, _interrupt)


def insist_on_signals(name: str) -> None:
    """End the process with status 130 if it has not ended by itself ``GRACE`` seconds after one of those signals.

    ``name`` is who is said to be interrupted.
    Python hands a signal over only between two of its own instructions, and a compiler may keep it from that for long.
    """
    if threading.current_thread() is threading.main_thread():
        # Here the C handler leaves the number of every signal, whatever the main thread is at.
        ear, mouth = os.pipe()
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        threading.Thread(target=_insist, args=(ear, name), name="insist", daemon=True).start()


def _insist(ear: int, name: str) -> None:
    while os.read(ear, 1)[0] not in STOPPING:
        pass
    time.sleep(GRACE)
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # the live line has hidden it
    words = f"telepath: {name}: interrupted where it stood; a rerun goes on from its last checkpoint, if there was one"
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}{words}\n".encode())
    os._exit(INTERRUPTED)


def die_on_signals() -> None:
    """Have SIGINT and SIGTERM end the process at once and without a word: there is no work to be stopped yet."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Whoever asks twice means it: no waiting for threads or for a handler that hangs.
    for each in STOPPING:
        signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, so that no orphan runs on. Only Linux can.

    Good as an initialiser of worker processes, too.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent or is_adopted(parent):  # it died before the kernel knew of our wish
        os.kill(os.getpid(), signal.SIGKILL)


def is_adopted(parent: int) -> bool:
    """Whether our own parent died before we could ask for it: who takes over orphans lives in a session of its own."""
    try:
        return os.getsid(parent) != os.getsid(0)
    except ProcessLookupError:
        return True

"""Stopping: signals become KeyboardInterrupt, and no stage outlives the process that ordered it.

Raising at once is enough, because every file is written whole or not at all: there is no state to tidy up.
"""

import ctypes
import os
import signal
import sys
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
STOPPING = (signal.SIGINT, signal.SIGTERM)


def stop_on_signals() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt in the main thread; a second one kills at once."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, _interrupt)


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
    """Have the kernel send SIGTERM when the parent process dies, so that no orphan runs on. Only Linux can.

    Good as an initialiser of worker processes, too.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        os.kill(os.getpid(), signal.SIGTERM)

"""OpenGL without a screen: which of EGL and OSMesa works here, found out by trying.

A GL library that is missing raises, and one that is broken may take the process with it: so each is first tried in
a process of its own (``python -m telepath.envs.gl NAME``). Without a name all are, and one line says which work; exit
status 1 if none does.
"""

import functools
import importlib
import os
import subprocess
import sys
from typing import Any

from telepath.errors import UserError
from telepath.files import one_line
from telepath.runtime.environment import GL

BACKENDS = ("egl", "osmesa")
"""EGL first: it finds the GPU where there is one."""

INSTALL = "`apt install libegl1 libgl1-mesa-dri`, or `apt install libosmesa6`"
"""What brings software rendering to Debian and Ubuntu; not every release has OSMesa."""

PATIENCE = 60.0
"""Seconds that a trial may take."""


class NoGraphics(UserError):
    """No picture can be rendered on this machine; the message says why, and what to install."""


@functools.cache
def find_backend() -> str:
    """'egl' or 'osmesa', whichever works first; ``TELEPATH_GL`` asks for one of them and no other, or for none.

    Raises ``NoGraphics`` where neither does or rendering is off, ``UserError`` where the variable means nothing.
    """
    wanted = GL.read("")
    if wanted == "off":
        raise NoGraphics(f"{GL.name}: rendering is switched off; unset it to have pictures")
    failures = {}
    for backend in (wanted,) if wanted else BACKENDS:
        if not (failure := failure_of(backend)):
            return backend
        failures[backend] = failure
    raise none_works(failures)


def none_works(failures: dict[str, str]) -> NoGraphics:
    """The error that says why each of them cannot be used, and what to install."""
    reasons = "; ".join(f"{backend}: {failure}" for backend, failure in failures.items())
    return NoGraphics(f"no OpenGL without a screen ({reasons}); on Debian or Ubuntu: {INSTALL}")


def survey() -> str:
    """Which backends work here, and why the others do not, in one line; ``NoGraphics`` where none does."""
    failures = {backend: failure_of(backend) for backend in BACKENDS}
    if all(failures.values()):
        raise none_works(failures)
    return "; ".join(f"{backend}: {failure or 'works'}" for backend, failure in failures.items())


def failure_of(backend: str) -> str:
    """Why a backend cannot be used, in a few words; empty if it can."""
    environment = os.environ | {"MUJOCO_GL": "disabled", "PYOPENGL_PLATFORM": backend}
    command = [sys.executable, "-m", "telepath.envs.gl", backend]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer in {PATIENCE:g} s"
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return "" if done.returncode == 0 else one_line(done.stderr.strip().rpartition("\n")[2]) or "does not start"


def open_context(backend: str, height: int, width: int) -> Any:
    """MuJoCo's context of a backend, current in this thread; its ``free()`` closes it.

    A process can have contexts of one backend only: PyOpenGL settles for the first.
    """
    # Both are read when the first context is opened, however long ago mujoco was imported.
    os.environ["PYOPENGL_PLATFORM"] = os.environ["MUJOCO_GL"] = backend
    context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    context.make_current()
    return context


def trial(backend: str) -> None:
    """Open a context and have MuJoCo load its GL functions: whatever fails, fails here."""
    import mujoco

    context = open_context(backend, 8, 8)
    mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100).free()
    context.free()


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            trial(sys.argv[1])
        else:
            print(survey())
    except (AttributeError, TypeError):
        # What PyOpenGL ends in when it looks for functions in a library that it has not found.
        sys.exit("its library is missing")
    except Exception as error:
        sys.exit(str(error).partition(". ")[0])

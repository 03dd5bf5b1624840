import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from telepath.envs import gl
from telepath.errors import UserError
from telepath.runtime.environment import GL, check_variables
from tests.conftest import NEED_GRAPHICS, lacking


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(GL.name, raising=False)
    gl.find_backend.cache_clear()
    yield
    gl.find_backend.cache_clear()


@pytest.mark.parametrize("working", gl.BACKENDS)
def test_the_first_that_works_is_taken(monkeypatch: pytest.MonkeyPatch, working: str) -> None:
    monkeypatch.setattr(gl, "failure_of", lambda backend: "" if backend == working else "broken")
    assert gl.find_backend() == working


def test_where_none_works_the_package_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "failure_of", lambda backend: "broken")
    with pytest.raises(gl.NoGraphics) as caught:
        gl.find_backend()
    assert str(caught.value) == (
        "no OpenGL without a screen (egl: broken; osmesa: broken); "
        "on Debian or Ubuntu: `apt install libegl1 libgl1-mesa-dri`, or `apt install libosmesa6`"
    )


def test_one_line_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "failure_of", lambda backend: "" if backend == "egl" else "broken")
    assert gl.survey() == "egl: works; osmesa: broken"
    monkeypatch.setattr(gl, "failure_of", lambda backend: "broken")
    with pytest.raises(gl.NoGraphics, match=r"egl: broken; osmesa: broken\); on Debian or Ubuntu: `apt install"):
        gl.survey()


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "failure_of", lambda backend: "")
    monkeypatch.setenv(GL.name, "osmesa")
    assert gl.find_backend() == "osmesa"


def test_rendering_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GL.name, "off")
    with pytest.raises(gl.NoGraphics, match="TELEPATH_GL: rendering is switched off"):
        gl.find_backend()


def test_a_variable_that_means_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GL.name, "glx")
    with pytest.raises(UserError, match="TELEPATH_GL: 'glx' is not egl, osmesa or off") as caught:
        gl.find_backend()
    assert not isinstance(caught.value, gl.NoGraphics)


def test_a_library_that_is_missing_is_a_reason() -> None:
    assert "No module named" in gl.failure_of("nonsense")


def test_a_library_that_kills_its_process_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killer = tmp_path / "python"
    killer.write_text(f"#!{sys.executable}\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    assert gl.failure_of("egl") == "killed by signal 9"


def test_tests_that_lack_graphics_are_skipped_or_fail_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NEED_GRAPHICS, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^no OpenGL"):
        lacking("no OpenGL")
    monkeypatch.setenv(NEED_GRAPHICS, "1")
    with pytest.raises(pytest.fail.Exception, match="NEED_GRAPHICS is set: no OpenGL"):
        lacking("no OpenGL")
    check_variables()  # and stages do not take it for a misspelt one of theirs

"""The environment variables that say how a stage runs, never what it computes: each one's name and what it may say.

They stand here together, whoever reads them, so that a stage can look at all of them before it begins: a word that
only ``label`` understands would otherwise be refused hours later.
"""

import difflib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Generic, NamedTuple, TypeVar

from telepath.errors import UserError
from telepath.files import one_line

Value = TypeVar("Value")

PREFIX = "TELEPATH_"

ALIKE = 0.7
"""Similarity of two names (``difflib``), prefix apart, from which on the one is taken for the other misspelt."""

MOST = 1024
"""No number of threads or processes that we are asked for makes sense beyond it."""


@dataclass(frozen=True)
class Variable(Generic[Value]):
    """An environment variable.

    allowed: what it may say, in words that stand behind "is not"; parse: its text -> what that means, ``ValueError``
    where it means nothing. Blanks around the text do not count, and an empty one is the same as none.
    """

    name: str
    allowed: str
    parse: Callable[[str], Value]

    def read(self, unset: Value) -> Value:
        """What it means, ``unset`` where it is not set; anything else is a ``UserError`` that names it."""
        text = os.environ.get(self.name, "").strip()
        if not text:
            return unset
        try:
            return self.parse(text)
        except ValueError:
            raise UserError(f"{self.name}: {one_line(repr(text))} is not {self.allowed}; mend it or unset it") from None


class Executor(NamedTuple):
    """Where pieces of work are done: in ``processes`` of their own, by the dask cluster whose ``scheduler`` listens at
    host:port, or, with neither, in this process.
    """

    processes: int = 0
    scheduler: str = ""


# -- what they say ----------------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """A duration, 0 or more."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def gibibytes(text: str) -> float:
    """An amount of memory in which a stage can at least look at its files."""
    value = float(text)
    if not 0.1 <= value < 2**30:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number from 1 to ``MOST``."""
    # The length comes first: Python refuses to convert thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= MOST):
        raise ValueError(text)
    return int(text)


def flag(text: str) -> bool:
    """1 or 0."""
    return one_of("0", "1")(text) == "1"


def one_of(*words: str) -> Callable[[str], str]:
    """Reads one of the words, in small letters or capitals."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return parse


def executor(text: str) -> Executor:
    """``process:N`` or ``dask://host:port``; a ``UserError`` where dask is asked for and is not installed."""
    if (several := re.fullmatch(r"process:([0-9]{1,4})", text)) and 0 < int(several[1]) <= MOST:
        return Executor(processes=int(several[1]))
    cluster = re.fullmatch(r"dask://([\w.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text, re.ASCII)
    if cluster is None:
        raise ValueError(text)
    if find_spec("distributed") is None:
        raise UserError(f"{EXECUTOR.name}: dask is not installed; run `pip install -e '.[dask]'`")
    return Executor(scheduler=f"{cluster[1]}:{cluster[2]}")


# -- which there are --------------------------------------------------------------------------------------------------

CHECKPOINT_SECONDS = Variable(f"{PREFIX}CHECKPOINT_SECONDS", "a number of seconds, 0 or more", seconds)
DEVICE = Variable(f"{PREFIX}DEVICE", "cpu or cuda", one_of("cpu", "cuda"))
EXECUTOR = Variable(f"{PREFIX}EXECUTOR", f"process:N (N from 1 to {MOST}) or dask://host:port", executor)
GL = Variable(f"{PREFIX}GL", "egl, osmesa or off", one_of("egl", "osmesa", "off"))
HALF = Variable(f"{PREFIX}HALF", "0 or 1", flag)
LOG = Variable(f"{PREFIX}LOG", "tensorboard or wandb", one_of("tensorboard", "wandb"))
MEMORY_GIB = Variable(f"{PREFIX}MEMORY_GIB", "a number of GiB, 0.1 or more", gibibytes)
PROGRESS_SECONDS = Variable(f"{PREFIX}PROGRESS_SECONDS", "a number of seconds, 0 or more", seconds)
THREADS = Variable(f"{PREFIX}THREADS", f"a whole number from 1 to {MOST}", count)

VARIABLES: tuple[Variable[Any], ...] = (
    CHECKPOINT_SECONDS,
    DEVICE,
    EXECUTOR,
    GL,
    HALF,
    LOG,
    MEMORY_GIB,
    PROGRESS_SECONDS,
    THREADS,
)
"""All of them; what they are for is in the README."""


def check_variables() -> None:
    """Raise ``UserError`` for the first variable that means nothing, or whose name is nearly that of one of ours.

    Only words and numbers are looked at: whether there is a GPU, an OpenGL or a cluster is found out by who needs it.
    """
    for variable in VARIABLES:
        variable.read(None)
    names = [variable.name.removeprefix(PREFIX) for variable in VARIABLES]
    for name in sorted(os.environ):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in names:
            continue
        if near := difflib.get_close_matches(rest, names, 1, ALIKE):
            raise UserError(f"{one_line(name)}: there is no such variable; did you mean {PREFIX}{near[0]}?")

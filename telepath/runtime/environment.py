"""Reading the environment variables that say how a stage runs, never what it computes."""

import math
import os
import re
from typing import NamedTuple

from telepath.errors import UserError
from telepath.files import one_line


def seconds(variable: str, default: float) -> float:
    """A duration in seconds, 0 or more; anything else is a ``UserError`` that names the variable."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(
            f"{variable}: {one_line(repr(text))} is not a number of seconds; set it to 0 or more, or unset it"
        )
    return value


MOST = 1024
"""No number of threads or processes that we are asked for makes sense beyond it."""


def count(variable: str, default: int) -> int:
    """A whole number from 1 to ``MOST``; anything else is a ``UserError`` that names the variable."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    # The length comes first: Python refuses to convert thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= MOST):
        raise UserError(
            f"{variable}: {one_line(repr(text))} is not a whole number from 1 to {MOST}; mend it or unset it"
        )
    return int(text)


def flag(variable: str) -> bool:
    """1 or 0, which it is when unset; anything else is a ``UserError`` that names the variable."""
    text = os.environ.get(variable, "").strip()
    if text not in ("", "0", "1"):
        raise UserError(f"{variable}: {one_line(repr(text))} is neither 0 nor 1; mend it or unset it")
    return text == "1"


class Executor(NamedTuple):
    """Where pieces of work are done: in ``processes`` of their own, by the dask cluster whose ``scheduler`` listens at
    host:port, or, with neither, in this process.
    """

    processes: int = 0
    scheduler: str = ""


def executor(variable: str) -> Executor:
    """``process:N`` or ``dask://host:port``; unset: this process. Else a ``UserError`` that names the variable."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return Executor()
    if (several := re.fullmatch(r"process:([0-9]{1,4})", text)) and 0 < int(several[1]) <= MOST:
        return Executor(processes=int(several[1]))
    if cluster := re.fullmatch(r"dask://([\w.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text, re.ASCII):
        return Executor(scheduler=f"{cluster[1]}:{cluster[2]}")
    raise UserError(
        f"{variable}: {one_line(repr(text))} is not process:N (N from 1 to {MOST}) or dask://host:port; "
        "mend it or unset it"
    )

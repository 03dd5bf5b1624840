"""Reading the environment variables that say how a stage runs, never what it computes."""

import math
import os

from telepath.errors import UserError


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
        raise UserError(f"{variable}: {text!r} is not a number of seconds; set it to 0 or more, or unset it")
    return value


def count(variable: str, default: int) -> int:
    """A whole number, 1 or more; anything else is a ``UserError`` that names the variable."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{variable}: {text!r} is not a whole number of 1 or more; mend it, or unset it")
    return int(text)

"""Functions compiled by Numba, without the GIL, and cached on disk where some directory can be written."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def compiled(function: Callable, **options: Any) -> Any:
    """``function``, compiled when it is first called; further options are Numba's."""
    compiler: Any = partial(njit, **{"nogil": True, "error_model": "numpy"} | options)
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # neither the package nor the user's cache directory is writable
        return compiler()(function)

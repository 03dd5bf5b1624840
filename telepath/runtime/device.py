"""Where the arithmetic runs: device, threads and workers, from environment variables.

These are no parameters: they must not change the hash of a stage, and on one kind of device not its result.
"""

import os

import torch

from telepath.errors import UserError
from telepath.runtime.environment import count


def device() -> torch.device:
    """The device of ``TELEPATH_DEVICE``: auto (the default: a GPU if there is one), cpu, cuda or cuda:N."""
    text = os.environ.get("TELEPATH_DEVICE", "").strip() or "auto"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "auto":
        return torch.device("cuda" if found else "cpu")
    kind, colon, number = text.partition(":")
    if text == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdigit())):
        raise UserError(f"TELEPATH_DEVICE: {text!r} is no device; set it to auto, cpu, cuda or cuda:N")
    if int(number or 0) >= found:
        raise UserError(
            f"TELEPATH_DEVICE: {text!r} is not there, torch sees {found} GPUs; set it to auto or cpu"
        )
    return torch.device(text)


def limit_threads() -> None:
    """Let torch use ``TELEPATH_THREADS`` threads. The default is 1: networks this small run slower on two."""
    torch.set_num_threads(count("TELEPATH_THREADS", 1))


def be_deterministic() -> None:
    """Have torch refuse operations whose result varies between runs: outputs are cached by their bytes."""
    # cuBLAS reads this when it is first used; without it torch refuses every matrix product on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `use_deterministic_algorithms`: the same switch, but it imports the compiler, which takes a second.
    torch.set_deterministic_debug_mode("error")
    # Otherwise torch fills all memory that it hands out uninitialised: a debugging aid, and it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def workers() -> int:
    """How many processes or threads may work at once: ``TELEPATH_WORKERS``, by default one a usable CPU."""
    return count("TELEPATH_WORKERS", usable_cpus())


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

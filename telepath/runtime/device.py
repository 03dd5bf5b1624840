"""How the arithmetic runs: threads, from an environment variable, and determinism.

The number of threads is no parameter: it must not change the hash of a stage.
"""

import os

import torch

from telepath.runtime.environment import count


def limit_threads() -> None:
    """Let torch use ``TELEPATH_THREADS`` threads; the default is 2 where there are as many CPUs.

    Networks this small gain a factor of 1.4 from a second core that is idle and nothing from a third.
    """
    torch.set_num_threads(count("TELEPATH_THREADS", min(2, usable_cpus())))


def be_deterministic() -> None:
    """Have torch refuse operations whose result varies between runs: outputs are cached by their bytes."""
    # cuBLAS reads this when it is first used; without it torch refuses every matrix product on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `use_deterministic_algorithms`: the same switch, but it imports the compiler, which takes a second.
    torch.set_deterministic_debug_mode("error")
    # Otherwise torch fills all memory that it hands out uninitialised: a debugging aid, and it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

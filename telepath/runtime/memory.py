"""How much memory there is, and the refusal of settings that ask for more before any long work."""

from collections.abc import Mapping
from pathlib import Path

import psutil

from telepath.errors import UserError
from telepath.runtime.environment import MEMORY_GIB

GIB = 2**30
GROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container may use: control groups, version 2 and 1."""


def memory_limit() -> int:
    """Bytes that a stage may use: ``TELEPATH_MEMORY_GIB``, or else what the machine or its container has in all."""
    if told := MEMORY_GIB.read(0.0):
        return int(told * GIB)
    return min([psutil.virtual_memory().total, *group_limits()])


def group_limits() -> list[int]:
    """Limits in bytes that control groups set; those that set none say 'max', or a number beyond all memory."""
    limits = []
    for path in GROUPS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return limits


def demand_memory(needs: Mapping[str, Mapping[str, float]], fixed: float) -> str:
    """A line that says what each part of the work needs at most and what there is.

    needs: for each part what it takes in bytes, by the setting that this grows with; fixed: bytes that it takes
    besides, whatever the settings. Parts do not run at the same time. The largest one that exceeds ``memory_limit`` is
    a ``UserError`` that names the setting of its largest share.
    """
    limit = memory_limit()
    totals = {part: fixed + sum(shares.values()) for part, shares in needs.items()}
    part, most = max(totals.items(), key=lambda total: total[1])
    if most > limit:
        key = max(needs[part].items(), key=lambda share: share[1])[0]
        raise UserError(
            f"params.yaml: {key}: {part} would need {most / GIB:,.1f} GiB of memory and there are {limit / GIB:,.1f}; "
            f"lower it, or set {MEMORY_GIB.name} if there is more"
        )
    listed = ", ".join(f"{part} {total / GIB:.2f}" for part, total in totals.items())
    return f"memory in GiB, at most: {listed}; of {limit / GIB:.1f}"

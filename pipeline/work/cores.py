"""The number of cores that this process may use.

Reads the limits of the process and of its container (cgroup v1 and v2).
"""

import os
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path


@cache
def core_count() -> int:
    """Return the number of cores that this process may use, within the limits of its container.

    dask.system knows the same, but takes longer to import than 20 MB of text to encode.
    """
    cores = os.cpu_count() or 1
    # macOS has no sched_getaffinity.
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    for read_limit in (_cgroup2_cores, _cgroup1_cores):
        # A ValueError means that there is no limit.
        with suppress(OSError, ValueError):
            return max(1, min(cores, ceil(read_limit())))
    return cores


def _cgroup2_cores() -> float:
    """Return the CPU limit of this process in cgroup v2. Raises OSError or ValueError without one."""
    group = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
    quota, period = map(int, (Path("/sys/fs/cgroup") / group / "cpu.max").read_text().split())
    return quota / period


def _cgroup1_cores() -> float:
    """Return the CPU limit of this machine's cgroup v1. Raises OSError or ValueError without one."""
    folder = Path("/sys/fs/cgroup/cpu")
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    period = int((folder / "cpu.cfs_period_us").read_text())
    if quota < 0:
        raise ValueError("no quota")
    return quota / period

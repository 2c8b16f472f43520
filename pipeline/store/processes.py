"""Identify a process across hosts, reboots, PID namespaces and reused process numbers."""

import os
import socket
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import psutil

WHERE = ("host", "boot", "pid_namespace")
"""Keys that must be equal for two process numbers to be comparable. Containers on one host share
the first two, and each counts processes from 1."""


class ProcessIdentity(TypedDict, total=False):
    """Identity of one process among all others. In a damaged file any key may be missing."""

    host: str
    """Name of the host."""
    boot: str | None
    """Identity of the host's boot; None where the kernel does not report it."""
    pid_namespace: str | None
    """Identity of the PID namespace; None where the kernel does not report it."""
    pid: int
    """Process number."""
    started: str | None
    """Start time in the kernel's clock ticks since boot; None where there is no such process."""


def own_identity() -> ProcessIdentity:
    """Return the identity of this process."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid_namespace": _pid_namespace(),
        "pid": pid,
        "started": process_start_time(pid),
    }


def can_be_seen(identity: ProcessIdentity) -> bool:
    """Tell whether a process would be visible from here: same host, boot and PID namespace."""
    own = own_identity()
    return all(identity.get(name) == own.get(name) for name in WHERE)


def is_running(identity: ProcessIdentity) -> bool:
    """Tell whether a process that can be seen from here lives, not another one with its number."""
    pid = identity.get("pid")
    started = identity.get("started")
    return isinstance(pid, int) and started is not None and process_start_time(pid) == started


def process_start_time(pid: int) -> str | None:
    """Return the kernel's start time of a living process, None where there is no such process.

    The time tells the process from a later one with the same number. It is `unknown` where the
    process lives and the system has no /proc.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        try:
            os.kill(pid, 0)
        except (OSError, OverflowError):
            return None
        if Path("/proc/self").exists():
            return None
        return "unknown"
    # The command in parentheses may hold spaces; after it come the state and, as the 20th field,
    # the start time.
    fields = text.rpartition(")")[2].split()
    # A zombie has ended, though its parent has not collected it yet.
    if fields[0] in "ZX":
        return None
    return fields[19]


def _boot_id() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _pid_namespace() -> str | None:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return None


def beginning_of_this_process() -> float:
    """Return when this process began, in seconds of the epoch; always the same number.

    psutil's own figure is up to a second off: it counts from the boot's time in whole seconds.
    """
    return _beginning(os.getpid())


@lru_cache(maxsize=1)
def _beginning(pid: int) -> float:
    ticks = process_start_time(pid)
    if ticks is None or not ticks.isdigit():
        return psutil.Process(pid).create_time()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    return round(time.time() - age, 3)

"""Which process a process number means: on which host, since which boot, in which PID namespace,
started when."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

WHERE = ("host", "boot", "pid_namespace")
"""What has to be the same for a process number to mean the same. Containers share the first two,
and count anew from 1."""


class ProcessIdentity(TypedDict):
    """What tells one process from every other one."""

    host: str
    boot: str | None
    """Identity of the host's boot; None where the kernel does not tell."""
    pid_namespace: str | None
    pid: int
    started: str | None
    """Start time in the kernel's clock ticks since the boot; None where there is no such
    process."""


def own_identity() -> ProcessIdentity:
    """Return what tells this process from every other one."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid_namespace": _pid_namespace(),
        "pid": pid,
        "started": process_start_time(pid),
    }


def can_be_seen(identity: ProcessIdentity) -> bool:
    """Tell whether that process would be seen from here if it lives: elsewhere its number means
    nothing."""
    own = own_identity()
    return all(identity.get(name) == own.get(name) for name in WHERE)


def is_running(identity: ProcessIdentity) -> bool:
    """Tell whether a process that can be seen from here lives; another one of the same number does
    not count."""
    pid = identity.get("pid")
    started = identity.get("started")
    return isinstance(pid, int) and started is not None and process_start_time(pid) == started


def process_start_time(pid: int) -> str | None:
    """Return the kernel's start time of a living process, which tells it from a later one with the
    same number."""
    try:
        # The command in parentheses may hold spaces; after it come the state and, as the 20th
        # field, the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (
            None if fields[0] in "ZX" else fields[19]
        )  # a zombie has ended, though its parent has not noticed
    except OSError:
        try:
            os.kill(pid, 0)
        except (OSError, OverflowError):
            return None
        return "unknown" if not Path("/proc/self").exists() else None


def _boot_id() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _pid_namespace() -> str | None:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return None

"""TCP ports through which ranks find each other, and what DeepSpeed names after them."""

import errno
import random
import socket
from contextlib import suppress
from pathlib import Path

from pipeline.errors import UserError

PORTS = range(20_000, 32_000)
"""Ports to choose from: below those that Linux uses for outgoing connections, from 32,768 on."""

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps memory that processes share, as files."""


def free_port() -> int:
    """Return one of PORTS that is free now; ranks listen on it only seconds later.

    Raises UserError if none is found.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise UserError(
        f"no free TCP port among 100 tried between {PORTS.start} and {PORTS.stop - 1}; set "
        "launch.master_port to a free one"
    )


def is_occupied(port: int) -> bool:
    """Tell whether a program of this machine listens on a TCP port.

    Connections that have just ended do not count.
    """
    with socket.socket() as probe:
        # The ranks' own socket has the same option.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False


def remove_shared_memory(port: int) -> None:
    """Remove the buffers of ended ranks that met at a port: DeepSpeed leaves them in /dev/shm."""
    for leftover in SHARED_MEMORY.glob(f"deepspeed_*_{port}_*"):
        leftover.unlink(missing_ok=True)

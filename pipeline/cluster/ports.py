"""Where ranks meet."""

import errno
import random
import socket
from contextlib import suppress

from pipeline.errors import UserError

PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections by itself, from 32,768 on."""


def free_port() -> int:
    """Return a TCP port that is free now, one of PORTS: ranks listen on it only seconds later.

    Raises UserError where none is found.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise UserError(
        f"no free TCP port among 100 of {PORTS.start} to {PORTS.stop - 1}; name one in "
        "launch.master_port"
    )


def is_occupied(port: int) -> bool:
    """Tell whether a program of this machine listens on a TCP port. Connections that have just
    ended do not count."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the ranks' own socket has it
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False

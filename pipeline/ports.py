"""Where ranks meet."""

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
    raise UserError(f"no free TCP port among 100 of {PORTS.start} to {PORTS.stop - 1}; name one in launch.master_port")

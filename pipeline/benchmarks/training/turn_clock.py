"""Steps in turns, each begun when it is asked for: the side of the process that is measured.

Talks to `turns.py`, one JSON value a line.
"""

import json
import resource
import socket
import time

from pipeline.benchmarks.training.side_results import TurnFigures

NEXT = b"\n"
"""Received: do the next turn."""


class TurnClock:
    """Measures turns of equally many steps, and waits before each until it is asked for.

    The wall seconds of a turn begin when it is asked for. Its CPU seconds, of all threads, begin at
    the end of the turn before: what a thread reads ahead while others are measured counts as well.
    """

    def __init__(self, connection: socket.socket, warm_up: int, steps: int, turns: int) -> None:
        """Take the connection. The first `warm_up` steps, at least one, are not measured."""
        self._connection = connection
        self._steps = steps
        self._left = turns
        self._steps_to_come = warm_up
        """Until the end of this turn, or of warming up."""
        self._is_warm = False
        self._wall = 0.0
        self._cpu = 0.0

    def mark(self) -> None:
        """Count a completed step; after the last of a turn, tell its figures and wait for the next.

        Raises SystemExit where nobody asks any more.
        """
        self._steps_to_come -= 1
        if self._steps_to_come or not self._left:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        if self._is_warm:
            self._left -= 1
            figures: TurnFigures = {
                "wall_seconds": (wall - self._wall) / self._steps,
                "cpu_seconds": (cpu - self._cpu) / self._steps,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
            self.tell(figures)
        else:
            self._is_warm = True
            self.tell("warm")
        self._cpu = cpu
        self._steps_to_come = self._steps
        if self._left:
            self._wait_until_asked()
        self._wall = time.perf_counter()

    def _wait_until_asked(self) -> None:
        if self._connection.recv(1) != NEXT:
            raise SystemExit(0)

    def tell(self, value: object) -> None:
        """Send a JSON value."""
        self._connection.sendall(json.dumps(value).encode() + b"\n")

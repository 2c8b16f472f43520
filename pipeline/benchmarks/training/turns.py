"""Processes that are measured in turns: all are alive, and one of them computes.

Machines change their speed from minute to minute, several times over where others use their memory.
What was measured within the same seconds can still be compared. Talks to `turn_clock.py` in each
process.
"""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from pipeline.benchmarks.common import environment_of_process, process_failed
from pipeline.benchmarks.training.side_results import TurnFigures
from pipeline.benchmarks.training.turn_clock import NEXT

END_SECONDS = 60.0
"""Time to end the turn that a process is in, and what it leaves in shared memory."""


class MeasuredProcess:
    """A fresh process that does its steps in turns; it ends with this context."""

    def __init__(
        self,
        module: str,
        function: str,
        arguments: Mapping[str, object],
        variables: Mapping[str, str],
    ) -> None:
        """Take a measuring module, one of its functions, its arguments, more environment variables.

        The function also gets `connection`, the number of an inherited socket.
        """
        self._module = module
        self._function = function
        self._arguments = dict(arguments)
        self._variables = dict(variables)

    def __enter__(self) -> "MeasuredProcess":
        """Start the process, which warms up while its holder goes on."""
        ours, theirs = socket.socketpair()
        self._connection = ours
        self._lines = ours.makefile("rb")
        self._output = tempfile.TemporaryFile()
        arguments = json.dumps({**self._arguments, "connection": theirs.fileno()})
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, self._function, arguments],
            env=environment_of_process(self._variables),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process; one that waits for its next turn ends by itself."""
        self._lines.close()
        self._connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def wait_until_warm(self) -> None:
        """Wait until the steps that warm up are done. Raises UserError if the process fails."""
        self._read()

    def turn(self) -> TurnFigures:
        """Have the process do its next turn; return its figures."""
        self.begin_turn()
        return self.end_turn()

    def begin_turn(self) -> None:
        """Have the process do its next turn, while its holder goes on."""
        with suppress(BrokenPipeError):  # it has failed, which reading tells
            self._connection.sendall(NEXT)

    def end_turn(self) -> TurnFigures:
        """Wait for the end of the turn; return its figures."""
        return self._read()

    def result(self) -> Any:
        """Return what the process tells at its end, after its last turn."""
        return self._read()

    def _read(self) -> Any:
        line = self._lines.readline()
        if line:
            return json.loads(line)
        code = self._process.wait(END_SECONDS)
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        raise process_failed(f"benchmark: {self._function} with {self._arguments}", code, output)

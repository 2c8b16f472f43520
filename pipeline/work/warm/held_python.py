"""Start a warm process, and end it: the side of its holder."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO

from pipeline.errors import UserError
from pipeline.store.start_order import SUPERVISOR_VARIABLE
from pipeline.work.warm.visible_command import padded_command, room_for_variable
from pipeline.work.warm.warm_python import ForkedProgram, WarmProcessEnded, WarmPython

SERVER = "pipeline.work.warm.fork_server"
"""Module of the warm process."""
THREADLESS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables that keep OpenMP, numpy's OpenBLAS and Arrow's jemalloc from starting threads when they
are imported."""
TAIL_LINES = 25
"""Last lines of the warm process's messages that an error repeats."""
END_SECONDS = 10.0
"""Time for the warm process to end once nobody holds it; it has nothing to finish."""


class HeldPython:
    """A warm process, which ends with this context, or with the process that holds it."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """Take the modules to import, and the environment to import them in.

        Raises UserError where the system cannot fork programs in this way.
        """
        if not hasattr(os, "pidfd_open") or not hasattr(socket, "SOCK_SEQPACKET"):
            raise UserError("a warm process needs Linux 5.3 or later")
        self._modules = modules
        self._environment = environment

    def __enter__(self) -> "HeldPython":
        """Start the warm process, which imports while its holder goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._python = WarmPython(ours)
        self._messages = tempfile.TemporaryFile()
        connection = str(theirs.fileno())
        command = [sys.executable, "-u", "-m", SERVER, connection, ",".join(self._modules)]
        room = {SUPERVISOR_VARIABLE: room_for_variable()}
        # In a session of its own no Ctrl-C of a terminal reaches it.
        self._process = subprocess.Popen(
            padded_command(command),
            env={**self._environment, **THREADLESS, **room},
            stdin=subprocess.DEVNULL,
            stdout=self._messages,
            stderr=self._messages,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the warm process, and with it all programs that it has forked."""
        self._python.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages.close()

    @property
    def pid(self) -> int:
        """Number of the warm process."""
        return self._process.pid

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
    ) -> ForkedProgram:
        """Start `python -m COMMAND` in a fork. Several threads may call this at once.

        `streams` are standard input, output and error. Raises WarmProcessEnded with the last
        messages of the warm process, and UserError where the command line is too long.
        """
        try:
            return self._python.start(command, environment, streams)
        except WarmProcessEnded as error:
            raise WarmProcessEnded(f"{error}:\n{self._last_messages()}") from None

    def _last_messages(self) -> str:
        self._messages.seek(0)
        text = self._messages.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])

"""Start a warm process, and end it: the side of its holder."""

import os
import select
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
        if not self.is_possible():
            raise UserError(
                "a warm process needs Linux 5.3 or later, and a container that allows pidfd_open"
            )
        self._modules = modules
        self._environment = environment

    def __enter__(self) -> "HeldPython":
        """Start the warm process, which imports while its holder goes on.

        `python` is then the connection to it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.python = WarmPython(ours)
        self._messages = tempfile.TemporaryFile()
        self._ready, ready = os.pipe()
        self._has_imported = False
        numbers = [str(theirs.fileno()), str(ready)]
        command = [sys.executable, "-u", "-m", SERVER, *numbers, ",".join(self._modules)]
        room = {SUPERVISOR_VARIABLE: room_for_variable()}
        # In a session of its own no Ctrl-C of a terminal reaches it.
        self._process = subprocess.Popen(
            padded_command(command),
            env={**self._environment, **THREADLESS, **room},
            stdin=subprocess.DEVNULL,
            stdout=self._messages,
            stderr=self._messages,
            pass_fds=[theirs.fileno(), ready],
            start_new_session=True,
        )
        theirs.close()
        os.close(ready)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the warm process, and with it all programs that it has forked."""
        # While it imports it does not look at its connection, and has forked nothing.
        is_importing = not select.select([self._ready], [], [], 0)[0]
        if is_importing and not self._has_imported:
            self._process.kill()
        self.python.close()
        os.close(self._ready)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages.close()

    @staticmethod
    def is_possible() -> bool:
        """Tell whether this system can fork programs in this way: kernel, container and Python."""
        if not hasattr(os, "pidfd_open") or not hasattr(socket, "SOCK_SEQPACKET"):
            return False
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Number of the warm process."""
        return self._process.pid

    def is_ready(self, seconds: float) -> bool:
        """Wait until all modules are imported, for `seconds` at most; tell whether they are.

        Raises WarmProcessEnded with the last messages where an import has failed.
        """
        if self._has_imported:
            return True
        if not select.select([self._ready], [], [], seconds)[0]:
            return False
        self._has_imported = bool(os.read(self._ready, 1))
        if not self._has_imported:
            self._process.wait()
            raise WarmProcessEnded(
                f"the warm process ended in its imports:\n{self._last_messages()}"
            )
        return True

    def has_ended(self) -> bool:
        """Tell whether the warm process has ended, and with it all that it has forked."""
        return self._process.poll() is not None

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
            return self.python.start(command, environment, streams)
        except WarmProcessEnded as error:
            raise WarmProcessEnded(f"{error}:\n{self._last_messages()}") from None

    def _last_messages(self) -> str:
        self._messages.seek(0)
        text = self._messages.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])

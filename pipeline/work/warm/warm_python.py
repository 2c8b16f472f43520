"""Ask a warm process to run `python -m MODULE …` in a fork of itself.

A program in such a fork can do the same (`parent`), so that whatever it starts needs no imports
either.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

from pipeline.errors import UserError
from pipeline.work.warm.visible_command import refuse_long_command

MOST_REQUEST_BYTES = 1 << 20
"""Maximum size of a request; the kernel's own limit is lower."""
MOST_NEWS_BYTES = 4096
"""Maximum size of what is read of a report at a time; a report has two short lines."""


class Request(TypedDict):
    """A program that the warm process is to run in a fork."""

    command: list[str]
    """Module and arguments."""
    environment: dict[str, str]
    """Complete environment."""
    folder: str
    """Working folder."""
    own_session: bool
    """Whether the program leads a session of its own, which no Ctrl-C of a terminal reaches."""


class WarmProcessEnded(UserError):
    """The warm process has ended before the program could be started (exit code 1)."""

    exit_code = 1


class ForkedProgram:
    """A program in a fork: number and end of it, as `subprocess.Popen` has them.

    Several threads may wait for it.
    """

    def __init__(self, report: int) -> None:
        """Take the file descriptor from which the reports of the warm process are read.

        Raises WarmProcessEnded where there is no report.
        """
        self._report = report
        weakref.finalize(self, os.close, report)
        self._lock = threading.Lock()
        self._text = b""
        self.returncode: int | None = None
        """Exit code, negative for a signal; None until `poll` or `wait` has seen the end."""
        while b"\n" not in self._text:
            if not self._read():
                raise WarmProcessEnded("the warm process ended before it started a program")
        line, _, self._text = self._text.partition(b"\n")
        self.pid: int = json.loads(line)["pid"]

    def poll(self) -> int | None:
        """Return the exit code, None while the program runs."""
        return self.wait_for(0.0)

    def wait(self) -> int:
        """Return the exit code once the program has ended."""
        code = None
        while code is None:
            code = self.wait_for(None)
        return code

    def wait_for(self, seconds: float | None) -> int | None:
        """Return the exit code, None where the program has not ended within `seconds`.

        A program whose warm process was killed is killed with it.
        """
        if self.returncode is not None:
            return self.returncode
        if not select.select([self._report], [], [], seconds)[0]:
            return None
        with self._lock:
            # Another thread may have read the end meanwhile.
            if self.returncode is None:
                is_open = self._read()
                if b"\n" in self._text:
                    self.returncode = json.loads(self._text)["code"]
                elif not is_open:
                    self.returncode = -signal.SIGKILL
            return self.returncode

    def _read(self) -> bool:
        """Read what has been reported. Returns False at the end of the file."""
        piece = os.read(self._report, MOST_NEWS_BYTES)
        self._text += piece
        return bool(piece)


class WarmPython:
    """A connection to a warm process."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the socket to the warm process."""
        self._connection = connection

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
        *,
        own_session: bool = False,
    ) -> ForkedProgram:
        """Start `python -m COMMAND` in a fork. Several threads may call this at once.

        `streams` are standard input, output and error. Raises WarmProcessEnded, and UserError where
        the command line is too long to be shown.
        """
        refuse_long_command([sys.executable, "-m", *command])
        request: Request = {
            "command": list(command),
            "environment": dict(environment),
            "folder": str(Path.cwd()),
            "own_session": own_session,
        }
        reading, writing = os.pipe()
        fds = [writing, *(stream.fileno() for stream in streams)]
        try:
            socket.send_fds(self._connection, [json.dumps(request).encode()], fds)
        except OSError as error:
            os.close(reading)
            raise WarmProcessEnded(
                f"the warm process does not take requests any more ({error.strerror})"
            ) from None
        finally:
            os.close(writing)
        return ForkedProgram(reading)

    def close(self) -> None:
        """Leave the warm process; it ends when its holder has left."""
        self._connection.close()


_parents: list[WarmPython] = []
"""The warm process that has forked this one; empty in all other processes."""


def set_parent(warm: WarmPython | None) -> None:
    """Say which warm process has forked this one, and may be asked for more; None: none may be."""
    _parents.clear()
    if warm is not None:
        _parents.append(warm)


def parent() -> WarmPython | None:
    """Return the warm process that has forked this one, None where this one was not forked."""
    if not _parents:
        return None
    return _parents[0]


def run_python(
    command: Sequence[str], text: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m COMMAND` with `text` as its input; in a fork where there is a warm process.

    Returns its exit code and all that it wrote.
    """
    warm = parent()
    if warm is None:
        return subprocess.run(
            [sys.executable, "-m", *command],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    # Files and not pipes: nobody has to read while the program writes.
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as messages,
    ):
        given.write(text.encode())
        given.seek(0)
        code = warm.start(command, environment, (given, output, messages)).wait()
        output.seek(0)
        messages.seek(0)
        return subprocess.CompletedProcess(
            list(command),
            code,
            output.read().decode(errors="replace"),
            messages.read().decode(errors="replace"),
        )

"""The warm process: imports modules once, and forks itself for each program that it is asked to run.

    python -m pipeline.work.warm.fork_server CONNECTION READY MODULE,MODULE,...

CONNECTION is the number of an inherited socket, over which requests come (`warm_python.py`); READY that
of a pipe, into which a byte is written after the imports. The process computes nothing and has one
thread: otherwise a fork could inherit a lock that nobody releases. It ends when the other side of
CONNECTION is closed, and the kernel then ends what it has forked.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.logs import note
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.store.start_order import SUPERVISOR_VARIABLE
from pipeline.work.warm import warm_python
from pipeline.work.warm.visible_command import show_command, show_variable
from pipeline.work.warm.warm_python import MOST_REQUEST_BYTES, Request

FDS_OF_A_REQUEST = 4
"""File descriptors that come with a request: report, standard input, output and error."""
SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG. Source: linux/prctl.h."""
READY = b"."
"""What is written once all modules are imported."""
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that do not reach this process. Where a service or a job is stopped, all its processes get
them; the programs may have something to save, and this process ends with its holder."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a program that does not handle Ctrl-C, as shells tell it."""


@dataclass(frozen=True)
class Program:
    """A module that a forked process is to run as `python -m` would."""

    module: str
    arguments: list[str]

    def run(self) -> None:
        """Run the module as `__main__`; it sees its own arguments only."""
        sys.argv = ["", *self.arguments]
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the process that forked it ends.

    The parent must fork in its only thread: the kernel watches the thread.
    """
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_program(program: Program, environment: Mapping[str, str]) -> None:
    """Give this forked process the environment of a program, and the look of it to others.

    Raises UserError where the command line has no room.
    """
    os.environ.clear()
    os.environ.update(environment)
    _adopt_thread_count(environment.get(THREADS_VARIABLE, ""))
    show_command([sys.executable, "-m", program.module, *program.arguments])
    show_variable(SUPERVISOR_VARIABLE, environment.get(SUPERVISOR_VARIABLE, ""))


def _adopt_thread_count(count: str) -> None:
    """Have torch compute with OMP_NUM_THREADS threads.

    OpenMP has read the variable when torch was imported, in the environment of the warm process.
    """
    if "torch" in sys.modules and count.isdecimal() and int(count) > 0:
        import torch

        torch.set_num_threads(int(count))


class QuickEnd:
    """Ends this process in place of the interpreter, before it takes all modules down.

    With torch that takes 0.35 s of CPU in each fork. Registered first, it is called last: threads
    have ended, and what other modules do at the end of a process is done.
    """

    def __init__(self) -> None:
        """Register the end; the exit code is 1 until another one is set."""
        self.code = 1
        atexit.register(self._end)

    def _end(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)

    def run(self, program: Program) -> None:
        """Run a program, and keep its exit code as the interpreter would choose it."""
        try:
            # A Ctrl-C that came since the fork ends the program here.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
            program.run()
        except KeyboardInterrupt:
            self.code = INTERRUPTED
            raise
        except SystemExit as end:
            if end.code is None:
                self.code = 0
            elif isinstance(end.code, int):
                self.code = end.code
            raise
        self.code = 0


class ForkServer:
    """Serves requests of its holder, and of the programs that it has forked."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the connection to the holder."""
        self._holder = connection
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._reports: dict[int, tuple[int, int]] = {}
        """File descriptor of a child -> its number, and the file descriptor of its report."""

    def serve(self) -> Program | None:
        """Fork a child for each request until the holder is gone.

        Returns None in the server, and in each child the program that it has to run.
        """
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.fileobj, int):
                    self._report_end(key.fileobj)
                    continue
                program = self._answer(key.fileobj)
                if program is not None:
                    return program
            if self._holder.fileno() < 0:
                return None

    def _answer(self, connection: object) -> Program | None:
        """Take a request and fork. Returns the program in the child, None in the server."""
        assert isinstance(connection, socket.socket)
        message, fds, _, _ = socket.recv_fds(connection, MOST_REQUEST_BYTES, FDS_OF_A_REQUEST)
        # An end of file: the holder, or a program that could have asked, is gone.
        if not message:
            self._selector.unregister(connection)
            connection.close()
            return None

        # The child gets a connection of its own, to ask for further forks.
        request: Request = json.loads(message)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.getpid()
        try:
            child = os.fork()
        except OSError as error:
            # Who has asked sees the end of its report.
            note(f"no fork for {request['command']}: {error.strerror}")
            for fd in fds:
                os.close(fd)
            return None
        if child == 0:
            ours.close()
            return self._begin_child(request, fds, theirs, server)
        theirs.close()
        self._selector.register(ours, selectors.EVENT_READ)
        report, *streams = fds
        for fd in streams:
            os.close(fd)
        handle = os.pidfd_open(child)
        self._reports[handle] = (child, report)
        self._selector.register(handle, selectors.EVENT_READ)
        _send(report, {"pid": child})
        return None

    def _begin_child(
        self, request: Request, fds: Sequence[int], connection: socket.socket, server: int
    ) -> Program:
        """Turn this process, just forked, into the one that was asked for."""
        end_with_parent(server)
        report, *streams = fds
        os.close(report)
        self._close_in_child()

        # Standard streams, session and folder.
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
            os.close(fd)
        if request["own_session"]:
            os.setsid()
        os.chdir(request["folder"])

        # Environment, arguments, and the way to ask for further forks.
        module, *arguments = request["command"]
        program = Program(module, arguments)
        become_program(program, request["environment"])
        warm_python.set_parent(warm_python.WarmPython(connection))
        return program

    def _close_in_child(self) -> None:
        """Close what belongs to the server: else others would wait for its end of file for ever."""
        for key in self._selector.get_map().values():
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for handle, (_, report) in self._reports.items():
            os.close(handle)
            os.close(report)
        self._selector.close()

    def _report_end(self, handle: int) -> None:
        """Report the exit code of a child that has ended."""
        child, report = self._reports.pop(handle)
        self._selector.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(child, 0)
        _send(report, {"code": os.waitstatus_to_exitcode(status)})
        os.close(report)


def _send(report: int, news: Mapping[str, int]) -> None:
    """Write a line for who has asked for the child; who does not wait for it is left out."""
    try:
        os.write(report, json.dumps(news).encode() + b"\n")
    except BrokenPipeError:
        return


def _import_once(modules: Sequence[str]) -> None:
    """Import what the programs will need. Raises UserError where that has started a thread."""
    for module in modules:
        importlib.import_module(module)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise UserError(
            f"{threads} threads run after the imports of {', '.join(modules)}: a process with "
            "threads cannot be forked safely"
        )
    # The collector would write into every object, and each child would then copy all memory.
    gc.collect()
    gc.freeze()


def _tell_ready(ready: int) -> None:
    """Write a byte for the holder, unless it is gone, and close the pipe."""
    with suppress(BrokenPipeError):
        os.write(ready, READY)
    os.close(ready)


def main() -> None:
    """Serve; in a child, run its program, whose end is the end of this process."""
    end = QuickEnd()
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    os.environ.pop(SUPERVISOR_VARIABLE, None)
    show_command([sys.executable, "-m", "pipeline.work.warm.fork_server"])
    connection = socket.socket(fileno=int(sys.argv[1]))
    ready = int(sys.argv[2])
    _import_once(sys.argv[3].split(","))
    _tell_ready(ready)
    program = ForkServer(connection).serve()
    if program is None:
        end.code = 0
    else:
        end.run(program)


if __name__ == "__main__":
    main()

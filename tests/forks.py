"""One warm process for each process that runs tests. Commands of `pipeline`, ranks and checks are forked
from it, so that torch, DeepSpeed and transformers are imported once and not by each of them.

It starts with the first test that needs it, and ends with the process that runs the tests.
"""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest
from call_in_fork import call_as_text

from pipeline.cluster.launch import cpu_environment, program_environment
from pipeline.cluster.warm.warm_process import DEFAULTS, PRELOADED
from pipeline.work.warm import warm_python
from pipeline.work.warm.held_python import HeldPython
from pipeline.work.warm.warm_python import ForkedProgram, WarmPython

CALLER = "call_in_fork"
"""Module beside this one that a fork runs to call a function."""
TESTS = Path(__file__).parent
MODULES = (
    *PRELOADED,
    "pipeline.training.worker",
    "pipeline.model.model_check",
    "transformers.models.llama.modeling_llama",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.runtime.zero.muon.muon_optimizer",
)
"""What most forks would import. The last three are those that a rank imports with its model."""


def is_in_fork() -> bool:
    """Tell whether this process is a fork that calls a function of a test."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == CALLER


@cache
def held_python() -> HeldPython:
    """Return the warm process, started by the first call."""
    environment = {**DEFAULTS, **cpu_environment()}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), environment["PYTHONPATH"]])
    held = HeldPython(MODULES, environment)
    held.__enter__()
    atexit.register(held.__exit__, None, None, None)
    return held


class _LatePython(WarmPython):
    """The connection to the warm process, which starts when it is asked for the first fork."""

    def __init__(self) -> None:
        """Start nothing."""

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
        *,
        own_session: bool = False,
    ) -> ForkedProgram:
        return held_python().python.start(command, environment, streams, own_session=own_session)


@contextmanager
def forking() -> Generator[None]:
    """Have what this process would start with `python -m` forked from the warm process."""
    before = warm_python.parent()
    warm_python.set_parent(before or _LatePython())
    try:
        yield
    finally:
        warm_python.set_parent(before)


@pytest.fixture(scope="module")
def forked_checks() -> Iterator[None]:
    """Have checks of models forked, as far as tests and fixtures of this module need any."""
    with forking():
        yield


def start_call(function: Callable[..., object], *arguments: Any, log: Path) -> ForkedProgram:
    """Call a function of a module in a fork, which ends with code 0 when it returns.

    Arguments are what JSON knows, paths, and functions of modules. What it prints is added to `log`.
    """
    with tempfile.TemporaryFile() as given, log.open("ab") as output:
        given.write(call_as_text(function, arguments).encode())
        given.seek(0)
        return held_python().start([CALLER], dict(os.environ), (given, output, output))


def start_module(
    command: Sequence[str], environment: Mapping[str, str], *, log: Path
) -> ForkedProgram:
    """Start `python -m COMMAND` in a fork; what it prints is written to `log`."""
    with Path(os.devnull).open("rb") as nothing, log.open("wb") as output:
        return held_python().start(command, environment, (nothing, output, output))


def start_command(*arguments: object, log: Path) -> "CommandInFork":
    """Start `pipeline ARGUMENTS` in a fork; what it prints is written to `log`."""
    words = ["pipeline", *map(str, arguments)]
    return CommandInFork(start_module(words, program_environment(), log=log), log)


class CommandInFork:
    """A command in a fork, with as much of `subprocess.Popen` as tests of commands need."""

    def __init__(self, program: ForkedProgram, log: Path) -> None:
        self._program = program
        self._log = log
        self.pid = program.pid

    @property
    def returncode(self) -> int | None:
        return self._program.returncode

    def poll(self) -> int | None:
        return self._program.poll()

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for the end, and return all that was printed."""
        if self._program.wait_for(timeout) is None:
            raise subprocess.TimeoutExpired(["pipeline"], timeout or 0)
        return self._log.read_text(), None


def exit_codes(programs: Sequence[ForkedProgram], seconds: float) -> list[int | None]:
    """Wait for programs and return how each ended; None for those that hang, which are killed."""
    codes = [program.wait_for(seconds) for program in programs]
    for program, code in zip(programs, codes, strict=True):
        if code is None:
            os.kill(program.pid, signal.SIGKILL)
    return codes

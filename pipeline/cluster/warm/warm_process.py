"""Commands of `pipeline` in forks of one warm process, several at once.

    with WarmProcess() as warm:
        code = warm.start_command(["train", "run.yaml"], log=log, threads=1).wait()

On CPUs only. The command is the same in every respect, except that neither it nor its checks and
ranks have to import anything.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pipeline.cluster.launch import cpu_environment, program_environment
from pipeline.cluster.warm.forked_launch import refuse_gpus
from pipeline.logs import note
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.work.warm.held_python import HeldPython
from pipeline.work.warm.warm_python import ForkedProgram

PRELOADED = (
    "pipeline.model.lean_transformers",
    "pipeline.cli.commands",
    "pipeline.cli.before_a_run",
    "pipeline.cluster.supervisor",
    "pipeline.cluster.launch_checks",
    "pipeline.cluster.warm.forked_launch",
    "pipeline.training.preflight",
    "pipeline.training.job",
)
"""Modules that are imported once, in this order. What `python -m` runs is not among them: it is
run as `__main__`."""
FOR_SCORING = (
    "pipeline.evaluation.export",
    "pipeline.evaluation.evaluate",
    "transformers.generation.utils",
)
"""Further modules, where commands score as well."""
DEFAULTS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}
"""Variables that `pipeline train` or its checks set where the user has not, and that libraries read
when they are imported."""
LOOK_SECONDS = 0.1
"""Time between two looks at commands that are stopping."""


@dataclass(frozen=True)
class ForkedCommand:
    """A command of `pipeline` in a fork."""

    program: ForkedProgram
    log: Path
    """File that what it prints is added to."""

    def poll(self) -> int | None:
        """Return the exit code of the command, None while it runs."""
        return self.program.poll()

    def wait(self) -> int:
        """Return the exit code of the command once it has ended.

        It is -9 where the warm process was killed, and the command with it; 130 where the command
        was asked to stop before its first line.
        """
        return self.program.wait()

    def request_stop(self) -> None:
        """Ask to save and stop (exit code 75), as Ctrl-C does; a second time, to stop at once."""
        self.send_signal(signal.SIGINT)

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.program.pid, sig)


class WarmProcess:
    """A warm process for commands; it ends with this context, or with the process that holds it."""

    def __init__(self, modules: Sequence[str] = (), *, with_scoring: bool = True) -> None:
        """Take further modules to import, such as the model's.

        Without `with_scoring`, only what training needs is imported.

        Raises ConfigError on a machine with GPUs, UserError on a system without Linux's forks.
        """
        refuse_gpus()
        environment = {**DEFAULTS, **cpu_environment()}
        preloaded = [*PRELOADED, *(FOR_SCORING if with_scoring else ()), *modules]
        self._python = HeldPython(preloaded, environment)
        self._commands: list[ForkedCommand] = []

    def __enter__(self) -> "WarmProcess":
        """Start the warm process, which imports while its holder goes on."""
        self._python.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop commands that still run, with saving; then end the warm process."""
        count = len(self.running())
        if count:
            note(f"stopping what still runs ({count}), after a save; Ctrl-C again: at once")
            self.request_stops()
        while self.running():
            try:
                time.sleep(LOOK_SECONDS)
            except KeyboardInterrupt:
                self.request_stops()
        self._python.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """Number of the warm process."""
        return self._python.pid

    def start_command(self, arguments: Sequence[str], *, log: Path, threads: int) -> ForkedCommand:
        """Start `pipeline ARGUMENTS` in a fork. Several threads may call this at once.

        What it prints is added to `log`. `threads` are those of each rank, or of the command where it
        has no ranks. Raises WarmProcessEnded.
        """
        environment = {**program_environment(), THREADS_VARIABLE: str(threads)}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
            streams = (nothing, output, output)
            program = self._python.start(["pipeline", *arguments], environment, streams)
        command = ForkedCommand(program, log)
        self._commands.append(command)
        return command

    def running(self) -> list[ForkedCommand]:
        """Return the commands that have not ended."""
        return [command for command in self._commands if command.poll() is None]

    def request_stops(self) -> None:
        """Ask all commands to save and stop; asked a second time, to stop at once."""
        for command in self.running():
            command.request_stop()

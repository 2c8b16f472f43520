"""`pipeline train` in forks of one warm process, several at once.

    with WarmProcess() as warm:
        code = warm.start_training(run_file, log=log).wait()

On CPUs only. A training is `pipeline train` in every respect, except that neither it nor its checks
and ranks have to import anything.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pipeline.cluster.launch import program_environment
from pipeline.cluster.warm.forked_launch import refuse_gpus
from pipeline.logs import note
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.work.warm.held_python import HeldPython
from pipeline.work.warm.warm_python import ForkedProgram

PRELOADED = (
    "pipeline.cli.commands",
    "pipeline.cli.before_a_run",
    "pipeline.cluster.supervisor",
    "pipeline.cluster.launch_checks",
    "pipeline.cluster.warm.forked_launch",
    "pipeline.training.preflight",
    "pipeline.training.job",
    "pipeline.engine.threads",
    "transformers.generation.utils",
)
"""Modules that are imported once. What `python -m` runs is not among them: it is run as `__main__`."""
DEFAULTS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}
"""Variables that `pipeline train` or its checks set where the user has not, and that libraries read
when they are imported."""
LOOK_SECONDS = 0.1
"""Time between two looks at trainings that are stopping."""


@dataclass(frozen=True)
class ForkedTraining:
    """A `pipeline train` in a fork."""

    program: ForkedProgram
    log: Path
    """File that what it prints is added to."""

    def poll(self) -> int | None:
        """Return the exit code of `pipeline train`, None while it runs."""
        return self.program.poll()

    def wait(self) -> int:
        """Return the exit code of `pipeline train` once it has ended.

        It is -9 where the warm process was killed, and the training with it; 130 where the training
        was asked to stop before its first line.
        """
        return self.program.wait()

    def request_stop(self) -> None:
        """Ask to save and stop (exit code 75); asked a second time, to stop at once."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.program.pid, signal.SIGINT)


class WarmProcess:
    """A warm process for trainings; it ends with this context, or with the process that holds it."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """Take further modules to import, such as the model's.

        Raises ConfigError on a machine with GPUs, UserError on a system without Linux's forks.
        """
        refuse_gpus()
        environment = {**DEFAULTS, **program_environment(), "DS_ACCELERATOR": "cpu"}
        self._python = HeldPython([*PRELOADED, *modules], environment)
        self._trainings: list[ForkedTraining] = []

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
        """Stop trainings that still run, with saving; then end the warm process."""
        if self.running():
            note(f"stopping {len(self.running())} runs after a save (Ctrl-C: at once)")
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

    def start_training(
        self,
        run_file: Path,
        overrides: Sequence[str] = (),
        *,
        log: Path,
        threads: int | None = None,
    ) -> ForkedTraining:
        """Start `pipeline train RUN_FILE OVERRIDES` in a fork. Several threads may call this at once.

        What it prints is added to `log`. `threads` are those of each rank; None for OMP_NUM_THREADS,
        or an equal share of the cores. Raises WarmProcessEnded.
        """
        environment = program_environment()
        if threads is not None:
            environment[THREADS_VARIABLE] = str(threads)
        command = ["pipeline", "train", str(run_file), *overrides]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
            program = self._python.start(command, environment, (nothing, output, output))
        training = ForkedTraining(program, log)
        self._trainings.append(training)
        return training

    def running(self) -> list[ForkedTraining]:
        """Return the trainings that have not ended."""
        return [training for training in self._trainings if training.poll() is None]

    def request_stops(self) -> None:
        """Ask all trainings to save and stop; asked a second time, to stop at once."""
        for training in self.running():
            training.request_stop()

"""Trainings that a command starts one after another: where ranks can be forked, with one import for all.

Elsewhere, as with GPUs, each is a `pipeline train` of its own that imports for itself. Free of torch.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from pipeline.cluster.launch import rank_environment
from pipeline.cluster.warm.forkable_ranks import can_fork
from pipeline.cluster.warm.warm_process import ForkedCommand, WarmProcess
from pipeline.config.run_config import RunConfig
from pipeline.logs import warn
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.work.warm.warm_python import WarmProcessEnded

StartedTraining = subprocess.Popen[bytes] | ForkedCommand


class TrainingStarter:
    """Starts trainings; those that still run when this context ends are stopped, with a save."""

    def __init__(self, config: RunConfig) -> None:
        """Raise ConfigError where PIPELINE_LAUNCHER names no launcher."""
        self._is_forking = can_fork(config)
        self._warm: WarmProcess | None = None
        self._exits = ExitStack()

    def __enter__(self) -> "TrainingStarter":
        """Start the process that imports, where there is to be one."""
        if self._is_forking:
            self._warm = self._exits.enter_context(WarmProcess(with_scoring=False))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End that process, and what it has forked."""
        self._exits.close()

    def start(self, run_file: Path, ranks: int, log: Path) -> StartedTraining:
        """Start `pipeline train RUN_FILE` on `ranks` ranks; what it prints is added to `log`."""
        arguments = ["train", str(run_file)]
        if self._warm is not None:
            threads = int(rank_environment(0, ranks)[THREADS_VARIABLE])
            try:
                return self._warm.start_command(arguments, log=log, threads=threads)
            except WarmProcessEnded as error:
                warn(f"trainings cannot be forked, so that each imports for itself: {error}")
                self._warm = None
                self._exits.close()
        with log.open("ab") as output:
            command = [sys.executable, "-m", "pipeline", *arguments]
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def process_number(training: StartedTraining) -> int:
    """Return the number of the process that supervises a training."""
    if isinstance(training, ForkedCommand):
        return training.program.pid
    return training.pid

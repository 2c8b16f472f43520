"""Trains the runs of a study on this machine, several at a time.

On CPUs the commands are forks of one warm process, which alone imports. Each run is a `pipeline
train` of its own, with supervisor, resume and guards. Whoever holds the lease of a run's folder
trains it, so two commands share the work. Writes what the commands print beside their run.
"""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from pipeline.cluster.gpus import gpu_count, visible_devices
from pipeline.cluster.launch import program_environment
from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.study.queue import (
    QueuedRun,
    RunState,
    StudyProgress,
    progress_of,
)
from pipeline.cluster.warm.warm_process import WarmProcess
from pipeline.config.batch_division import largest_divisor
from pipeline.errors import Interrupted, LeaseError
from pipeline.logs import note
from pipeline.store.lease import Lease
from pipeline.work.cores import core_count

LOOK_SECONDS = 0.5
"""Time between two looks at the running commands."""
LAST_LINES = 6
"""Last lines of a failed command's output that are printed."""
LAST_BYTES = 8192
CAN_BEGIN = (RunState.READY, RunState.STOPPED)
"""States of a run that may be trained now."""


class RunningCommand(Protocol):
    """A command that was started, as `subprocess.Popen` has it."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...


@dataclass(frozen=True)
class Share:
    """A run's share of this machine."""

    ranks: int
    threads: int | None
    """Threads of each rank; None: as the environment says."""
    devices: str | None
    """CUDA_VISIBLE_DEVICES; None without GPUs."""


Starter = Callable[[QueuedRun, str, Sequence[str], Share, IO[bytes]], RunningCommand]
"""Starts a stage of a run with overrides, in its share of the machine; output goes to a file."""


@dataclass
class _Started:
    """A run that this command trains."""

    run: QueuedRun
    share: int
    """Number of its share of the machine."""
    lease: ExitStack
    stages: list[str]
    """Stages that are still to be run."""
    command: RunningCommand
    output: IO[bytes]


@dataclass
class LocalRuns:
    """Trains runs, at most `jobs` at a time, until all are done or cannot be."""

    runs: Sequence[QueuedRun]
    jobs: int
    ranks: int | None
    """Ranks of each run; None: the GPUs of its share, or one."""
    start: Starter
    """What starts the commands of the runs."""
    launch: str = "local"
    """`launch.kind` of the runs; with `slurm` the job's tasks are the ranks."""
    waits_for_others: bool = True
    """Whether runs that other commands train are waited for; a job of an array ends instead, since
    those commands go on with what is left."""
    failed: dict[str, int] = field(default_factory=dict)
    """Name -> exit code of the runs that this command could not finish."""
    _active: dict[str, _Started] = field(default_factory=dict)

    def train_all(self, stop: StopRequest, show: Callable[[StudyProgress], None]) -> None:
        """Train until nothing is left, or until a request to stop has been passed on.

        Runs that other commands train are waited for; where such a command dies, its run is taken
        over. Raises nothing for a run that fails: see `failed`.
        """
        passed_on = 0
        while True:
            self._look_after(stop)
            if stop.count > passed_on:
                passed_on = stop.count
                # A run that is out of time tells its job so, and is requeued.
                number = signal.SIGUSR1 if stop.is_out_of_time else signal.SIGINT
                for started in self._active.values():
                    started.command.send_signal(number)
            if stop.count and not self._active:
                return
            if not stop.count:
                self._begin_next()
            show(progress_of(self.runs, list(self.failed)))
            if not self._active and not self._is_anything_left():
                return
            time.sleep(LOOK_SECONDS)

    def _look_after(self, stop: StopRequest) -> None:
        """Take note of commands that have ended; go on with the next stage of their runs.

        A run that was interrupted by something else, such as the time limit of its job, stops all.
        """
        for name, started in list(self._active.items()):
            code = started.command.poll()
            if code is None:
                continue
            if code == 0 and started.stages and not stop.count:
                stage = started.stages.pop(0)
                started.command = self._start(started.run, stage, started.share, started.output)
                continue
            started.output.close()
            started.lease.close()
            del self._active[name]
            if code == Interrupted.exit_code:
                stop.count = max(stop.count, 1)
            elif code:
                self.failed[name] = code
                _report_failure(started.run, code)

    def _begin_next(self) -> None:
        """Begin runs while there is room, in `longest_first` order."""
        for run in sorted(self.runs, key=longest_first):
            if len(self._active) >= self.jobs:
                return
            if run.name in self.failed or run.name in self._active:
                continue
            state = run.state
            if state in CAN_BEGIN:
                self._begin(run)
            elif state is RunState.BLOCKED and self._has_lost_its_beginning(run):
                self.failed[run.name] = 2

    def _begin(self, run: QueuedRun) -> None:
        """Begin a run, unless another command has just taken it."""
        lease = ExitStack()
        try:
            lease.enter_context(Lease(run.home, "pipeline study run"))
        except LeaseError:
            return
        if run.state is RunState.DONE:
            lease.close()
            return
        taken = {started.share for started in self._active.values()}
        share = min(set(range(self.jobs)) - taken)
        output = run.output.open("ab")
        first, *others = run.stages
        command = self._start(run, first, share, output)
        self._active[run.name] = _Started(run, share, lease, others, command, output)

    def _start(self, run: QueuedRun, stage: str, number: int, output: IO[bytes]) -> RunningCommand:
        """Start a stage of a run in the share `number` of this machine."""
        ranks = run.ranks or self.ranks
        share = share_of_run(run, self.jobs, number, ranks)
        if self.launch == "slurm":
            share = Share(ranks or 1, None, None)
        overrides: list[str] = []
        if stage == "train":
            overrides = [f"launch.kind={self.launch}", *rank_overrides(run, share.ranks)]
            if self.launch == "slurm":
                overrides[1] = "launch.ranks=auto"
        return self.start(run, stage, overrides, share, output)

    def _has_lost_its_beginning(self, run: QueuedRun) -> bool:
        """Tell whether a run's trunk is done without the checkpoint that it needs; report it."""
        trunk = next((other for other in self.runs if other.name == run.trunk), None)
        if trunk is None or trunk.state is not RunState.DONE or run.state in CAN_BEGIN:
            return False
        note(
            f"study: {run.name} cannot begin: {run.needs} is gone, though {trunk.name} is done; "
            f"delete {trunk.home} to train both again"
        )
        return True

    def _is_anything_left(self) -> bool:
        """Tell whether a run may still be trained, by this command or another."""
        lost = set(self.failed)
        for run in self.runs:
            if run.name in lost or run.trunk in lost:
                continue
            state = run.state
            if state in CAN_BEGIN or (self.waits_for_others and state is not RunState.DONE):
                return True
        return False


def longest_first(run: QueuedRun) -> tuple[bool, int, int]:
    """Return the key that sorts trunks first, then what takes longest.

    Of runs whose work is alike to a factor of 2, those of more steps take longer: small models reach
    fewer FLOP/s.
    """
    return run.trunk is not None, -round(math.log2(max(1.0, run.work))), -run.steps


def share_of_machine(jobs: int, number: int, ranks: int | None) -> Share:
    """Return the share `number` of this machine, of `jobs` equal ones."""
    gpus = gpu_count()
    if not gpus:
        wanted = ranks or 1
        return Share(wanted, max(1, core_count() // (jobs * wanted)), None)
    names = visible_devices(gpus)
    part = max(1, gpus // jobs)
    own = names[number * part : (number + 1) * part]
    return Share(min(ranks or part, part), 1, ",".join(own))


def share_of_run(run: QueuedRun, jobs: int, number: int, ranks: int | None) -> Share:
    """Return the share of a run: where speed is measured, its ranks have no more threads if they are few.

    `ranks`: those of the run. Arguments are otherwise those of `share_of_machine`.
    """
    share = share_of_machine(jobs, number, ranks)
    if run.most_ranks is None or share.devices is not None:
        return share
    return replace(share, threads=max(1, core_count() // run.most_ranks))


def ranks_of(run: QueuedRun, ranks: int) -> tuple[int, int]:
    """Return a run's number of ranks, as many of `ranks` as divide its batch, and its micro-batch."""
    used = largest_divisor(run.sequences, ranks)
    return used, largest_divisor(run.sequences // used, run.micro_batch)


def rank_overrides(run: QueuedRun, ranks: int) -> list[str]:
    """Return the settings that give a run its ranks and its micro-batch."""
    used, micro = ranks_of(run, ranks)
    return [f"launch.ranks={used}", f"batch.micro_batch_sequences={micro}"]


@contextmanager
def command_starter(launch: str) -> Generator[Starter]:
    """Yield what starts the commands of runs: forks of one warm process on CPUs, else new processes.

    `launch`: `launch.kind` of the runs. Leaving the context stops forks that still run, with saving.
    """
    if gpu_count() or launch != "local":
        yield start_command
        return
    with WarmProcess() as warm:

        def fork(
            run: QueuedRun, stage: str, overrides: Sequence[str], share: Share, output: IO[bytes]
        ) -> RunningCommand:
            command = [stage, str(run.run_file), *overrides]
            return warm.start_command(command, log=run.output, threads=share.threads or 1)

        yield fork


def start_command(
    run: QueuedRun, stage: str, overrides: Sequence[str], share: Share, output: IO[bytes]
) -> RunningCommand:
    """Start `pipeline STAGE RUN.YAML` in a session of its own, so that Ctrl-C does not reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", stage, str(run.run_file), *overrides],
        env=program_environment() | command_environment(share),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def command_environment(share: Share) -> dict[str, str]:
    """Return the variables that keep a command in its share of the machine."""
    variables: dict[str, str] = {}
    if share.threads is not None:
        variables["OMP_NUM_THREADS"] = str(share.threads)
    if share.devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = share.devices
    return variables


def _report_failure(run: QueuedRun, code: int) -> None:
    """Print the end of what a failed command printed."""
    lines = _last_lines(run.output)
    note(f"study: {run.name} ended with exit code {code}; the end of {run.output}:")
    for line in lines:
        note(f"  {line}")


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]

"""Where Dask workers come from: processes of this machine, tasks of a Slurm allocation, or jobs
sent to Slurm."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.config.run_sections import Executor
from pipeline.errors import ConfigError, UserError, WorkerLost
from pipeline.logs import note, warn
from pipeline.store.layout import scheduler_file, worker_logs
from pipeline.store.processes import process_start_time

WORKER_SETTINGS = {
    "distributed.worker.memory.terminate": False,  # a large document is no leak
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.daemon": True,
    # Dask would have malloc return memory at once, to be faulted in again for the next row group.
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1},
    "distributed.scheduler.allowed-failures": 5,
    "distributed.admin.tick.limit": "10m",
}
WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
"""One worker is one core's work; more come by `executor.workers`."""
PARENT_POLL_SECONDS = 0.5
START_ATTEMPTS = 3
LOST_AFTER_SECONDS = 300
"""Of a step's scheduler without a client, and workers without a scheduler."""
LEAST_STEP_TASKS = 3
"""Scheduler, client and one worker: `SLURMRunner` makes them of an srun step's first tasks."""

_allocation: Any = None
"""The client's `SLURMRunner` in a process that is one task of a step."""


def in_srun_step() -> bool:
    """Tell whether this process is one of several tasks that srun started."""
    # SLURM_NTASKS is the allocation's in the shell of an interactive one, which is a step of one
    # task.
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def is_first_task() -> bool:
    """Tell whether this process is the first task of its srun step, or runs outside of any."""
    return not in_srun_step() or os.environ["SLURM_PROCID"] == "0"


@contextmanager
def allocation(executor: Executor, folder: Path) -> Iterator[None]:
    """Within an srun step, turn its tasks into one scheduler, one client and workers; only the
    client goes on.

    The others serve until the client leaves, then end their process with exit code 0. `folder` is
    one that all nodes see. Elsewhere this does nothing. Raises ConfigError for a step of fewer than
    three tasks, or where jobs would be sent and nobody said how many.
    """
    global _allocation
    if executor.kind != "slurm" or not in_srun_step():
        if executor.kind == "slurm" and executor.workers == "auto":
            raise ConfigError(
                ["executor.workers = auto: say how many worker processes Slurm shall start in all"]
            )
        yield
        return
    tasks = int(os.environ["SLURM_NTASKS"])
    if tasks < LEAST_STEP_TASKS:
        raise ConfigError(
            [
                f"srun --ntasks={tasks}: one task schedules, one directs, the others work; use 3 "
                "or more (executor.kind)"
            ]
        )
    os.environ |= WORKER_ENVIRONMENT
    _quiet()
    import dask.config

    interrupt = signal.getsignal(signal.SIGINT)
    import dask_jobqueue.slurm  # takes SIGINT for itself  # noqa: F401

    step = "-".join(
        os.environ.get(name, "0")
        for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); give paths.data_dir another folder"
        ) from None
    meeting_point = scheduler_file(folder, step)
    with dask.config.set(WORKER_SETTINGS):
        _allocation = _join(meeting_point)  # does not return in the scheduler and the workers
        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            with suppress(Exception):  # closing it is all that is left to do
                _allocation.close()
            _allocation = None
            meeting_point.unlink(missing_ok=True)


def _join(meeting_point: Path) -> Any:
    """Return the client's `SLURMRunner`; in the other tasks of the step, serve and end the
    process."""
    from dask_jobqueue.slurm import SLURMRunner

    try:
        return SLURMRunner(
            scheduler_file=str(meeting_point),
            # Without its client the step would hold the nodes until its time limit.
            scheduler_options={"dashboard": False, "idle_timeout": f"{LOST_AFTER_SECONDS} s"},
            worker_class="distributed.Nanny",  # starts a killed worker again
            worker_options={
                "nthreads": 1,
                "memory_limit": None,
                "death_timeout": LOST_AFTER_SECONDS,
            },
        )
    except Exception as error:
        if int(os.environ["SLURM_PROCID"]) < LEAST_STEP_TASKS - 1:
            raise
        warn(f"a worker of the step did not come up; the others go on: {error.__cause__ or error}")
        sys.exit(0)  # the step has not failed


@contextmanager
def connect(executor: Executor, workers: int, folder: Path) -> Iterator[Any]:
    """Yield a `distributed.Client` of running workers; they end with the context, or with this
    process.

    `folder`, seen by all nodes, takes the logs of jobs sent to Slurm.
    """
    import dask.config
    import distributed  # its defaults must be there before they are changed  # noqa: F401

    _quiet()
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-dask-", ignore_cleanup_errors=True) as scratch,
        dask.config.set(WORKER_SETTINGS | {"temporary-directory": scratch}),
    ):
        if executor.kind == "local":
            with _local(workers) as client:
                client.register_plugin(_end_with(os.getpid()))
                yield client
        elif _allocation is not None:
            from distributed import Client

            with Client(_allocation) as client:
                yield client
        else:
            with _jobs(executor, folder) as client:
                yield client


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    from distributed import Client

    with _started_cluster(workers) as cluster, Client(cluster) as client:
        yield client


def _started_cluster(workers: int) -> Any:
    """Start worker processes; once they run, Dask replaces one that dies, but not yet while they
    come up."""
    from distributed import LocalCluster

    for attempt in range(START_ATTEMPTS):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",  # it always listens: at a free port, for this machine only
                silence_logs=logging.CRITICAL,
                env=WORKER_ENVIRONMENT,
            )
        except RuntimeError as error:
            if attempt == START_ATTEMPTS - 1:
                raise WorkerLost(
                    f"worker processes do not come up on this machine: {error.__cause__ or error}"
                ) from None
    raise AssertionError("returned or raised above")


@contextmanager
def _jobs(executor: Executor, folder: Path) -> Iterator[Any]:
    """Send jobs to Slurm, and again when one ends at its time limit."""
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

    assert executor.workers != "auto", "`allocation` has refused it"
    logs = worker_logs(folder)
    logs.mkdir(parents=True, exist_ok=True)
    cluster = SLURMCluster(
        queue=executor.partition,
        account=executor.account,
        walltime=executor.time_limit,
        cores=executor.workers_per_job,
        processes=executor.workers_per_job,
        memory=f"{executor.memory_per_worker * executor.workers_per_job} B",
        job_extra_directives=list(executor.job_options),
        job_script_prologue=[
            f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()
        ],
        worker_extra_args=["--no-dashboard", "--memory-limit", "0"],
        scheduler_options={"dashboard": False},
        log_directory=str(logs),
        python=sys.executable,
        silence_logs="critical",
    )
    with cluster, Client(cluster) as client:
        _try_to_submit(
            cluster.job_script()
        )  # what goes wrong later happens in a thread of Dask's, unseen
        note(f"waiting for Slurm to start {executor.workers} workers; their output: {logs}")
        cluster.adapt(minimum=executor.workers, maximum=executor.workers)
        yield client


def _try_to_submit(script: str) -> None:
    """Raise UserError with Slurm's own words if it would not take the job."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        try:
            answer = subprocess.run(
                ["sbatch", "--test-only", file.name], capture_output=True, text=True
            )
        except FileNotFoundError:
            raise UserError(
                "executor.kind = slurm: there is no sbatch here; run this where Slurm is"
            ) from None
    if answer.returncode:
        raise UserError(
            "executor.kind = slurm: sbatch would not take the workers' jobs: "
            f"{answer.stderr.strip()}\nCorrect "
            "executor.partition, account, time_limit, memory_per_worker, workers_per_job or "
            "job_options."
        )


def _end_with(parent: int) -> Any:
    """Return a plugin by which a worker, and one that replaces it, ends soon after the process
    `parent` does."""
    from distributed import WorkerPlugin

    class EndWithParent(WorkerPlugin):
        name = "end-with-parent"

        def __init__(self) -> None:
            self._started = process_start_time(parent)

        def setup(self, worker: Any) -> None:
            threading.Thread(target=self._watch, daemon=True).start()

        def _watch(self) -> None:
            while process_start_time(parent) == self._started:
                time.sleep(PARENT_POLL_SECONDS)
            os._exit(1)

    return EndWithParent()


def _quiet() -> None:
    """Dask's own log lines, among them tracebacks of connections that close, say nothing to a
    user."""
    for name in ("distributed", "distributed.nanny", "distributed.worker", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

"""Dask workers: processes on this machine, tasks of an srun step, or jobs submitted to Slurm.

Writes, in a stage's folder, the scheduler's address for the tasks of a step, and the logs of jobs.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.config.run_sections import Executor
from pipeline.errors import ConfigError, UserError, WorkerLost
from pipeline.logs import note, warn
from pipeline.store.layout import scheduler_file, worker_logs
from pipeline.store.processes import process_start_time
from pipeline.work.kept_memory import worker_memory_variables

if TYPE_CHECKING:  # so that a command without workers need not import Dask
    from dask_jobqueue.slurm import SLURMRunner
    from distributed import Client, LocalCluster, Nanny, Worker, WorkerPlugin
    from distributed.core import Status

WORKER_SETTINGS: dict[str, object] = {
    # A large document is no memory leak.
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.daemon": True,
    # Dask would set variables in this process, for whatever it starts later: `_environment` does.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.scheduler.allowed-failures": 5,
    "distributed.admin.tick.limit": "10m",
}
"""Dask's settings for workers and their scheduler."""
WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
"""Environment of a worker, which uses one core; `executor.workers` sets how many there are."""
PARENT_POLL_SECONDS = 0.5
"""Time between two looks of a worker whether the process that started it still lives."""
START_ATTEMPTS = 3
"""Attempts to start the workers of this machine."""
LOST_AFTER_SECONDS = 300
"""Seconds after which an orphaned scheduler or worker of an srun step exits."""
FIRST_WORKER = 2
"""Tasks of an srun step before its workers: `SLURMRunner` makes them scheduler and client."""
LEAST_STEP_TASKS = FIRST_WORKER + 1
"""Tasks that an srun step needs."""

_step_runner: "SLURMRunner | None" = None
"""The `SLURMRunner` of this process while it is the client of an srun step."""


def _starting_variables() -> dict[str, str]:
    """Return what a worker on this machine needs before its first import.

    Dask sets WORKER_ENVIRONMENT later, in the worker.
    """
    return {"OMP_NUM_THREADS": "1"} | worker_memory_variables()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    """Set variables of this process for the programs that it starts in this context.

    At its end all variables are as before, also those that Dask has set, such as PYTHONHASHSEED.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def in_srun_step() -> bool:
    """Tell whether this process is one of several tasks that srun started."""
    # The shell of an interactive allocation is a step of one task, but its SLURM_NTASKS counts the
    # tasks of the allocation.
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def workers_of_step() -> int:
    """Return how many tasks of this srun step are workers."""
    return int(os.environ["SLURM_NTASKS"]) - FIRST_WORKER


def is_first_task() -> bool:
    """Tell whether this process is the first task of its srun step, or runs outside of any."""
    return not in_srun_step() or os.environ["SLURM_PROCID"] == "0"


@contextmanager
def srun_step_roles(executor: Executor, folder: Path) -> Generator[None]:
    """In an srun step, make its tasks a scheduler, a client and workers; only the client returns.

    The others serve until the client leaves, then exit with code 0. `folder` must be visible on all
    nodes. Outside of a step this does nothing. Raises ConfigError for a step of fewer than three
    tasks, or where jobs would be submitted and `executor.workers` is auto.
    """
    global _step_runner
    # Outside of a step, `dask_client` starts the workers.
    if not executor.uses_slurm or not in_srun_step():
        if executor.uses_slurm and executor.workers == "auto":
            raise ConfigError(
                ["executor.workers = auto: set it to the total number of workers that Slurm starts"]
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
    meeting_point = _prepared_meeting_point(folder)

    # Importing dask_jobqueue replaces the handler of SIGINT, and sets Dask's defaults, which must
    # be there before they are changed.
    os.environ |= WORKER_ENVIRONMENT
    _silence_dask_logs()
    interrupt = signal.getsignal(signal.SIGINT)
    import dask.config
    from dask_jobqueue.slurm import SLURMRunner

    with dask.config.set(WORKER_SETTINGS):
        # This does not return in the scheduler and the workers.
        _step_runner = _join_step(SLURMRunner, meeting_point)
        signal.signal(signal.SIGINT, interrupt)
        try:
            with _kept_in_use(_step_runner):
                yield
        finally:
            # The work is done: an error while the step closes matters to nobody.
            with suppress(Exception):
                _step_runner.close()
            _step_runner = None
            meeting_point.unlink(missing_ok=True)


@contextmanager
def _kept_in_use(runner: "SLURMRunner") -> Generator[None]:
    """Give the step's scheduler an empty task now and then, while the client prepares or assembles.

    It would end after LOST_AFTER_SECONDS without tasks, as it must when its client is lost.
    """
    from distributed import Client

    has_ended = threading.Event()

    def give_tasks() -> None:
        # A step that is closing matters to nobody.
        with suppress(Exception), Client(runner, set_as_default=False) as client:
            while not has_ended.wait(LOST_AFTER_SECONDS / 5):
                client.submit(int, pure=False).result()

    thread = threading.Thread(target=give_tasks, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join(LOST_AFTER_SECONDS / 5)


def _prepared_meeting_point(folder: Path) -> Path:
    """Return the file through which the tasks of this step find their scheduler.

    Raises UserError where its folder cannot be made.
    """
    variables = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    step = "-".join(os.environ.get(name, "0") for name in variables)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); set paths.data_dir to another folder"
        ) from None
    return scheduler_file(folder, step)


def _join_step(runner: "type[SLURMRunner]", meeting_point: Path) -> "SLURMRunner":
    """Return the client's `SLURMRunner`; in the other tasks, serve, then exit the process."""
    try:
        return runner(
            scheduler_file=str(meeting_point),
            # Without its client the step would hold the nodes until its time limit.
            scheduler_options={"dashboard": False, "idle_timeout": f"{LOST_AFTER_SECONDS} s"},
            # A nanny starts a killed worker again.
            worker_class="distributed.Nanny",
            worker_options={
                "nthreads": 1,
                "memory_limit": None,
                "death_timeout": LOST_AFTER_SECONDS,
            },
        )
    except Exception as error:
        if int(os.environ["SLURM_PROCID"]) < FIRST_WORKER:
            raise
        warn(f"a worker of the step did not start; the others continue: {error.__cause__ or error}")
        # The step has not failed.
        sys.exit(0)


@contextmanager
def dask_client(executor: Executor, workers: int, folder: Path) -> Generator["Client"]:
    """Start workers and yield their client; they end with the context, or with this process.

    `folder`, visible on all nodes, takes the logs of jobs submitted to Slurm.
    """
    # distributed sets its defaults when it is imported, so before they are changed.
    import dask.config
    from distributed import Client

    _silence_dask_logs()
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-dask-", ignore_cleanup_errors=True) as scratch,
        dask.config.set({**WORKER_SETTINGS, "temporary-directory": scratch}),
    ):
        if not executor.uses_slurm:
            with _environment(_starting_variables()):
                cluster = _local_cluster(workers)
                with cluster, Client(cluster) as client:
                    client.register_plugin(_end_with_process(os.getpid()))
                    yield client
        elif _step_runner is not None:
            with Client(_step_runner) as client:
                yield client
        else:
            with _submitted_jobs(executor, folder) as client:
                yield client


def scale_local_workers(client: "Client", workers: int) -> None:
    """Start the worker processes on this machine that lack to a number, in the background.

    Also those that Dask has given up because they died while they started.
    """
    cluster = cast("LocalCluster", client.cluster)
    nannies = cast("dict[int, Nanny]", cluster.workers)

    def start_missing() -> None:
        # Dask keeps a worker that has never been ready in its list, where it fills a place.
        ended = [name for name, nanny in nannies.items() if nanny.status in _ended_states()]
        for name in ended:
            del nannies[name]
        cluster.scale(workers)

    # Dask changes its list in its own thread.
    assert cluster.loop is not None, "it has started"
    cluster.loop.add_callback(start_missing)


def _ended_states() -> "tuple[Status, ...]":
    """Return the states of a nanny that starts no process any more."""
    from distributed.core import Status

    return (Status.closed, Status.failed)


def count_workers(client: "Client") -> int:
    """Return the number of workers that are connected to a client's scheduler."""
    return len(cast("dict[str, object]", client.scheduler_info()["workers"]))


def _local_cluster(workers: int) -> "LocalCluster":
    """Start worker processes on this machine; raise WorkerLost where they do not start.

    Once they run, Dask replaces a worker that dies, but not while they start.
    """
    from distributed import LocalCluster

    for attempt in range(START_ATTEMPTS):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,
                # Dask always listens for browsers: on a free port, and from this machine only.
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                env=WORKER_ENVIRONMENT,
            )
        except RuntimeError as error:
            if attempt == START_ATTEMPTS - 1:
                raise WorkerLost(
                    f"worker processes do not start on this machine: {error.__cause__ or error}"
                ) from None
    raise AssertionError("returned or raised above")


@contextmanager
def _submitted_jobs(executor: Executor, folder: Path) -> Generator["Client"]:
    """Submit jobs to Slurm, and again when one ends at its time limit."""
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

    # Each job holds `workers_per_job` workers of one core.
    assert executor.workers != "auto", "`srun_step_roles` has refused it"
    logs = worker_logs(folder)
    logs.mkdir(parents=True, exist_ok=True)
    variables = WORKER_ENVIRONMENT | worker_memory_variables()
    cluster = SLURMCluster(
        queue=executor.partition,
        account=executor.account,
        walltime=executor.time_limit,
        cores=executor.workers_per_job,
        processes=executor.workers_per_job,
        memory=f"{executor.memory_per_worker * executor.workers_per_job} B",
        job_extra_directives=list(executor.job_options),
        job_script_prologue=[
            f"export {name}={shlex.quote(value)}" for name, value in variables.items()
        ],
        worker_extra_args=["--no-dashboard", "--memory-limit", "0"],
        scheduler_options={"dashboard": False},
        log_directory=str(logs),
        python=sys.executable,
        silence_logs="critical",
    )

    # Dask submits in a thread, whose errors nobody sees: find them first.
    with cluster, Client(cluster) as client:
        _check_submission(cast("str", cluster.job_script()))
        note(f"waiting for Slurm to start {executor.workers} workers; their output: {logs}")
        cluster.adapt(minimum=executor.workers, maximum=executor.workers)
        yield client


def _check_submission(script: str) -> None:
    """Raise UserError with Slurm's own message if it would not accept the job."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        try:
            answer = subprocess.run(
                ["sbatch", "--test-only", file.name], capture_output=True, text=True
            )
        except FileNotFoundError:
            raise UserError(
                "executor.kind = slurm: this machine has no sbatch; run the command on a machine "
                "with Slurm"
            ) from None
    if answer.returncode:
        raise UserError(
            f"executor.kind = slurm: sbatch rejects the workers' jobs: "
            f"{answer.stderr.strip()}\nCorrect executor.partition, account, time_limit, "
            "memory_per_worker, workers_per_job or job_options."
        )


def _end_with_process(parent: int) -> "WorkerPlugin":
    """Return a plugin that ends a worker, also one that replaces another, soon after `parent`."""
    from distributed import WorkerPlugin

    class EndWithParent(WorkerPlugin):
        name = "end-with-parent"

        def __init__(self) -> None:
            self._started = process_start_time(parent)

        def setup(self, worker: "Worker") -> None:
            threading.Thread(target=self._watch, daemon=True).start()

        def _watch(self) -> None:
            while process_start_time(parent) == self._started:
                time.sleep(PARENT_POLL_SECONDS)
            os._exit(1)

    return EndWithParent()


def _silence_dask_logs() -> None:
    """Silence Dask's log lines, such as tracebacks of closing connections: no user needs them."""
    for name in ("distributed", "distributed.nanny", "distributed.worker", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

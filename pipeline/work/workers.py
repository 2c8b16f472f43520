"""Workers that run one list of tasks after another: this process, its threads, or Dask workers.

Dask workers start with the first list that needs them and stay until the context ends. So a stage
that works in rounds waits for a queue once, and workers keep what they have imported and loaded.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_sections import Executor
from pipeline.errors import WorkerLost
from pipeline.work.cores import core_count
from pipeline.work.dask_workers import (
    LOST_AFTER_SECONDS,
    count_workers,
    dask_client,
    in_srun_step,
    scale_local_workers,
    workers_of_step,
)
from pipeline.work.progress_board import ProgressBoard
from pipeline.work.task import FinishedTask, Task, execute_task
from pipeline.work.task_batches import RUN_AGAIN, BatchRunner
from pipeline.work.threads import thread_pool

if TYPE_CHECKING:  # so that a command without workers need not import Dask
    import distributed

SMALL_WORK_BYTES = 256_000_000
"""With `workers: auto`, threads of this process do the work up to this size of input: Dask's
processes take 2-3 s to start."""
MOST_THREADS = 8
"""Maximum number of threads: between calls into C (reading, encoding, writing) they hold Python's
global lock, so more would wait for each other."""


class Workers:
    """The workers that an `Executor` section asks for; `workers` makes them."""

    def __init__(self, executor: Executor, running: ExitStack) -> None:
        """Take the section, and the context that ends what is started here."""
        self._executor = executor
        self._running = running
        self._client: distributed.Client | None = None
        self._batches: BatchRunner | None = None
        self._dask_workers = 0
        self._gone_since: float | None = None

    @contextmanager
    def finished_tasks(
        self, tasks: Sequence[Task], records: Path, board: ProgressBoard
    ) -> Generator[Iterator[FinishedTask]]:
        """Run the tasks, and yield them as they finish; leaving the context stops the others.

        `records` is the folder of their records, below the stage's folder.
        """
        threads = self._thread_count(tasks)
        if threads == 1:
            yield ((task, execute_task(task, records, board.sender(task.name))) for task in tasks)
        elif threads:
            with thread_pool(threads) as pool:
                futures = {
                    pool.submit(execute_task, task, records, board.sender(task.name)): task
                    for task in tasks
                }
                yield ((futures[future], future.result()) for future in as_completed(futures))
        else:
            batches = self._started_batches(len(tasks), records.parent)
            yield batches.run(tasks, records, self._dask_workers, board)

    def _thread_count(self, tasks: Sequence[Task]) -> int:
        """Return the number of threads of this process that do the work; 0 for Dask workers."""
        executor = self._executor
        if not tasks:
            return 1
        if executor.uses_slurm:
            return 0
        is_one_task = len(tasks) == 1
        if executor.workers != "auto":
            is_one_at_a_time = executor.workers == 1 or is_one_task
            return 1 if is_one_at_a_time else 0
        is_small = is_one_task or sum(task.size for task in tasks) <= SMALL_WORK_BYTES
        if is_small or core_count() == 1:
            return min(core_count(), MOST_THREADS)
        return 0

    def _started_batches(self, tasks: int, folder: Path) -> BatchRunner:
        """Start Dask workers for a number of tasks, or add to those of earlier lists what lacks."""
        executor = self._executor
        wanted = executor.workers
        if executor.uses_slurm and in_srun_step():
            wanted = workers_of_step()
        elif wanted == "auto":
            wanted = core_count()
        # Jobs are asked for once, so all that the run file sets.
        if not executor.uses_slurm:
            wanted = min(wanted, tasks)

        if self._client is None or self._batches is None:
            self._client = self._running.enter_context(dask_client(executor, wanted, folder))
            self._batches = BatchRunner(self._client, self._look_after)
            self._dask_workers = wanted
        elif wanted > self._dask_workers:
            scale_local_workers(self._client, wanted)
            self._dask_workers = wanted
        return self._batches

    def _look_after(self) -> None:
        """Start local workers again that are gone for good; raise WorkerLost where none comes back.

        Dask replaces workers that die, but not one that dies while it starts. Jobs are replaced.
        """
        assert self._client is not None, "tasks run on its workers"
        is_step = in_srun_step()
        if self._executor.uses_slurm and not is_step:
            return
        if not self._executor.uses_slurm:
            scale_local_workers(self._client, self._dask_workers)
        if count_workers(self._client) > 0:
            self._gone_since = None
            return
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since > LOST_AFTER_SECONDS:
            where = "of this srun step" if is_step else "on this machine"
            raise WorkerLost(f"all workers {where} are gone, and none starts again; {RUN_AGAIN}")


@dataclass
class _Keeper:
    """Workers that are kept: of each section, what was made for it."""

    running: ExitStack
    by_section: dict[str, Workers] = field(default_factory=dict[str, Workers])


_keepers: list[_Keeper] = []
"""The contexts of `kept_workers` that are open, the innermost last."""


@contextmanager
def workers(executor: Executor) -> Generator[Workers]:
    """Yield the workers that the run file asks for, for `run_tasks`; they end with the context.

    Within `kept_workers` they are those that an equal section had before, and end with that context.
    """
    if not _keepers:
        with ExitStack() as running:
            yield Workers(executor, running)
        return
    keeper = _keepers[-1]
    section = executor.model_dump_json()
    if section not in keeper.by_section:
        keeper.by_section[section] = Workers(executor, keeper.running)
    yield keeper.by_section[section]


@contextmanager
def kept_workers() -> Generator[None]:
    """Keep workers from one stage to the next, so that they start, or wait in a queue, once."""
    with ExitStack() as running:
        _keepers.append(_Keeper(running))
        try:
            yield
        finally:
            _keepers.pop()

"""Tasks on Dask workers, several in one message: what one costs the scheduler is shared by all.

The client holds back what has not been sent, so Dask never has more than a few batches a worker,
however long the list is. A batch grows while its tasks are short. A worker that has spent
BATCH_SECONDS on a batch gives back the tasks that it has not begun, so a long task never holds
others back. Records are written task by task: a worker that is killed loses only its current task.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import UserError, WorkerLost, first_of
from pipeline.work.progress_board import ProgressBoard
from pipeline.work.task import FinishedTask, Task, TaskResult, execute_task, stored_result

if TYPE_CHECKING:  # so that a command without workers need not import Dask
    import distributed

BATCH_SECONDS = 1.0
"""Time after which a worker begins no further task of a batch. Sending a batch takes the client and
the scheduler some 5 ms."""
MOST_TASKS = 256
"""Tasks in a batch: at 1 kB each its message is small beside the 64 MB that Dask warns of."""
BATCHES_A_WORKER = 2
"""Batches that are with a worker or on their way: it works on one while the next one waits."""
SHARES_A_WORKER = 4
"""A batch is at most one of so many shares for each worker of the tasks that are left, so that all
workers end at about the same time."""
LOOK_SECONDS = 20.0
"""Time between two looks whether all workers are there."""
PROGRESS_TOPIC = "pipeline-progress"
"""Dask's topic for progress reports."""
RUN_AGAIN = "run the same command again: what is finished is kept."
"""Remedy for lost workers."""
MOST_NAMED = 5
"""Tasks that killed their workers, in a message."""
GONE = f"the process that schedules the tasks is gone; {RUN_AGAIN}"


@dataclass(frozen=True)
class TaskBatch:
    """Tasks that one message brings to a worker. Dask does not look into it."""

    list_number: int
    """Number of the tasks' list among those of the client, for progress reports."""
    tasks: tuple[Task, ...]
    records: Path
    """Folder of the tasks' records."""


@dataclass(frozen=True)
class FinishedBatch:
    """What a worker has done of a batch: its first tasks, at least one."""

    results: list[TaskResult | UserError]
    """Result of each task, or the mistake of the user that it found."""
    counts: list[dict[str, int] | None]
    """Counts of each task's last progress report."""
    seconds: float
    """Time that they took."""


@dataclass
class BatchSize:
    """Decides how many tasks the next batch has."""

    workers: int
    _tasks: int = field(default=1, init=False)

    def next_batch(self, waiting: int) -> int:
        """Return the number of tasks of the next batch, of those that wait to be sent."""
        share = waiting // (self.workers * SHARES_A_WORKER)
        return max(1, min(self._tasks, share))

    def learn(self, tasks: int, seconds: float) -> None:
        """Take the time of a finished batch: the next ones grow by at most a factor of 2."""
        fitting = MOST_TASKS
        if seconds > 0:
            fitting = int(min(MOST_TASKS, BATCH_SECONDS * tasks / seconds))
        self._tasks = max(1, min(2 * self._tasks, fitting))


class BatchRunner:
    """Runs lists of tasks, one after another, on the workers of a Dask client."""

    def __init__(self, client: "distributed.Client", look_after: Callable[[], None]) -> None:
        """Take the client, and what repairs its workers, or raises WorkerLost, while it waits."""
        self._client = client
        self._look_after = look_after
        self._lists = 0
        self._board: ProgressBoard | None = None
        client.subscribe_topic(PROGRESS_TOPIC, self._receive)

    def run(
        self, tasks: Sequence[Task], records: Path, workers: int, board: ProgressBoard
    ) -> Iterator[FinishedTask]:
        """Run tasks on `workers` Dask workers and yield them as they finish.

        Raises WorkerLost, and whatever a task raises that is not a UserError.
        """
        self._lists += 1
        self._board = board
        batches = _ListOfTasks(self._client, self._lists, tasks, records, workers)
        looked = time.monotonic()
        while batches.are_left:
            ended = batches.next_finished()
            if time.monotonic() - looked >= LOOK_SECONDS:
                self._look_after()
                looked = time.monotonic()
            for task, result, counts in ended:
                if counts is not None:
                    board.report(task.name, 1.0, counts)
                yield task, result

    def _receive(self, event: tuple[float, tuple[int, str, float, dict[str, int]]]) -> None:
        """Take a report from a worker, `(time, (list, task, fraction, counts))`."""
        _, (list_number, task, fraction, counts) = event
        # A report of an earlier list may be late.
        if list_number == self._lists and self._board is not None:
            self._board.report(task, fraction, counts)


class _ListOfTasks:
    """A list of tasks on its way through Dask."""

    def __init__(
        self,
        client: "distributed.Client",
        number: int,
        tasks: Sequence[Task],
        records: Path,
        workers: int,
    ) -> None:
        self._client = client
        self._number = number
        self._records = records
        self._most_batches = workers * BATCHES_A_WORKER
        self._size = BatchSize(workers)
        self._waiting = deque(tasks)
        # Tasks whose workers were killed, perhaps by others that these workers had at hand.
        self._suspects: deque[Task] = deque()
        # Without a reference to its future, Dask forgets a result.
        self._sent: dict[distributed.Future[FinishedBatch], TaskBatch] = {}
        self._ended: SimpleQueue[distributed.Future[FinishedBatch]] = SimpleQueue()
        self._has_only_suspects = False
        self._killers: list[str] = []
        self._batches = 0

    @property
    def are_left(self) -> bool:
        """Whether some tasks have not ended."""
        return bool(self._waiting or self._sent or self._suspects or self._killers)

    def next_finished(self) -> list[tuple[Task, TaskResult | UserError, dict[str, int] | None]]:
        """Wait for a batch; return its tasks that have ended, with results and last counts.

        Returns none of them where no batch ends for some time. Raises WorkerLost.
        """
        import distributed
        from distributed.client import ClosedClientError, FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            self._send_batches()
            future = self._ended.get(timeout=LOOK_SECONDS)
        except Empty:
            return []
        except ClosedClientError:
            raise WorkerLost(GONE) from None

        batch = self._sent.pop(future)
        try:
            done = future.result()
        except distributed.KilledWorker:
            self._divide(batch)
            return []
        except (ClosedClientError, FutureCancelledError, CommClosedError):
            raise WorkerLost(GONE) from None

        # The worker has not begun the others.
        self._size.learn(len(done.results), done.seconds)
        begun = batch.tasks[: len(done.results)]
        self._waiting.extendleft(reversed(batch.tasks[len(begun) :]))
        return list(zip(begun, done.results, done.counts, strict=True))

    def _send_batches(self) -> None:
        """Give every worker a batch, and the next one at hand; suspects alone, when all else ended."""
        while self._waiting and len(self._sent) < self._most_batches:
            count = self._size.next_batch(len(self._waiting))
            self._send(tuple(self._waiting.popleft() for _ in range(count)))
        if self._sent:
            return
        if self._suspects:
            self._send((self._suspects.popleft(),))
            self._has_only_suspects = True
        elif self._killers:
            _refuse_killers(self._killers)

    def _send(self, tasks: tuple[Task, ...]) -> None:
        batch = TaskBatch(self._number, tasks, self._records)
        self._batches += 1
        future = self._client.submit(
            _execute_batch,
            batch,
            # Another client of this scheduler has other keys.
            key=f"batch-{self._client.id}-{self._number}-{self._batches}",
            # Without a priority, Dask would run the last batch first.
            priority=-self._batches,
        )
        self._sent[future] = batch
        future.add_done_callback(self._ended.put)

    def _divide(self, batch: TaskBatch) -> None:
        """Send the tasks of a batch, each by itself, whose workers were killed again and again.

        Dask counts a death against all that the worker had at hand. So a task is blamed only when
        it was the only one that had been sent.
        """
        first, *others = batch.tasks
        if others:
            for task in batch.tasks:
                self._send((task,))
        elif self._has_only_suspects:
            self._killers.append(first.name)
        else:
            self._suspects.append(first)


def _refuse_killers(names: Sequence[str]) -> NoReturn:
    raise WorkerLost(
        f"{first_of(names, MOST_NAMED)}: its worker process was killed several times in a row, most often "
        "because memory ran out (a worker needs 1 GB plus 6 times the size of its largest "
        "document; one that scores as much as its model), or because its job ran out of "
        "time. Use fewer executor.workers, to score fewer evaluation.workers (on one "
        f"machine), or a larger memory_per_worker or time_limit (in jobs), then {RUN_AGAIN}"
    ) from None


def _execute_batch(batch: TaskBatch) -> FinishedBatch:
    """Run the tasks of a batch in a Dask worker until BATCH_SECONDS have passed."""
    started = time.monotonic()
    results: list[TaskResult | UserError] = []
    counts: list[dict[str, int] | None] = []
    for task in batch.tasks:
        # A worker that was killed, or that could not send what it had done, has done some of them.
        result: TaskResult | UserError | None = stored_result(task, batch.records)
        report = _Reports(batch.list_number, task)
        if result is None:
            result = execute_task(task, batch.records, report.send)
        results.append(result)
        counts.append(report.last_counts)
        if time.monotonic() - started >= BATCH_SECONDS:
            break
    return FinishedBatch(results, counts, time.monotonic() - started)


class _Reports:
    """The progress reports of a task in a Dask worker: events, and the last one with the result."""

    def __init__(self, list_number: int, task: Task) -> None:
        from distributed import get_worker

        self._worker = get_worker()
        self._list_number = list_number
        self._task = task
        self.last_counts: dict[str, int] | None = None

    def send(self, fraction: float, counts: dict[str, int]) -> None:
        self.last_counts = counts
        if fraction < 1:
            event = (self._list_number, self._task.name, fraction, counts)
            self._worker.log_event(PROGRESS_TOPIC, event)

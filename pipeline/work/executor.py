"""Run a list of independent tasks, each once, in this process or on Dask workers.

A task's record is written after its outputs are complete, and a task whose record has the same
fingerprint is skipped. So an interrupted stage continues where it was, even with other workers.
Reads and writes the records in the stage's folder.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from pipeline.config.run_sections import Executor
from pipeline.errors import Interrupted, TasksFailed, UserError, WorkerLost, out_of_space
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import task_records
from pipeline.store.records import SizedFile
from pipeline.work.cores import core_count
from pipeline.work.dask_workers import dask_client
from pipeline.work.progress_board import ProgressBoard, Send, progress_board

if TYPE_CHECKING:  # so that a command without workers need not import Dask
    import distributed

Item = TypeVar("Item")
Made = TypeVar("Made")

SMALL_WORK_BYTES = 256_000_000
"""With `workers: auto`, threads of this process do the work up to this size of input: Dask's
processes take 2-3 s to start."""
MOST_THREADS = 8
"""Maximum number of threads: between calls into C (reading, encoding, writing) they hold Python's
global lock, so more would wait for each other."""
ITEMS_AHEAD = 2
"""Items of one task that `map_ahead` computes ahead of the caller."""
REPORT_SECONDS = 0.5
"""Shortest time between two progress reports of a task."""
PROGRESS_TOPIC = "pipeline-progress"
"""Dask's topic for progress reports."""
RUN_AGAIN = "run the same command again: what is finished is kept."
"""Remedy for lost workers."""


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(**arguments)` returns a JSON mapping, a TypedDict."""

    name: str
    """Unique name, also of the task's record."""
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    fingerprint: str
    """Hash of everything that changes the outputs."""
    size: float = 1.0
    """Size of the input, in bytes if nothing else is said."""

    def record_path(self, records: Path) -> Path:
        """Return the JSON file of the task's record in the folder of records."""
        return records / f"{self.name}.json"


class TaskResult(TypedDict, total=False):
    """The part of every task's result that this module reads; each kind of task has more."""

    files: Mapping[str, SizedFile]
    """Path below the stage's folder -> size of the output."""


class TaskRecord(TypedDict):
    """Record that is written when a task is done."""

    fingerprint: str
    """Fingerprint of the task."""
    seconds: float
    """Time that the task took."""
    result: TaskResult


def run_tasks(
    tasks: Sequence[Task],
    folder: Path,
    executor: Executor,
    label: str,
    unit: str = "bytes of input",
    largest_first: bool = True,
) -> dict[str, Any]:
    """Run the tasks that are not done yet; return name -> result, whose type the caller declares.

    `unit`: of the tasks' sizes, for people. They begin in their order if not the largest first.
    A task that raises UserError does not stop the others; when all are done, TasksFailed is raised
    with all messages. A full disk (OutOfSpace), lost workers (WorkerLost) and any other exception
    stop the run.
    """
    # A task is done if its record has the same fingerprint and its outputs exist.
    records = task_records(folder)
    results: dict[str, Any] = {}
    for task in tasks:
        record: TaskRecord | None = read_json(task.record_path(records))
        if not record or record["fingerprint"] != task.fingerprint:
            continue
        if _outputs_exist(record["result"], folder):
            results[task.name] = record["result"]

    # The outputs of the other tasks are about to be overwritten, so their records go first.
    waiting = [task for task in tasks if task.name not in results]
    for task in waiting:
        task.record_path(records).unlink(missing_ok=True)
    for stale in set(records.glob("*.json")) - {task.record_path(records) for task in tasks}:
        stale.unlink()

    # The last ones to finish should be small.
    if largest_first:
        waiting.sort(key=lambda task: -task.size)
    problems: set[str] = set()
    with (
        progress_board(label, _sizes(tasks), _sizes(waiting), unit) as board,
        _finished_tasks(waiting, records, executor, board) as finished,
    ):
        for task, result in finished:
            if isinstance(result, UserError):
                problems.add(str(result))
            else:
                results[task.name] = result
            board.finish(task.name)
    if problems:
        raise TasksFailed("\n".join(sorted(problems)))
    return {task.name: results[task.name] for task in tasks}


def report_progress(fraction: float, **counts: int) -> None:
    """Report, from inside a task, the fraction that is done (0 to 1) and what it has made so far.

    Cheap to call often. `text_bytes` gives the rate; other counts are printed by name. Raises
    Interrupted in a thread of this process after Ctrl-C.
    """
    if _stopping.is_set():
        raise Interrupted("stopped")
    send = getattr(_current, "send", None)
    last = getattr(_current, "last", 0.0)
    if send and (time.monotonic() - last >= REPORT_SECONDS or fraction >= 1):
        _current.last = time.monotonic()
        send(fraction, counts)


def map_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `function(item)` in order, for use inside a task.

    Where threads of this process do the work, they also compute `ITEMS_AHEAD` items ahead of the
    caller. So the last task, or the only one, is not left to one core. Elsewhere this is `map`.
    """
    if _helpers is None:
        yield from map(function, items)
        return
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(_helpers.submit(function, item))
            if len(waiting) > ITEMS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


_current = threading.local()
"""In a thread that runs a task: `send`, which reports its progress, and `last`, when it did."""
_stopping = threading.Event()
"""Set while the tasks in threads have to end."""
_helpers: ThreadPoolExecutor | None = None
"""Threads for `map_ahead`, while threads of this process do the work."""


def _sizes(tasks: Sequence[Task]) -> dict[str, float]:
    return {task.name: task.size for task in tasks}


def _outputs_exist(result: TaskResult, folder: Path) -> bool:
    """Tell whether the files that a task's result lists exist in their full size."""
    for name, record in result.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return False
    return True


def _execute(task: Task, records: Path, send: Send) -> TaskResult | UserError:
    """Run a task and write its record; return its result, or the UserError that it raised.

    Raises OutOfSpace where the disk is full; the task then has no record.
    """
    _current.send = send
    started = time.monotonic()
    try:
        result: TaskResult = task.function(**task.arguments)
        seconds = round(time.monotonic() - started, 3)
        record: TaskRecord = {
            "fingerprint": task.fingerprint,
            "seconds": seconds,
            "result": result,
        }
        write_json(task.record_path(records), record)
        return result
    except Interrupted:
        raise
    except UserError as error:
        # Only the message crosses process boundaries.
        return UserError(str(error))
    except OSError as error:
        full = out_of_space(error, records.parent)
        if full:
            raise full from None
        raise
    finally:
        _current.send = None


FinishedTask = tuple[Task, TaskResult | UserError]
"""A task, and its result or the mistake that it found."""


@contextmanager
def _finished_tasks(
    tasks: Sequence[Task], records: Path, executor: Executor, board: ProgressBoard
) -> Generator[Iterator[FinishedTask]]:
    """Run the tasks with the workers that `executor` sets, and yield them as they finish.

    Leaving the context ends the threads or workers that were started for them.
    """
    threads = _thread_count(tasks, executor)
    if threads == 1:
        yield ((task, _execute(task, records, board.sender(task.name))) for task in tasks)
    elif threads:
        with _thread_pool(threads) as pool:
            futures = {
                pool.submit(_execute, task, records, board.sender(task.name)): task
                for task in tasks
            }
            yield ((futures[future], future.result()) for future in as_completed(futures))
    else:
        workers = executor.workers
        if workers == "auto":
            workers = core_count()
        with dask_client(executor, min(workers, len(tasks)), records.parent) as client:
            client.subscribe_topic(PROGRESS_TOPIC, board.receive)
            yield _on_dask(client, tasks, records)


def _thread_count(tasks: Sequence[Task], executor: Executor) -> int:
    """Return the number of threads of this process that do the work; 0 for Dask workers."""
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


@contextmanager
def _thread_pool(threads: int) -> Generator[ThreadPoolExecutor]:
    global _helpers
    pool = ThreadPoolExecutor(threads)
    _helpers = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        # After an error or Ctrl-C, the running tasks end at their next progress report.
        _stopping.set()
        pool.shutdown(cancel_futures=True)
        _helpers.shutdown(cancel_futures=True)
        _helpers = None
        _stopping.clear()


def _on_dask(
    client: "distributed.Client", tasks: Sequence[Task], records: Path
) -> Iterator[FinishedTask]:
    """Run tasks on Dask workers and yield them as they finish. Raises WorkerLost."""
    import distributed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    # Without a priority, Dask would run the last tasks first.
    futures: dict[distributed.Future[TaskResult | UserError], Task] = {}
    for number, task in enumerate(tasks):
        key = f"{task.name}-{task.fingerprint}"
        future = client.submit(_execute_on_dask, task, records, key=key, priority=-number)
        futures[future] = task

    finished = cast(
        "Iterator[distributed.Future[TaskResult | UserError]]",
        distributed.as_completed(list(futures)),
    )
    for future in finished:
        # Without a reference to the future, Dask can forget its result.
        task = futures.pop(future)
        try:
            yield task, future.result()
        except distributed.KilledWorker:
            raise WorkerLost(
                f"{task.name}: its worker process was killed several times in a row, most often "
                "because memory ran out (a worker needs 1 GB plus 6 times the size of its largest "
                "document; one that scores as much as its model), or because its job ran out of "
                "time. Use fewer executor.workers, to score fewer evaluation.workers (on one "
                f"machine), or a larger memory_per_worker or time_limit (in jobs), then {RUN_AGAIN}"
            ) from None
        except (FutureCancelledError, CommClosedError):
            raise WorkerLost(
                f"{task.name}: the process that schedules the tasks is gone; {RUN_AGAIN}"
            ) from None


def _execute_on_dask(task: Task, records: Path) -> TaskResult | UserError:
    """Run a task in a Dask worker, with its progress reports sent as events."""
    from distributed import get_worker

    worker = get_worker()

    def send(fraction: float, counts: dict[str, int]) -> None:
        worker.log_event(PROGRESS_TOPIC, (task.name, fraction, counts))

    return _execute(task, records, send)

"""Run a list of independent tasks, and never one twice: in this process, or on Dask workers
wherever they are.

A task's record is written after its outputs are complete; a task whose record carries the same
fingerprint is skipped. So an interrupted stage goes on where it was, whatever the number and place
of the workers then and now.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config.run_sections import Executor
from pipeline.errors import Interrupted, TasksFailed, UserError, WorkerLost, out_of_space
from pipeline.logs import RecentRate, counted_noun, human_bytes, progress
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import task_records
from pipeline.work.dask_workers import connect

Item = TypeVar("Item")
Made = TypeVar("Made")

SMALL_WORK_BYTES = 256_000_000
"""With `workers: auto`, less input than this is done by threads here: Dask's processes take 2-3 s
to come up."""
MOST_THREADS = 8
"""What runs between calls into C (reading, encoding, writing) holds Python's lock, so more would
wait for each other."""
ITEMS_AHEAD = 2
"""Of each task, in `map_ahead`."""
REPORT_SECONDS = 0.5
PROGRESS_TOPIC = "pipeline-progress"


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(**arguments)` returns a JSON mapping, a TypedDict."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    fingerprint: str
    """Of everything that changes the outputs."""
    size: float = 1.0
    """Bytes of input."""


Outcome = tuple[Task, Any]
"""A task, and its result or a UserError."""


def run_tasks(
    tasks: Sequence[Task], folder: Path, executor: Executor, label: str
) -> dict[str, Any]:
    """Run what is not done yet and return each task's result by name; the caller names its type.

    A task that raises UserError does not stop the others; afterwards TasksFailed with all messages
    is raised. A full disk (OutOfSpace), lost workers (WorkerLost) and any other exception stop the
    run.
    """
    records = task_records(folder)
    done: dict[str, Any] = {}
    for task in tasks:
        record = read_json(records / f"{task.name}.json")
        if (
            record
            and record["fingerprint"] == task.fingerprint
            and _outputs_exist(record["result"], folder)
        ):
            done[task.name] = record["result"]
    waiting = [task for task in tasks if task.name not in done]
    for task in waiting:  # its outputs are about to be overwritten
        (records / f"{task.name}.json").unlink(missing_ok=True)
    for stale in set(records.glob("*.json")) - {records / f"{task.name}.json" for task in tasks}:
        stale.unlink()
    waiting.sort(key=lambda task: -task.size)  # the last ones to finish should be small
    problems = set()
    with (
        _board(label, tasks, waiting) as board,
        _outcomes(waiting, records, executor, board) as outcomes,
    ):
        for task, outcome in outcomes:
            if isinstance(outcome, UserError):
                problems.add(str(outcome))
            else:
                done[task.name] = outcome
            board.finish(task)
    if problems:
        raise TasksFailed("\n".join(sorted(problems)))
    return {task.name: done[task.name] for task in tasks}


def report_progress(fraction: float, **counts: int) -> None:
    """Say, from inside a task, how much of it is done (0 to 1) and what it has made so far; cheap
    to call often.

    `text_bytes` gives the rate; other counts are shown by name. Also where a task of this process
    notices Ctrl-C.
    """
    if _stopping.is_set():
        raise Interrupted("stopped")
    send = getattr(_current, "send", None)
    last = getattr(_current, "last", 0.0)
    if send and (time.monotonic() - last >= REPORT_SECONDS or fraction >= 1):
        _current.last = time.monotonic()
        send(fraction, counts)


def map_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `function(item)` in order, from inside a task.

    Where threads of this process do the work they share all tasks' items, and are some ahead of
    what has been taken: so the last task, or the only one, is not left to one core. Elsewhere this
    is `map`.
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
_stopping = threading.Event()
_helpers: ThreadPoolExecutor | None = None


def _outputs_exist(result: Any, folder: Path) -> bool:
    """Tell whether the files that a task lists are there in their full size."""
    for name, record in result.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return False
    return True


def _execute(task: Task, records: Path, send: Callable[[float, dict[str, int]], None]) -> Any:
    """Run a task and keep its record. A full disk raises UserError; the task is then not marked
    done."""
    _current.send = send
    started = time.monotonic()
    try:
        result = task.function(**task.arguments)
        seconds = round(time.monotonic() - started, 3)
        record = {"fingerprint": task.fingerprint, "seconds": seconds, "result": result}
        write_json(records / f"{task.name}.json", record)
        return result
    except Interrupted:
        raise
    except UserError as error:
        return UserError(str(error))  # only the message crosses process boundaries
    except OSError as error:
        full = out_of_space(error, records.parent)
        if full:
            raise full from None
        raise
    finally:
        _current.send = None


@contextmanager
def _outcomes(
    tasks: Sequence[Task], records: Path, executor: Executor, board: "_Board"
) -> Iterator[Iterator[Outcome]]:
    """Choose where the tasks run; leaving the context ends whatever was started for them."""
    threads = _threads(tasks, executor)
    if threads == 1:
        yield ((task, _execute(task, records, board.sender(task))) for task in tasks)
    elif threads:
        with _thread_pool(threads) as pool:
            futures = {
                pool.submit(_execute, task, records, board.sender(task)): task for task in tasks
            }
            yield ((futures[future], future.result()) for future in as_completed(futures))
    else:
        workers = core_count() if executor.workers == "auto" else executor.workers
        with connect(executor, min(workers, len(tasks)), records.parent) as client:
            client.subscribe_topic(PROGRESS_TOPIC, lambda event: board.report(*event[1]))
            yield _on_dask(client, tasks, records)


def _threads(tasks: Sequence[Task], executor: Executor) -> int:
    """Return how many threads of this process do the work; 0 for Dask workers."""
    if not tasks:
        return 1
    if executor.kind == "slurm":
        return 0
    if executor.workers != "auto":
        return 1 if executor.workers == 1 or len(tasks) == 1 else 0
    small = len(tasks) == 1 or sum(task.size for task in tasks) <= SMALL_WORK_BYTES
    return min(core_count(), MOST_THREADS) if small or core_count() == 1 else 0


@cache
def core_count() -> int:
    """Return the number of cores that this process may use; a container's share of a large machine
    counts.

    (dask.system knows the same, but takes longer to import than 20 MB of text to encode.)
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    for read in (_cgroup2_cores, _cgroup1_cores):
        with suppress(OSError, ValueError):  # not there, or `max`
            return max(1, min(cores, ceil(read())))
    return cores


def _cgroup2_cores() -> float:
    group = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
    quota, period = map(int, (Path("/sys/fs/cgroup") / group / "cpu.max").read_text().split())
    return quota / period


def _cgroup1_cores() -> float:
    quota, period = (
        int(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text())
        for name in ("quota", "period")
    )
    if quota < 0:
        raise ValueError("no quota")
    return quota / period


@contextmanager
def _thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    global _helpers
    pool = ThreadPoolExecutor(threads)
    _helpers = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:  # on an error or Ctrl-C the running tasks end at their next report
        _stopping.set()
        pool.shutdown(cancel_futures=True)
        _helpers.shutdown(cancel_futures=True)
        _helpers = None
        _stopping.clear()


def _on_dask(client: Any, tasks: Sequence[Task], records: Path) -> Iterator[Outcome]:
    from distributed import KilledWorker
    from distributed import as_completed as as_completed_on_dask
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    futures = {}
    for number, task in enumerate(
        tasks
    ):  # in this order: without a priority, Dask takes the last ones first
        key = f"{task.name}-{task.fingerprint}"
        futures[client.submit(_execute_on_dask, task, records, key=key, priority=-number)] = task
    for future in as_completed_on_dask(list(futures)):
        task = futures.pop(future)
        try:
            yield task, future.result()
        except KilledWorker:
            raise WorkerLost(
                f"{task.name}: the process that worked on it was killed several times in a row, "
                "most often for want of "
                "memory (a worker needs 1 GB and 6 times its largest document) or, as a job, of "
                "time. Give it more "
                "(executor.workers, memory_per_worker, time_limit), then run the same command "
                "again: what is finished "
                f"is kept."
            ) from None
        except (FutureCancelledError, CommClosedError):
            raise WorkerLost(
                f"{task.name}: the process that gives out the tasks is gone. Run the same command "
                "again: what is finished "
                f"is kept."
            ) from None


def _execute_on_dask(task: Task, records: Path) -> Any:
    from distributed import get_worker

    worker = get_worker()
    return _execute(
        task,
        records,
        lambda fraction, counts: worker.log_event(PROGRESS_TOPIC, (task.name, fraction, counts)),
    )


class _Board:
    """Adds up what tasks report, from any thread, into one line of progress."""

    def __init__(
        self,
        sizes: dict[str, float],
        done_bytes: float,
        update: Callable[[float, str], None],
        tasks: int,
    ) -> None:
        self._sizes = sizes
        self._done_bytes = done_bytes
        self._update = update
        self._tasks = tasks
        self._lock = threading.Lock()
        self._fractions: dict[str, float] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._left = len(sizes)
        self._text_rate = RecentRate()
        self._show()

    def sender(self, task: Task) -> Callable[[float, dict[str, int]], None]:
        return lambda fraction, counts: self.report(task.name, fraction, counts)

    def report(self, task: str, fraction: float, counts: dict[str, int]) -> None:
        with self._lock:
            self._fractions[task], self._counts[task] = (
                max(fraction, self._fractions.get(task, 0.0)),
                counts,
            )
            self._show()

    def finish(self, task: Task) -> None:
        with self._lock:
            self._fractions[task.name] = 1.0
            self._left -= 1
            self._show()

    def _show(self) -> None:
        total: dict[str, int] = {}
        for counts in self._counts.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        parts = [f"{count:,} {name}" for name, count in total.items() if name != "text_bytes"]
        if "text_bytes" in total:
            now = time.monotonic()
            self._text_rate.add(now, total["text_bytes"])
            rate = self._text_rate.per_second(now)
            if rate:
                parts.append(f"{human_bytes(rate)}/s")
        parts.append(f"{self._tasks - self._left:,} of {counted_noun(self._tasks, 'task')}")
        completed = self._done_bytes + sum(
            self._sizes[name] * part for name, part in self._fractions.items()
        )
        self._update(completed, ", ".join(parts))


@contextmanager
def _board(label: str, tasks: Sequence[Task], waiting: Sequence[Task]) -> Iterator[_Board]:
    total = sum(task.size for task in tasks)
    left = sum(task.size for task in waiting)
    with progress(label, total, "bytes of input") as update:
        yield _Board({task.name: task.size for task in waiting}, total - left, update, len(tasks))

"""Run a list of independent tasks, in this process or on Dask workers, and never one twice.

A task's record is written after its outputs are complete; a task whose record carries the same fingerprint is skipped.
So an interrupted stage goes on where it was, whatever the number of workers then and now.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json, write_json
from pipeline.errors import UserError
from pipeline.logs import progress

RECORDS = ".tasks"
"""Folder, below a stage's folder, of the records of finished tasks."""


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(**arguments)` returns a JSON mapping."""

    name: str
    function: Callable[..., dict[str, Any]]
    arguments: dict[str, Any]
    fingerprint: str
    """Of everything that changes the outputs."""
    size: float = 1.0
    """Relative amount of work, for the progress bar."""


def worker_count(workers: int | str) -> int:
    """Return the number of processes; `auto` is the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else max(1, int(workers))


def run_tasks(
    tasks: Sequence[Task], folder: Path, workers: int | str, label: str, unit: str = "tasks"
) -> dict[str, dict[str, Any]]:
    """Run what is not done yet and return each task's result by name.

    A task that raises UserError does not stop the others; afterwards one error with all messages is raised. Any other
    exception stops the run.
    """
    records = folder / RECORDS
    done: dict[str, dict[str, Any]] = {}
    for task in tasks:
        record = read_json(records / f"{task.name}.json")
        if record and record["fingerprint"] == task.fingerprint and _outputs_exist(record["result"], folder):
            done[task.name] = record["result"]
    waiting = [task for task in tasks if task.name not in done]
    for task in waiting:  # its outputs are about to be overwritten
        (records / f"{task.name}.json").unlink(missing_ok=True)
    for stale in set(records.glob("*.json")) - {records / f"{task.name}.json" for task in tasks}:
        stale.unlink()
    count = min(worker_count(workers), len(waiting))
    finished = _in_this_process(waiting, records) if count <= 1 else _on_dask(waiting, records, count)
    problems = []
    completed = sum(task.size for task in tasks if task.name in done)
    with progress(label, sum(task.size for task in tasks), unit) as update:
        update(completed, "")
        for task, outcome in finished:
            if isinstance(outcome, UserError):
                problems.append(str(outcome))
            else:
                done[task.name] = outcome
            completed += task.size
            update(completed, f"{len(done)} of {len(tasks)} tasks")
    if problems:
        raise UserError("\n".join(sorted(problems)))
    return {task.name: done[task.name] for task in tasks}


def _outputs_exist(result: dict[str, Any], folder: Path) -> bool:
    """Tell whether the files that a task lists are there in their full size."""
    for name, record in result.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return False
    return True


def _execute(task: Task, records: Path) -> dict[str, Any] | UserError:
    started = time.monotonic()
    try:
        result = task.function(**task.arguments)
    except UserError as error:
        return UserError(str(error))  # only the message crosses process boundaries
    seconds = round(time.monotonic() - started, 3)
    write_json(records / f"{task.name}.json", {"fingerprint": task.fingerprint, "seconds": seconds, "result": result})
    return result


def _in_this_process(tasks: Sequence[Task], records: Path) -> Iterator[tuple[Task, dict[str, Any] | UserError]]:
    for task in tasks:
        yield task, _execute(task, records)


def _on_dask(tasks: Sequence[Task], records: Path, workers: int) -> Iterator[tuple[Task, dict[str, Any] | UserError]]:
    """Give tasks to local Dask workers; a worker that is killed is started again and its task repeated."""
    import dask.config
    from distributed import Client, LocalCluster, as_completed

    for name in ("distributed", "distributed.nanny", "distributed.worker", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = {
        "distributed.worker.memory.terminate": False,  # a large document is no leak
        "distributed.worker.daemon": True,
        "distributed.scheduler.allowed-failures": 5,
        "distributed.admin.tick.limit": "10m",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=None,  # pyright: ignore[reportArgumentType] (documented: no dashboard)
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        futures = {
            client.submit(_execute, task, records, key=f"{task.name}-{task.fingerprint}"): task for task in tasks
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def report_progress(fraction: float, **counts: int) -> None:
    """Say how much of the running task is done."""

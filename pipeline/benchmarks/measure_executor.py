"""Measure how a list of tasks that only write their records is run, alone in a fresh process.

`python -m pipeline.benchmarks.measure_executor NAME FOLDER TASKS WORKERS` calls one function of this
module and prints one line of JSON. Client and scheduler are this process, the workers are others; so
its CPU time is theirs. What starting the workers costs is not measured.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config.run_sections import Executor
from pipeline.store.layout import task_records
from pipeline.work.dask_workers import dask_client
from pipeline.work.executor import run_tasks
from pipeline.work.stored_results import record_files
from pipeline.work.task import Task, TaskResult, execute_task
from pipeline.work.workers import workers

FIRST_TASKS = 4
"""Tasks of each worker in the list before the measured one: workers have then imported all."""


def write_only_the_record(number: int) -> TaskResult:
    """Do nothing, so that only the record is written."""
    return {"files": {}}


def run_in_batches(folder: Path, tasks: int, count: int) -> dict[str, float]:
    """Run the tasks as a stage does, with workers kept from the list before."""
    with workers(Executor(workers=count)) as crew:
        run_tasks(_tasks(FIRST_TASKS * count), folder / "first", crew, "start")
        return _seconds(lambda: run_tasks(_tasks(tasks), folder, crew, "benchmark"))


def submit_each(folder: Path, tasks: int, count: int) -> dict[str, float]:
    """Submit each task by itself, all at once: the plainest use of Dask."""
    with dask_client(Executor(workers=count), count, folder) as client:

        def run(submitted: Sequence[Task]) -> None:
            import distributed

            futures = [client.submit(_execute_alone, task, folder) for task in submitted]
            for future in distributed.as_completed(futures):
                future.result()

        run(_tasks(FIRST_TASKS * count, "first"))
        return _seconds(lambda: run(_tasks(tasks)))


def read_records(folder: Path, tasks: int, count: int) -> dict[str, float]:
    """Run tasks that are all done: a restart."""
    finished = len(list(record_files(task_records(folder))))
    assert finished == tasks, f"{finished} records"
    with workers(Executor(workers=count)) as crew:
        return _seconds(lambda: run_tasks(_tasks(tasks), folder, crew, "benchmark"))


def _tasks(count: int, name: str = "item") -> list[Task]:
    return [
        Task(f"{name}-{number}", write_only_the_record, {"number": number}, f"{number:032x}")
        for number in range(count)
    ]


def _execute_alone(task: Task, folder: Path) -> TaskResult:
    """Run a task in a worker, without reports of its progress."""
    result = execute_task(task, task_records(folder), lambda fraction, counts: None)
    assert not isinstance(result, Exception)
    return result


def _seconds(work: Callable[[], object]) -> dict[str, float]:
    """Return the CPU and wall seconds of some work; threads of this process count, workers do not."""
    began = time.monotonic()
    cpu_before = time.process_time()
    work()
    return {
        "cpu_seconds": time.process_time() - cpu_before,
        "wall_seconds": time.monotonic() - began,
    }


MEASUREMENTS: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    function.__name__: function for function in (run_in_batches, submit_each, read_records)
}
"""Name on the command line -> function."""


def main() -> None:
    """Call the named function and print its seconds."""
    _, name, folder, tasks, count = sys.argv
    print(json.dumps(MEASUREMENTS[name](Path(folder), int(tasks), int(count))))


if __name__ == "__main__":
    main()

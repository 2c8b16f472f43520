"""A program with two lists of tasks in one set of workers, for tests of every way to start them.

`python two_lists.py FOLDER EXECUTOR` takes the folder of the records and the section `executor` as
JSON. Writes FOLDER/lists.json: for each list, the process and the Slurm job of each task. Between the
lists the workers have nothing to do.
"""

import os
import socket
import sys
import time
from pathlib import Path

from pipeline.config.run_sections import Executor
from pipeline.store.files import write_json
from pipeline.work.dask_workers import srun_step_roles
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import workers

TASKS = 40
WORKERS = 2
MOST_WAIT_SECONDS = 60
"""On a busy machine one worker starts long after the other."""
PAUSE_SECONDS = 4
"""Dask's adaptive clusters look once a second whether they have idle workers."""


def name_the_worker(folder: Path, number: int) -> dict[str, str]:
    """Return who does this task, once every worker has begun one."""
    process = f"{socket.gethostname()}-{os.getpid()}"
    (folder / f"{process}.worker").touch()
    deadline = time.monotonic() + MOST_WAIT_SECONDS
    while len(list(folder.glob("*.worker"))) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    return {"process": process, "job": os.environ.get("SLURM_JOB_ID", "")}


def main() -> None:
    """Run both lists."""
    folder = Path(sys.argv[1])
    executor = Executor.model_validate_json(sys.argv[2])
    lists: list[list[dict[str, str]]] = []
    with srun_step_roles(executor, folder), workers(executor) as crew:
        for label in ("first", "second"):
            # The same names and fingerprints: only the folder tells the lists apart.
            tasks = [
                Task(f"task_{number}", name_the_worker, {"folder": folder, "number": number}, "v1")
                for number in range(TASKS)
            ]
            lists.append(list(run_tasks(tasks, folder / label, crew, label).values()))
            time.sleep(PAUSE_SECONDS)
    write_json(folder / "lists.json", lists)


if __name__ == "__main__":
    main()

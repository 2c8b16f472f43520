"""Run a list of independent tasks, each once, in this process or on Dask workers.

A task's record is written after its outputs are complete, and a task whose record has the same
fingerprint is skipped. So an interrupted stage continues where it was, even with other workers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import TasksFailed, UserError
from pipeline.store.layout import task_records
from pipeline.store.manifests.shard_places import needs_parts
from pipeline.work.kept_tasks import count_kept
from pipeline.work.progress_board import progress_board
from pipeline.work.stored_results import stored_results
from pipeline.work.task import Task
from pipeline.work.workers import Workers


def run_tasks(
    tasks: Sequence[Task],
    folder: Path,
    workers: Workers,
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
    records = task_records(folder)
    if needs_parts(len(tasks)):
        tasks = [task.in_part() for task in tasks]
    results: dict[str, Any] = dict(stored_results(tasks, records))
    count_kept(folder, len(results))
    waiting = [task for task in tasks if task.name not in results]

    # The last ones to finish should be small.
    if largest_first:
        waiting.sort(key=lambda task: -task.size)
    problems: set[str] = set()
    with (
        progress_board(label, _sizes(tasks), _sizes(waiting), unit) as board,
        workers.finished_tasks(waiting, records, board) as finished,
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


def _sizes(tasks: Sequence[Task]) -> dict[str, float]:
    return {task.name: task.size for task in tasks}

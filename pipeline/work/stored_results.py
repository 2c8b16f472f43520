"""The results of tasks that are done already, read from their records in threads.

Reads the records in a stage's folder and deletes those that nobody asks for.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pipeline.work.task import Task, TaskResult, stored_result

READING_THREADS = 16
"""Records that are read at a time: on a network file system each one waits for a server."""
RECORDS_IN_A_CALL = 100
"""Records that a thread reads before it asks for more."""


def stored_results(tasks: Sequence[Task], records: Path) -> dict[str, TaskResult]:
    """Return name -> result of the tasks that are done, and delete all other records.

    The outputs of tasks that have to run are about to be overwritten, so their records go before.
    Raises DataError where a record is damaged.
    """
    if not records.is_dir():
        return {}
    stored = {path.name: path for path in record_files(records)}
    asked = [task for task in tasks if task.record_name in stored]

    def read(part: Sequence[Task]) -> list[TaskResult | None]:
        # A record stays where it is, also where the list has grown, or shrunk, since.
        return [
            stored_result(replace(task, part=_part_of(stored[task.record_name], records)), records)
            for task in part
        ]

    starts = range(0, len(asked), RECORDS_IN_A_CALL)
    parts = [asked[start : start + RECORDS_IN_A_CALL] for start in starts]
    results: dict[str, TaskResult] = {}
    kept: set[str] = set()
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for part, found in zip(parts, pool.map(read, parts), strict=True):
            for task, result in zip(part, found, strict=True):
                if result is not None:
                    results[task.name] = result
                    kept.add(task.record_name)

    for name, path in stored.items():
        if name not in kept:
            path.unlink(missing_ok=True)
    return results


def record_files(records: Path) -> Iterator[Path]:
    """Yield the records in a folder, and in its parts."""
    yield from records.glob("*.json")
    yield from records.glob("??/*.json")


def _part_of(path: Path, records: Path) -> str:
    """Return the part that a record lies in."""
    if path.parent == records:
        return ""
    return path.parent.name

"""`pipeline benchmark executor`: what running a task costs the process that directs the workers.

The tasks only write their records. Their lists are run in batches, as stages run them, and once with
one submission for each task; then a restart reads all records. Each part runs in a fresh process
(`measure_executor.py`). Reads and writes temporary files on the disk of `folder`; writes JSON.
"""

import tempfile
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import met_or_missed, run_python, show_table, write_results
from pipeline.logs import console, note
from pipeline.work.task_batches import MOST_TASKS

MEASURING_MODULE = "pipeline.benchmarks.measure_executor"
MOST_SUBMITTED = 5_000
"""Tasks that are submitted one by one, at most: each costs the same, and 100,000 take minutes."""
MOST_OF_SUBMISSION = 0.25
"""Largest share of the CPU time of a submission that a task in a batch should cost."""
LIMIT_MILLISECONDS = 3.0
"""CPU time that a task should cost client and scheduler at most."""
LIMIT_RESTART_SECONDS = 60.0
"""Time in which a restart should read the records of 100,000 tasks from a local disk."""
RESTART_TASKS = 100_000


class PartOfExecutor(TypedDict):
    """One part of the measurement."""

    tasks: int
    cpu_seconds: float
    """CPU time of client and scheduler together."""
    wall_seconds: float
    cpu_milliseconds_per_task: float


class ExecutorResults(TypedDict):
    """What the JSON file holds."""

    workers: int
    batches: PartOfExecutor
    """A list of tasks, run as stages run it."""
    submissions: PartOfExecutor
    """One submission for each task."""
    restart: PartOfExecutor
    """The list of tasks again, when all are done."""
    share_of_submission: float
    """CPU time of a task in a batch / of one that is submitted alone."""
    limit_milliseconds_per_task: float
    """CPU time of a task if only messages cost: one submission / the most tasks of a batch."""


def benchmark_executor(tasks: int, workers: int, folder: Path | None, output: Path) -> None:
    """Measure all parts once, print a table and write JSON."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-", dir=folder) as scratch:
        batched = Path(scratch, "batches")
        batches = _measure("run_in_batches", batched, tasks, workers)
        restart = _measure("read_records", batched, tasks, workers)
        submitted = min(tasks, MOST_SUBMITTED)
        submissions = _measure("submit_each", Path(scratch, "submissions"), submitted, workers)

    alone = submissions["cpu_milliseconds_per_task"]
    results: ExecutorResults = {
        "workers": workers,
        "batches": batches,
        "submissions": submissions,
        "restart": restart,
        "share_of_submission": batches["cpu_milliseconds_per_task"] / alone,
        "limit_milliseconds_per_task": alone / MOST_TASKS,
    }
    _show_results(results)
    write_results(output, results)


def _measure(function: str, folder: Path, tasks: int, workers: int) -> PartOfExecutor:
    """Return the measurement by a function of `measure_executor`."""
    note(f"benchmark: {function.replace('_', ' ')}, {tasks:,} tasks")
    seconds = run_python(MEASURING_MODULE, function, str(folder), str(tasks), str(workers)).measured
    return {
        "tasks": tasks,
        "cpu_seconds": seconds["cpu_seconds"],
        "wall_seconds": seconds["wall_seconds"],
        "cpu_milliseconds_per_task": seconds["cpu_seconds"] / tasks * 1000,
    }


def _show_results(results: ExecutorResults) -> None:
    # A row for each part.
    parts = {
        "in batches": results["batches"],
        "one submission each": results["submissions"],
        "a restart, all done": results["restart"],
    }
    rows = [
        [
            name,
            f"{part['tasks']:,}",
            f"{part['wall_seconds']:.1f}",
            f"{part['cpu_seconds']:.2f}",
            f"{part['cpu_milliseconds_per_task']:.3f}",
        ]
        for name, part in parts.items()
    ]
    show_table(
        f"Tasks that only write their records, {results['workers']} workers on this machine: CPU time "
        "of client and scheduler",
        ("part", "tasks", "seconds", "CPU seconds", "CPU ms a task"),
        rows,
    )

    # What is wanted, and whether it is reached.
    share = results["share_of_submission"]
    per_task = results["batches"]["cpu_milliseconds_per_task"]
    restart = results["restart"]["wall_seconds"] / results["restart"]["tasks"] * RESTART_TASKS
    console.print(
        f"a task in a batch: {share:.1%} of a submission ({MOST_OF_SUBMISSION:.0%} at most wanted: "
        f"{met_or_missed(share <= MOST_OF_SUBMISSION)}), {per_task:.3f} ms "
        f"({LIMIT_MILLISECONDS:g} at most wanted: {met_or_missed(per_task <= LIMIT_MILLISECONDS)}); "
        f"messages alone: {results['limit_milliseconds_per_task']:.3f} ms"
    )
    console.print(
        f"restart: {restart:.1f} s for {RESTART_TASKS:,} records ({LIMIT_RESTART_SECONDS:g} at most "
        f"wanted: {met_or_missed(restart <= LIMIT_RESTART_SECONDS)})"
    )

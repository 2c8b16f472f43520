"""Tasks that travel in batches: how many, what is given back, what a killed worker loses."""

import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.config.run_sections import Executor
from pipeline.errors import WorkerLost
from pipeline.work.dask_workers import WORKER_SETTINGS
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task, TaskResult
from pipeline.work.task_batches import BATCH_SECONDS, MOST_TASKS, BatchSize
from pipeline.work.workers import workers

TWO = Executor(workers=2)


def test_a_batch_grows_with_short_tasks_and_shrinks_with_long_ones() -> None:
    size = BatchSize(workers=2)
    many = 100_000
    assert size.next_batch(many) == 1
    grown: list[int] = []
    for _ in range(10):
        size.learn(size.next_batch(many), 0.001)
        grown.append(size.next_batch(many))
    assert grown[:4] == [2, 4, 8, 16]
    assert grown[-1] == MOST_TASKS
    # 256 tasks in 64 s: 4 in a second.
    size.learn(256, 64 * BATCH_SECONDS)
    assert size.next_batch(many) == 4
    size.learn(1, 60.0)
    assert size.next_batch(many) == 1
    size.learn(1, 0.0)
    assert size.next_batch(many) == 2


def test_the_last_batches_are_small() -> None:
    size = BatchSize(workers=2)
    for _ in range(10):
        size.learn(256, 0.1)
    # A quarter of each worker's share.
    assert [size.next_batch(left) for left in (4096, 2048, 800, 16, 7, 1)] == [
        256,
        256,
        100,
        2,
        1,
        1,
    ]


def note_run(number: int, log: Path) -> TaskResult:
    with log.open("a") as file:
        file.write(f"{number} {os.getpid()} {time.monotonic()}\n")
    return {}


def sleep_at_times(number: int, log: Path) -> TaskResult:
    """Take no time for the first tasks, so that batches grow, then more than a batch may take."""
    if number >= 60:
        time.sleep(BATCH_SECONDS + 0.1)
    return note_run(number, log)


def die_once_each(number: int, log: Path) -> TaskResult:
    """Kill the worker at the first attempt of two tasks: more than a batch may lose workers."""
    note_run(number, log)
    died = log.with_name(f"died-{number}")
    if 30 <= number < 32 and not died.exists():
        died.touch()
        # Dask gives up a worker that dies before it has fully started.
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die_at_13(number: int, log: Path) -> TaskResult:
    note_run(number, log)
    if number == 13:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def runs(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()]


def tasks(function: object, log: Path, count: int) -> list[Task]:
    assert callable(function)
    return [Task(f"task_{i}", function, {"number": i, "log": log}, "v1") for i in range(count)]


@pytest.mark.ranks
def test_what_a_worker_has_not_begun_it_gives_back_and_each_task_runs_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with workers(TWO) as crew:
        results = run_tasks(tasks(sleep_at_times, log, 64), tmp_path, crew, "x")
    assert len(results) == 64
    assert sorted(runs(log)) == list(range(64))
    # Both workers had some of the four long tasks, although one batch could have held all.
    last = [line.split()[1] for line in log.read_text().splitlines() if int(line.split()[0]) >= 60]
    assert len(set(last)) == 2


@pytest.mark.ranks
def test_a_batch_that_loses_its_worker_repeats_only_the_task_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKER_SETTINGS, "distributed.scheduler.allowed-failures", 0)
    log = tmp_path / "log"
    with workers(TWO) as crew:
        results = run_tasks(tasks(die_once_each, log, 100), tmp_path, crew, "x")
        assert len(results) == 100
        # Two tasks took two attempts, all others one.
        assert sorted(runs(log)) == sorted([*range(100), 30, 31])

        # A task that always kills its worker is named; the others of its list are done.
        with pytest.raises(
            WorkerLost, match="task_13: its worker process was killed several times"
        ):
            run_tasks(tasks(die_at_13, tmp_path / "log2", 40), tmp_path / "two", crew, "x")
    done = {path.stem for path in (tmp_path / "two" / ".tasks").iterdir()}
    assert done == {f"task_{i}" for i in range(40) if i != 13}

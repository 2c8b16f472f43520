"""Workers that stay from one list of tasks to the next."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from pipeline.config.run_sections import Executor
from pipeline.errors import WorkerLost
from pipeline.store.rank_environment import ALLOCATOR_VARIABLE
from pipeline.work.dask_workers import WORKER_SETTINGS
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import SMALL_WORK_BYTES, Workers, kept_workers, workers


def who(number: int) -> dict[str, int | str]:
    time.sleep(0.1)
    return {"process": os.getpid(), "thread": threading.current_thread().name, "number": number}


def processes(crew: Workers, folder: Path, label: str, count: int, size: float = 1) -> set[int]:
    tasks = [Task(f"{label}_{i}", who, {"number": i}, label, size) for i in range(count)]
    results = run_tasks(tasks, folder / label, crew, label)
    assert [result["number"] for result in results.values()] == list(range(count))
    return {result["process"] for result in results.values()}


def retire_all() -> None:
    """Retire all workers of the current client, and wait until their processes have ended."""
    client = distributed.default_client()
    pids: dict[str, int] = client.run(os.getpid)
    ending = [psutil.Process(pid) for pid in pids.values()]
    client.retire_workers(list(pids))
    psutil.wait_procs(ending, timeout=60)


def test_one_worker_and_threads_are_this_process(tmp_path: Path) -> None:
    for setting in (1, "auto"):
        with workers(Executor(workers=setting)) as crew:
            for label in ("first", "second"):
                folder = tmp_path / str(setting)
                assert processes(crew, folder, label, 3) == {os.getpid()}


def test_kept_workers_are_those_of_an_equal_section(tmp_path: Path) -> None:
    section = Executor(workers=1)
    with kept_workers():
        with workers(section) as first:
            pass
        # A stage that failed does not end them.
        with pytest.raises(ValueError, match="of a stage"), workers(Executor(workers=1)) as again:
            assert again is first
            raise ValueError("of a stage")
        with workers(Executor(workers=2)) as other, workers(section) as third:
            assert other is not first and third is first
            assert processes(third, tmp_path, "kept", 2) == {os.getpid()}
    with workers(section) as later:
        assert later is not first


@pytest.mark.ranks
def test_processes_are_kept_grow_are_replaced_and_end_with_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.work.task_batches.LOOK_SECONDS", 0.5)
    monkeypatch.setitem(WORKER_SETTINGS, "distributed.deploy.lost-worker-timeout", "1s")
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv(ALLOCATOR_VARIABLE, "glibc.pthread.rseq=1")
    before = dict(os.environ)
    with workers(Executor(workers=3)) as crew:
        # A single task needs no process.
        assert processes(crew, tmp_path, "alone", 1) == {os.getpid()}
        two = processes(crew, tmp_path, "two", 2)
        assert len(two) == 2 and os.getpid() not in two
        assert processes(crew, tmp_path, "again", 2) <= two

        # They start with one thread, and with the settings that keep freed memory.
        client: Any = distributed.default_client()
        threads: dict[str, str] = client.run(os.environ.get, "OMP_NUM_THREADS")
        assert set(threads.values()) == {"1"}
        malloc: dict[str, str] = client.run(os.environ.get, ALLOCATOR_VARIABLE)
        for found in malloc.values():
            assert found.startswith("glibc.pthread.rseq=1:glibc.malloc.mmap")

        # The third process starts while the two work; a busy machine takes its time.
        three = set(two)
        deadline = time.monotonic() + 60
        while len(three) < 3 and time.monotonic() < deadline:
            three |= processes(crew, tmp_path, f"three-{time.monotonic_ns()}", 20)
        assert len(three) == 3

        # Workers that Dask has given up are started again, also those that die while they start.
        start = distributed.Nanny.start_unsafe
        dying = [RuntimeError("died while it started")] * 3

        async def start_at_last(nanny: distributed.Nanny) -> distributed.Nanny:
            if dying:
                raise dying.pop()
            return await start(nanny)

        monkeypatch.setattr(distributed.Nanny, "start_unsafe", start_at_last)
        retire_all()
        others = processes(crew, tmp_path, "others", 8)
        assert others and not others & three and not dying

        # A list whose workers do not start at all ends; those that are still starting may start.
        distributed.default_client().wait_for_workers(3, timeout=60)
        dying += [RuntimeError("died while it started")] * 1000
        monkeypatch.setattr("pipeline.work.workers.LOST_AFTER_SECONDS", 1)
        retire_all()
        with pytest.raises(
            WorkerLost, match="all workers on this machine are gone, and none start"
        ):
            processes(crew, tmp_path, "never", 4)
    # What this process starts next gets nothing of it.
    assert dict(os.environ) == before
    for process in three | others:
        assert not psutil.pid_exists(process)


@pytest.mark.ranks
def test_a_list_too_large_for_threads_starts_processes_after_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.work.workers.core_count", lambda: 2)
    with workers(Executor(workers="auto")) as crew:
        assert processes(crew, tmp_path, "small", 4) == {os.getpid()}
        assert os.getpid() not in processes(crew, tmp_path, "large", 4, SMALL_WORK_BYTES)
        assert processes(crew, tmp_path, "small-again", 4) == {os.getpid()}

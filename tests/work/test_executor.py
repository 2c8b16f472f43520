"""Tasks in this process and on workers: done once, resumed after failures, the same whoever runs
them."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config.run_sections import Executor
from pipeline.errors import DataError, OutOfSpace, UserError
from pipeline.store.files import read_json
from pipeline.store.layout import task_records
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task, report_progress
from pipeline.work.workers import workers

HERE = Executor(workers=1)
THREADS = Executor(workers="auto")
TWO = Executor(workers=2)
EXECUTORS = [
    pytest.param(HERE, id="here"),
    pytest.param(THREADS, id="threads"),
    pytest.param(TWO, id="processes", marks=pytest.mark.ranks),
]


def run(tasks: list[Task], folder: Path, executor: Executor, label: str) -> dict[str, Any]:
    with workers(executor) as crew:
        return run_tasks(tasks, folder, crew, label)


def square(number: int, log: Path) -> dict[str, Any]:
    with log.open("a") as file:
        file.write(f"{number}\n")
    return {"square": number * number}


def refuse_odd(number: int, log: Path) -> dict[str, Any]:
    square(number, log)
    if number % 2:
        raise DataError(f"file {number}: is odd")
    return {"number": number}


def die_once(number: int, log: Path) -> dict[str, Any]:
    """Kill the worker at task 1's first attempt."""
    marker = log.with_suffix(".died")
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number, log)


def fail(number: int, log: Path) -> dict[str, Any]:
    square(number, log)
    return {"x": 1 / (number - 1)}


def tasks(function: Any, log: Path, count: int = 4, fingerprint: str = "v1") -> list[Task]:
    return [
        Task(f"task_{i}", function, {"number": i, "log": log}, fingerprint) for i in range(count)
    ]


def executed(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split())) if log.exists() else []


def test_results_come_in_the_tasks_order_with_records(tmp_path: Path) -> None:
    results = run(tasks(square, tmp_path / "log"), tmp_path, HERE, "square")
    assert results == {f"task_{i}": {"square": i * i} for i in range(4)}
    assert list(results) == [f"task_{i}" for i in range(4)]
    record = read_json(task_records(tmp_path) / "task_3.json")
    assert (record["fingerprint"], record["result"]) == ("v1", {"square": 9})


def test_what_is_done_is_skipped_and_what_changed_is_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(tasks(square, log, 3), tmp_path, HERE, "square")
    again = run(tasks(square, log, 4), tmp_path, HERE, "square")  # one task more
    assert again["task_3"] == {"square": 9}
    assert executed(log) == [0, 1, 2, 3]
    run(tasks(square, log, 2, fingerprint="v2"), tmp_path, HERE, "square")
    assert executed(log) == [0, 0, 1, 1, 2, 3]
    left = sorted(path.name for path in task_records(tmp_path).iterdir())
    assert left == [
        "task_0.json",
        "task_1.json",
    ]  # records of tasks that are no longer asked for are gone


def test_a_task_whose_output_went_missing_runs_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    task = Task("write", write_file, {"folder": tmp_path, "log": log}, "v1")
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("ab")):
        run([task], tmp_path, HERE, "write")
        damage(tmp_path / "out.txt")
    run([task], tmp_path, HERE, "write")
    run([task], tmp_path, HERE, "write")
    assert executed(log) == [1, 1, 1]


def write_file(folder: Path, log: Path) -> dict[str, Any]:
    square(1, log)
    (folder / "out.txt").write_text("abc")
    return {"files": {"out.txt": {"bytes": 3, "checksum": ""}}}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_users_mistake_in_one_task_does_not_stop_the_others(
    tmp_path: Path, executor: Executor
) -> None:
    log = tmp_path / "log"
    with pytest.raises(UserError) as error:
        run(tasks(refuse_odd, log), tmp_path, executor, "refuse")
    assert str(error.value) == "file 1: is odd\nfile 3: is odd"
    assert executed(log) == [0, 1, 2, 3]
    run(
        [task for task in tasks(refuse_odd, log) if task.name in ("task_0", "task_2")],
        tmp_path,
        HERE,
        "x",
    )
    assert executed(log) == [0, 1, 2, 3]


def test_it_goes_on_after_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ZeroDivisionError):
        run(tasks(fail, log), tmp_path, HERE, "fail")
    assert executed(log) == [0, 1]
    results = run(tasks(square, log), tmp_path, HERE, "square")  # the fault is mended
    assert executed(log) == [0, 1, 1, 2, 3]
    assert results["task_0"] == {"x": -1.0}


@pytest.mark.ranks
def test_a_killed_worker_is_replaced_and_its_task_repeated(tmp_path: Path) -> None:
    log = tmp_path / "log"
    results = run(tasks(die_once, log), tmp_path / "two", TWO, "die")
    assert log.with_suffix(".died").exists()
    assert set(executed(log)) == {0, 1, 2, 3}
    assert results == run(
        tasks(die_once, log), tmp_path / "one", HERE, "die"
    )  # the same with one worker


INTERRUPTED = """
import sys, time
from pathlib import Path
from pipeline.config.run_sections import Executor
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task, report_progress
from pipeline.work.workers import workers

def slow(number):
    if number:
        print("waiting", flush=True)
        for _ in range(600):
            time.sleep(0.1)
            report_progress(0.5)
    return {"number": number}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    tasks = [Task(f"task_{i}", slow, {"number": i}, "v1", 3 - i) for i in range(3)]
    with workers(Executor(workers=sys.argv[2])) as crew:
        run_tasks(tasks, folder, crew, "slow")
"""


def living(group: int) -> list[list[str]]:
    """Return the command lines of a process group's members that have not ended 120 s from now."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):  # it has ended meanwhile
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    _, alive = psutil.wait_procs(members, timeout=120)
    return [p.cmdline() for p in alive]


@pytest.mark.ranks
@pytest.mark.parametrize("workers", ["1", "auto", "2"])
def test_ctrl_c_stops_everything_and_keeps_what_is_done(tmp_path: Path, workers: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), workers],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    deadline = time.monotonic() + 120
    while not (task_records(tmp_path) / "task_0.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert living(process.pid) == []
    assert [path.name for path in task_records(tmp_path).iterdir()] == ["task_0.json"]


def fill_the_disk(number: int, log: Path) -> dict[str, Any]:
    square(number, log)
    if number == 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "big.bin")
    return {"number": number}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_full_disk_stops_the_run_and_marks_nothing_done(
    tmp_path: Path, executor: Executor
) -> None:
    log = tmp_path / "log"
    with pytest.raises(
        OutOfSpace, match=r"big\.bin: cannot be written: No space left on device\. Free some space"
    ):
        run(tasks(fill_the_disk, log), tmp_path, executor, "fill")
    assert not (task_records(tmp_path) / "task_1.json").exists()
    times = executed(log).count(0)
    is_done = (task_records(tmp_path) / "task_0.json").exists()
    assert is_done or executor is TWO  # whose workers may be killed before they can say so
    run(tasks(square, log), tmp_path, HERE, "square")
    assert executed(log).count(0) == (1 if is_done else times + 1)


def count_to_ten(number: int, log: Path) -> dict[str, Any]:
    for i in range(11):
        report_progress(i / 10, documents=i, text_bytes=1000 * i)
    return square(number, log)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_progress_inside_tasks_is_added_up_wherever_they_run(
    tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[float, str]] = []

    @contextmanager
    def collect(label: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        yield lambda completed, detail: shown.append((completed, detail))

    monkeypatch.setattr("pipeline.work.progress_board.progress", collect)
    run(tasks(count_to_ten, tmp_path / "log"), tmp_path, executor, "count")
    assert shown[0] == (0, "0 of 4 tasks")
    completed, detail = shown[-1]
    assert completed == 4
    assert detail.startswith("40 documents, ") and detail.endswith("4 of 4 tasks")
    assert [completed for completed, _ in shown] == sorted(completed for completed, _ in shown)

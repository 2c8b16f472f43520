"""Records of finished tasks, read in threads."""

from pathlib import Path

import pytest

from pipeline.config.run_sections import Executor
from pipeline.errors import DataError
from pipeline.store.files import write_json
from pipeline.work.executor import run_tasks
from pipeline.work.stored_results import RECORDS_IN_A_CALL, record_files, stored_results
from pipeline.work.task import Task, TaskResult
from pipeline.work.workers import workers

MANY = 2 * RECORDS_IN_A_CALL + 1


def made(number: int) -> TaskResult:
    return {"files": {f"{number}.bin": {"bytes": number}}}


def tasks(count: int) -> list[Task]:
    return [Task(f"task_{i}", made, {"number": i}, f"v{i}") for i in range(count)]


def finish(tasks: list[Task], folder: Path) -> Path:
    """Write outputs and records as if the tasks had run; return the folder of records."""
    records = folder / ".tasks"
    records.mkdir()
    for task in tasks:
        number = task.arguments["number"]
        (folder / f"{number}.bin").write_bytes(bytes(number))
        record = {"fingerprint": task.fingerprint, "seconds": 0.0, "result": made(number)}
        write_json(task.record_path(records), record)
    return records


def test_results_of_many_calls_are_those_of_the_tasks(tmp_path: Path) -> None:
    records = finish(tasks(MANY), tmp_path)
    found = stored_results(tasks(MANY), records)
    assert found == {f"task_{i}": made(i) for i in range(MANY)}
    assert len(list(records.iterdir())) == MANY


def test_records_that_say_nothing_of_the_tasks_are_deleted(tmp_path: Path) -> None:
    records = finish(tasks(6), tmp_path)
    (tmp_path / "2.bin").unlink()
    (tmp_path / "3.bin").write_bytes(b"of another size")
    (tmp_path / "4.bin").unlink()
    (tmp_path / "4.bin").mkdir()
    asked = tasks(5)
    asked[0] = Task("task_0", made, {"number": 0}, "another fingerprint")
    assert stored_results(asked, records) == {"task_1": made(1)}
    assert [path.name for path in records.iterdir()] == ["task_1.json"]


def test_a_damaged_record_is_named_and_nothing_is_deleted(tmp_path: Path) -> None:
    records = finish(tasks(3), tmp_path)
    (records / "task_1.json").write_text("{")
    with pytest.raises(DataError, match=r"task_1\.json: is damaged .* Delete it"):
        stored_results(tasks(2), records)
    assert len(list(records.iterdir())) == 3


def test_records_of_a_long_list_lie_in_parts_and_older_ones_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.manifests.shard_places.MOST_ITEMS_IN_A_FOLDER", 4)
    records = finish(tasks(3), tmp_path)
    for number in (3, 4):
        (tmp_path / f"{number}.bin").write_bytes(bytes(number))

    def run(count: int) -> None:
        with workers(Executor(workers=1)) as crew:
            results = run_tasks(tasks(count), tmp_path, crew, "parts")
        assert results == {f"task_{i}": made(i) for i in range(count)}

    # Three records of a short list, two of the longer list in their parts; all are found again.
    run(5)
    lying = {
        path.name: path.parent.relative_to(records).as_posix() for path in record_files(records)
    }
    assert [lying[f"task_{i}.json"] for i in range(3)] == ["."] * 3
    assert [lying[f"task_{i}.json"] for i in (3, 4)] == [
        task.in_part().part for task in tasks(5)[3:]
    ]
    times = {path: path.stat().st_mtime_ns for path in record_files(records)}
    run(5)
    run(4)
    left = {path: path.stat().st_mtime_ns for path in record_files(records)}
    assert len(left) == 4 and left.items() <= times.items()


def test_without_a_folder_nothing_is_done(tmp_path: Path) -> None:
    assert stored_results(tasks(2), tmp_path / "absent") == {}

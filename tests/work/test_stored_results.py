"""Records of finished tasks, read in threads."""

from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.store.files import write_json
from pipeline.work.stored_results import RECORDS_IN_A_CALL, stored_results
from pipeline.work.task import Task, TaskResult

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


def test_without_a_folder_nothing_is_done(tmp_path: Path) -> None:
    assert stored_results(tasks(2), tmp_path / "absent") == {}

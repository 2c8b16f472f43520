"""`source.json` is checked where it is read: what lacks a part is named, never used."""

from pathlib import Path

import pytest
from stored_questions import ARC, COPA, write_task

from pipeline.cli.task_commands import list_questions, verify_questions
from pipeline.errors import DataError
from pipeline.evaluation.task_data.source_records import read_source
from pipeline.store.files import write_json
from pipeline.store.records import Json
from pipeline.store.tasks_folder import TasksFolder

FILE: Json = {"sha256": "", "rows": 1, "bytes": 1}
FLAWS: dict[str, tuple[Json, str]] = {
    "a list": ([], "it is not a JSON object"),
    "no format": ({"format": None, "files": 3}, "has an old format"),
    "without its parts": ({"format": 1, "files": {}}, "it lacks 'task'"),
    "a text as a file": ({"files": {"validation": "x"}}, "'files' is not what `pipeline tasks"),
    "no file": ({"files": {}}, "'files' is not what `pipeline tasks fetch` writes"),
    "a split of no task": ({"files": {"../x": FILE}}, "'files' is not what"),
    "a number as items": ({"items": 3}, "'items' is not what `pipeline tasks fetch` writes"),
    "no number of rows": ({"items": {"sha256": "", "bytes": 1}}, "'items' is not what"),
    "an unknown shape": ({"shape": "poem"}, "'shape' is not what"),
    "a number as licence": ({"licence": 3}, "'licence' is not what"),
    "too few examples": ({"fixed_examples": -1}, "'fixed_examples' is not what"),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_record_with_a_flaw_is_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = TasksFolder(tmp_path)
    write_task(tasks, "arc_easy", "arc", {"test": ARC})
    record = write_task(tasks, "copa", "super_glue/copa", {"validation": COPA})
    assert read_source(tasks, "copa") == record
    change, message = FLAWS[name]
    content = change
    if isinstance(change, dict) and "format" not in change:
        content = {**record, **change}
    write_json(tasks.source("copa"), content)

    # Verifying names it; the remedy fetches into the same folder.
    with pytest.raises(DataError) as raised:
        verify_questions(tmp_path)
    assert str(tasks.source("copa")) in str(raised.value)
    assert message in str(raised.value)
    assert f"pipeline tasks fetch copa --to {tmp_path}" in str(raised.value)

    # The list has the other task, and does not end.
    list_questions(tmp_path, as_json=False, with_known=False)
    printed = capsys.readouterr()
    assert "arc_easy" in printed.out + printed.err
    if "old format" not in message:
        assert f"copa is damaged: {tasks.source('copa')}" in " ".join(printed.err.split())

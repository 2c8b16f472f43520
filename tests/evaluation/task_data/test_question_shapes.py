"""JSONL questions of one's own: three shapes, joined as they are meant; wrong lines by number."""

import json
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.evaluation.known_tasks import silence_libraries
from pipeline.evaluation.task_data.question_shapes import (
    AskedAs,
    Shape,
    definition_of_shape,
    joined,
    read_questions,
)
from pipeline.evaluation.task_data.split_choice import choose_splits
from pipeline.evaluation.task_data.stored_rows import StoredRows
from pipeline.evaluation.task_data.stored_tasks import StoredTask

CHOICES = [
    {"query": f"{n} and one is", "choices": [str(n + 1), "none"], "gold": 0} for n in range(3)
]
SPACED = [{**row, "choices": [f" {text}" for text in row["choices"]]} for row in CHOICES]
SCHEMA = [
    {"context_options": [f"Ann {n}", f"Eve {n}"], "continuation": "laughs.", "gold": n % 2}
    for n in range(3)
]
CONTINUATION = [{"context": f"one two {n}", "continuation": f"three {n}"} for n in range(3)]


def written(folder: Path, rows: list[object]) -> Path:
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def built(path: Path, delimiter: str = " ", between: str = "\n\n") -> StoredTask:
    shape, table = read_questions(path)
    table, delimiter = joined(shape, table, delimiter)
    definition = definition_of_shape("own", AskedAs(shape, delimiter, between, None))
    choice = choose_splits(definition, ["test"])
    assert choice is not None
    with silence_libraries():
        return StoredTask({**definition, **choice.changes}, {"test": StoredRows(table)}, {})


def asked(task: StoredTask, shots: int = 0) -> list[tuple[str, str]]:
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(0)
    with silence_libraries():
        task.build_all_requests(limit=1, rank=0, world_size=1)
    return [request.arguments for request in task.instances]


@pytest.mark.parametrize("rows", [CHOICES, SPACED])
def test_choices_are_joined_by_one_space(tmp_path: Path, rows: list[object]) -> None:
    task = built(written(tmp_path, rows))
    assert asked(task) == [("0 and one is", " 1"), ("0 and one is", " none")]
    ((context, _), _) = asked(task, 2)
    assert sorted(context.split("\n\n")) == ["0 and one is", "1 and one is 2", "2 and one is 3"]


def test_a_delimiter_of_its_own_stands_before_each_answer(tmp_path: Path) -> None:
    task = built(written(tmp_path, CHOICES), "\nAnswer: ", "\n")
    assert asked(task)[0] == ("0 and one is", "\nAnswer: 1")
    assert "\nAnswer: 2\n" in asked(task, 2)[0][0]


def test_a_schema_puts_one_continuation_after_each_context(tmp_path: Path) -> None:
    task = built(written(tmp_path, SCHEMA))
    assert asked(task) == [("Ann 0", " laughs."), ("Eve 0", " laughs.")]
    assert "Eve 1 laughs." in asked(task, 2)[0][0]


def test_a_continuation_follows_its_context(tmp_path: Path) -> None:
    task = built(written(tmp_path, CONTINUATION))
    assert asked(task) == [("one two 0", " three 0")]
    assert "one two 1 three 1\n\n" in asked(task, 2)[0][0]


def test_fixed_examples_allow_no_others() -> None:
    shape: Shape = "choices"
    definition = definition_of_shape("own", AskedAs(shape, "", "\n\n", 5))
    assert definition["num_fewshot"] == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no question"),
        ([{"query": "a"}], "line 1: has query. A question is "),
        ([["a"]], "line 1: is no JSON object"),
        ([*CHOICES, {"query": "a", "gold": 0}], "line 4: lacks choices, which the first line has"),
        ([{**CHOICES[0], "gold": 2}], "line 1: gold = 2, but there are 2 answers, counted from 0"),
        ([{**CHOICES[0], "gold": True}], "line 1: gold = 'True' is not allowed"),
        ([{**CHOICES[0], "choices": ["a"]}], r"line 1: choices = \"\['a'\]\" is not allowed"),
        ([{**CHOICES[0], "choices": ["a", ""]}], "line 1: choices = "),
        ([{**CONTINUATION[0], "continuation": ""}], "line 1: continuation = '' is not allowed"),
    ],
)
def test_wrong_questions_are_refused_by_line(
    tmp_path: Path, rows: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(written(tmp_path, rows))


def test_a_broken_line_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"query": ')
    with pytest.raises(DataError, match=f"{path}, line 1: is no JSON"):
        read_questions(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")

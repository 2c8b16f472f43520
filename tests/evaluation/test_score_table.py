"""The table of scores holds numbers or null: a NaN of a model or of a task is named once."""

import json
import math
from pathlib import Path

import pytest
from cells_by_hand import answer, cell, question

from pipeline.evaluation.cells import Cell, write_cell
from pipeline.evaluation.score_table import scores_of_model, write_score_table
from pipeline.evaluation.suite_scores import stored_table
from pipeline.store.scores_folder import FIRST_SEED, ScoresFolder

MODEL = "step_00000010"


def write_table(
    folder: ScoresFolder, cells: dict[str, Cell], models: set[str]
) -> dict[tuple[str, str], float | None]:
    """Write cells by task and the table; return (task, metric) -> value in the file."""
    for task, content in cells.items():
        content.result["results"] = {task: {"acc,none": 0.5}}
        content.result["n-samples"] = {task: {"original": 1, "effective": 1}}
        write_cell(folder.cell(MODEL, task, 0, FIRST_SEED), content)
    write_score_table(folder, models)
    lines = folder.table.read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    return {(row["task"], row["metric"]): row["value"] for row in rows}


def choices(first: float, right: list[int]) -> Cell:
    return cell([question(0, [answer(first, "a", 1), answer(-1.0, "b", 1)], right)])


def test_a_model_that_gives_nan_is_named_and_has_no_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ScoresFolder(tmp_path)
    table = write_table(
        folder, {"broken": choices(math.nan, [0]), "sound": choices(-2.0, [1])}, {MODEL}
    )
    assert table["broken", "bits_per_byte"] is None
    assert table["sound", "bits_per_byte"] == pytest.approx(1 / math.log(2))
    printed = " ".join(capsys.readouterr().err.split())
    assert printed == (
        "warning: run@10: log-likelihoods are not numbers (NaN) in broken, so its scores there mean "
        "nothing. Look for NaN in its weights, or try another precision.dtype."
    )
    read = {(row["task"], row["metric"]) for row in stored_table(folder)}
    assert ("sound", "bits_per_byte") in read
    assert ("broken", "bits_per_byte") not in read


def test_a_question_without_a_right_answer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(ScoresFolder(tmp_path), {"riddles": choices(-2.0, [-1])}, {MODEL})
    assert table["riddles", "bits_per_byte"] is None
    assert table["riddles", "acc"] == 0.5
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.startswith("warning: riddles: 1 question without a right answer; they count")


def test_models_that_were_not_asked_for_are_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(ScoresFolder(tmp_path), {"riddles": choices(math.nan, [-1])}, {"another"})
    assert capsys.readouterr().err == ""


def test_the_counts_of_the_stage_hold_no_nan() -> None:
    result = choices(-1.0, [0]).result
    result["results"] = {"task": {"acc,none": 0.5, "f1,none": math.nan}}
    rows = scores_of_model({("task", 0, FIRST_SEED): result}, [])
    assert [row["metric"] for row in rows] == ["acc"]

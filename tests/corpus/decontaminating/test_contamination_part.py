"""The column `contamination` of the annotations, and when it is made again."""

from pathlib import Path
from typing import Any

import pytest
from helpers import digests, write_documents
from questions import words, write_questions

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import annotate
from pipeline.corpus.annotating.annotation_file import read_annotations
from pipeline.errors import ConfigError
from pipeline.store.artifacts import expected_inputs
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.files import file_record
from pipeline.store.stages import STAGES

QUESTION = words("a", 15)
TEXTS = ["nothing", f"Ü {QUESTION}!", ""]
SHARD = "web/train_00000_000.parquet"
OWN = "annotate={language: false, pii: false, signals: none, paragraphs: false, minhash: none}"


@pytest.fixture
def data(run_file: Path) -> Path:
    """Return data_dir with documents, beside a folder with the questions of a task."""
    write_documents(run_file.parent / "data", "web", "train", TEXTS)
    write_questions(run_file.parent / "tasks", "quiz", [QUESTION])
    return run_file.parent / "data"


def loaded(run_file: Path, *settings: str, tasks: str = "[quiz]") -> RunConfig:
    return load(
        run_file,
        [
            "executor.workers=1",
            OWN,
            f"select={{decontaminate: {{tasks: {tasks}}}}}",
            f"evaluation.tasks_dir={run_file.parent / 'tasks'}",
            *settings,
        ],
        needs=(),
    )


def column(data: Path) -> list[Any]:
    checksum = file_record(data / "documents" / SHARD)["checksum"]
    tables = read_annotations(data / "annotations" / SHARD, checksum, ["contamination"])
    return [value for table in tables for value in table["contamination"].to_pylist()]


def annotate_inputs(config: RunConfig) -> dict[str, Any]:
    stage = next(stage for stage in STAGES if stage.name == "annotate")
    return dict(expected_inputs(stage, config, STAGES))


def test_passages_stand_in_the_documents_row(run_file: Path, data: Path) -> None:
    annotate(loaded(run_file))
    hit = {"task": "quiz", "item": 100, "kind": "13-gram", "start": 2, "end": 3 + len(QUESTION)}
    assert column(data) == [[], [hit], []]


def test_other_questions_are_searched_for_and_a_task_that_comes_later_is_not(
    run_file: Path, data: Path
) -> None:
    config = loaded(run_file)
    annotate(config)
    before = digests(annotation_folder(config).path)
    inputs = annotate_inputs(config)
    # A task that is scored, and whose questions are fetched, makes nothing stale.
    write_questions(run_file.parent / "tasks", "riddles", [TEXTS[0] * 20])
    config = loaded(run_file, "evaluation.tasks=[riddles]")
    assert annotate_inputs(config) == inputs
    annotate(config)
    assert digests(annotation_folder(config).path) == before
    # Other questions of the same task do.
    write_questions(run_file.parent / "tasks", "quiz", [words("b", 15)])
    assert annotate_inputs(config) != inputs
    annotate(config)
    assert column(data) == [[], [], []]
    # Questions that were moved away do not.
    (run_file.parent / "tasks" / "quiz" / "items.parquet").unlink()
    assert annotate_inputs(config)["questions of public tasks"] is None


def test_short_questions_are_counted_and_searched_for_where_that_is_set(
    run_file: Path, data: Path
) -> None:
    write_questions(run_file.parent / "tasks", "quiz", [QUESTION, "Nothing!"])
    default = loaded(run_file)
    said = (
        "1 of 2 questions have fewer than 8 words and are not searched for; "
        "select.decontaminate.fewest_words: 1 searches for all"
    )
    assert said in annotate(default).closing
    assert [len(hits) for hits in column(data)] == [0, 1, 0]
    config = loaded(run_file, "select.decontaminate.fewest_words=1")
    assert annotate_inputs(config) != annotate_inputs(default)
    assert annotate(config).closing == []
    hit = {"task": "quiz", "item": 101, "kind": "whole", "start": 0, "end": 7}
    assert column(data)[0] == [hit]


def test_questions_that_are_missing_are_refused(run_file: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks the questions of riddles.*pipeline tasks fetch"):
        annotate(loaded(run_file, tasks="[quiz, riddles]"))


def test_run_file_without_the_section_has_no_such_input(run_file: Path, data: Path) -> None:
    config = load(run_file, [OWN], needs=())
    assert "questions of public tasks" not in annotate_inputs(config)

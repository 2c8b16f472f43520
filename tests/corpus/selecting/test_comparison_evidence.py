"""Evidence of contamination beside the verdicts, and what the stage says of its comparisons."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curation import write_corpus

from pipeline.cli.stage_notes import uncovered_task_lines
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import annotate
from pipeline.corpus.decontaminating.item_texts import ITEMS
from pipeline.corpus.near_duplicates.kept_comparison import ReusableSteps
from pipeline.corpus.near_duplicates.near_duplicates import NearDuplicates
from pipeline.corpus.near_duplicates.repeated_paragraphs import RepeatedParagraphs
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.comparison_evidence import comparison_lines
from pipeline.corpus.selecting.select import select
from pipeline.store.files import write_json
from pipeline.store.stages import STAGES

RUN = """\
paths: {data_dir: data, run_dir: run}
executor: {workers: 1}
sources:
  web: {kind: jsonl, paths: [web.jsonl]}
  books: {kind: jsonl, paths: [books.jsonl]}
annotate: {signals: none, language: false, pii: false, minhash: none, paragraphs: false}
select:
  decontaminate: {tasks: [quiz], common_documents: 2}
  max_removed: {default: 1}
evaluation: {tasks_dir: tasks, tasks: [quiz]}
"""
QUESTION = " ".join(f"word{number}" for number in range(15))
COMMON = " ".join(f"phrase{number}" for number in range(13))


def write_questions(tasks_dir: Path, task: str, texts: list[str]) -> None:
    rows = [
        {"id": number, "hash": "", "prompt": text, "answers": [""], "right": [0]}
        for number, text in enumerate(texts)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=ITEMS), tasks_dir / task / "items.parquet")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Return a run whose documents hold questions, one of them a common phrase."""
    data = tmp_path / "data"
    web = ["nothing", f"é {QUESTION}", *(f"{number} {COMMON}" for number in range(3))]
    write_corpus(data, "web", web)
    write_corpus(data, "books", ["nothing", "at all"])
    (tmp_path / "run.yaml").write_text(RUN)
    write_questions(tmp_path / "tasks", "quiz", [QUESTION, COMMON])
    made = load(tmp_path / "run.yaml", needs=())
    shutil.rmtree(data / "annotations")
    result = annotate(made)
    write_json(data / "annotations" / "manifest.json", {"files": result.files})
    return made


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_evidence_stays_beside_the_verdicts(config: RunConfig) -> None:
    result = select(config)
    folder = config.paths.data_dir / "selection" / "contamination"
    assert lines_of(folder / "web.jsonl") == [
        {
            "id": "web/train_0a00_000/1",
            "task": "quiz",
            "item": 0,
            "kind": "13-gram",
            "gram": " ".join(QUESTION.split()[:13]),
            "start": 2,
            "end": 2 + len(QUESTION),
        }
    ]
    assert lines_of(folder / "web.common.jsonl") == [
        {"gram": COMMON, "documents": 3, "questions": [{"task": "quiz", "item": 1}]}
    ]
    # A source without any has no file; those that are there are listed.
    assert sorted(path.name for path in folder.iterdir()) == ["web.common.jsonl", "web.jsonl"]
    assert {"contamination/web.jsonl", "contamination/web.common.jsonl"} <= {*result.files}
    assert (
        "questions of tasks: found in 1 document, 1 removed, 0 cut; 1 n-gram left out as common"
        in result.closing
    )
    assert (
        "1 question found in 3 documents does not count there: more than "
        "select.decontaminate.common_documents different texts of the source hold the same words; "
        "listed in contamination/<source>.common.jsonl" in result.closing
    )


def test_a_task_that_is_scored_and_not_searched_for_is_named(config: RunConfig) -> None:
    stage = next(stage for stage in STAGES if stage.name == "select")
    assert uncovered_task_lines(stage, config) == []
    run_file = config.paths.data_dir.parent / "run.yaml"
    write_questions(run_file.parent / "tasks", "riddles", [COMMON])
    (line,) = uncovered_task_lines(
        stage, load(run_file, ["evaluation.tasks=[quiz, riddles]"], needs=())
    )
    assert line.startswith(
        "select.decontaminate does not cover riddles, which `evaluation` asks for"
    )
    without = load(run_file, ["select.decontaminate=null"], needs=())
    assert uncovered_task_lines(stage, without) == []


def test_number_of_rounds_is_said() -> None:
    near = NearDuplicates({}, {}, 5089, 172, 43, 2, 721, 0, 25, ReusableSteps("", {}, [], []))
    assert comparison_lines(near, None, None) == [
        "near-duplicates: 172 of 5,089 documents share a band with others, the largest group has "
        "25; 721 pairs compared in 2 rounds, 43 documents removed"
    ]
    paragraphs = RepeatedParagraphs({}, {}, 146, 10, 1200)
    assert comparison_lines(None, paragraphs, None) == [
        "10 of 146 paragraphs are repeats and were cut (1,200 characters)"
    ]
    assert comparison_lines(None, None, None) == []

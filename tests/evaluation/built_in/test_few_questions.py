"""Built-in tasks with fewer questions than asked for are found."""

from pathlib import Path

from pipeline.config.evaluation_section import Evaluation
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.evaluation.built_in.built_in_tasks import write_tasks
from pipeline.evaluation.built_in.few_questions import tasks_with_fewer_questions


def test_fewer_questions_than_asked_for_are_found(tmp_path: Path) -> None:
    settings = Evaluation(limit=6, heldout_bytes=0)
    write_tasks(
        tmp_path, all_documents(tmp_path), [], {"arithmetic": (0,), "patterns": (0,)}, settings
    )
    path = tmp_path / "arithmetic.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    path = tmp_path / "pattern_count.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    fewer = tasks_with_fewer_questions(tmp_path, ["arithmetic", "patterns", "copa"], 6)
    # The three kinds of patterns share the six questions.
    assert fewer == {"arithmetic": (2, 6), "pattern_count": (1, 2)}

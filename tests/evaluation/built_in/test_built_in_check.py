"""Built-in tasks with too few solved examples are refused; those with few questions are found."""

from pathlib import Path

import pytest

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.evaluation.built_in.built_in_check import (
    check_built_in_tasks,
    tasks_with_fewer_questions,
)
from pipeline.evaluation.built_in.built_in_tasks import write_tasks
from pipeline.store.stages import STAGES


@pytest.mark.parametrize(
    ("name", "task", "shots"),
    [("arithmetic", "arithmetic", 5000), ("patterns", "pattern_count", 400)],
)
def test_more_examples_than_there_are_are_refused(
    run_file: Path, name: str, task: str, shots: int
) -> None:
    tasks = f"evaluation.tasks=[{name}]"
    with pytest.raises(ConfigError) as refused:
        check_built_in_tasks(load(run_file, [tasks, f"evaluation.shots=[0, {shots}]"]))
    text = str(refused.value)
    assert f"evaluation.shots = {shots}: {task!r} is made here, with " in text
    assert "set fewer examples, or leave the task out of evaluation.tasks" in text
    check_built_in_tasks(load(run_file, [tasks, "evaluation.shots=[0, 5]"]))


def test_held_out_text_need_not_exist_yet(run_file: Path) -> None:
    check_built_in_tasks(load(run_file))


def test_it_is_asked_before_training() -> None:
    (evaluate,) = [stage for stage in STAGES if stage.name == "evaluate"]
    (check,) = [check for check in evaluate.checks if check.function.endswith("built_in_tasks")]
    assert check.is_ahead


def test_fewer_questions_than_asked_for_are_found(tmp_path: Path) -> None:
    settings = Evaluation(limit=6, heldout_bytes=0)
    write_tasks(tmp_path, tmp_path, [], {"arithmetic": (0,), "patterns": (0,)}, settings)
    path = tmp_path / "arithmetic.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    path = tmp_path / "pattern_count.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    fewer = tasks_with_fewer_questions(tmp_path, ["arithmetic", "patterns", "copa"], 6)
    # The three kinds of patterns share the six questions.
    assert fewer == {"arithmetic": (2, 6), "pattern_count": (1, 2)}

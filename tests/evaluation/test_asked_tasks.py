"""The tasks that a run file asks for: its own and those of its suite."""

from pathlib import Path

import pytest
from stored_questions import write_small_tasks

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_file import load
from pipeline.evaluation.asked_tasks import asked_suite, asked_tasks, task_name

JOBS = Path(__file__).parents[2] / "jobs"
BUILT_IN = ("heldout_cloze", "patterns", "arithmetic")


def test_a_suite_brings_its_own_numbers_of_examples(tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path)
    settings = Evaluation(tasks=("copa",), suite="pythia", tasks_dir=tasks.path)
    asked = asked_tasks(settings)
    assert asked["copa"] == (0, 1, 5)
    assert asked["piqa"] == (0, 5)
    assert "logiqa" not in asked
    given = Evaluation(tasks=("copa",), suite="pythia", shots=(3, 1))
    assert set(asked_tasks(given).values()) == {(1, 3)}


def test_what_has_to_come_from_elsewhere_is_asked_once_it_is_here(tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path)
    tasks.task("copa").rename(tasks.task("logiqa"))
    suite = asked_suite(Evaluation(suite="pythia", tasks_dir=tasks.path))
    assert suite is not None
    assert "logiqa" in [task.name for task in suite.tasks]
    assert "logiqa" not in suite.missing


def test_a_file_of_questions_is_called_by_its_name() -> None:
    assert task_name("/somewhere/sums.jsonl") == "sums"
    assert task_name("copa") == "copa"


def test_the_quickstart_asks_the_built_in_tasks() -> None:
    asked = asked_tasks(load(JOBS / "quickstart.yaml").evaluation)
    assert asked == dict.fromkeys(BUILT_IN, (0, 1, 5))


@pytest.mark.parametrize("size", ["125m", "350m", "1.3b"])
def test_the_large_jobs_score_pythias_tasks(size: str) -> None:
    settings = load(JOBS / f"gpt-{size}.yaml").evaluation
    assert settings.suite == "pythia"
    assert settings.tasks_dir is not None
    assert "mmlu" in asked_tasks(settings)

"""Which scores of a task studies share, and what is said where runs lack them."""

from collections.abc import Mapping, Sequence

import pytest
from law_points import point_of, selection_of
from made_up_study import LAW, score_row

from pipeline.cli.study.answer_scores import run_in_task, tasks_of_runs
from pipeline.cli.study.task_scores import StudyInTask, common_shots
from pipeline.errors import ConfigError
from pipeline.reporting.study.few_shot_tables import ScoredRun
from pipeline.store.counts import ModelScore

STEPS = 10


def whole(*shots: int, metric: str = "acc") -> list[ModelScore]:
    """Return accuracy and bits of the right answer at numbers of examples."""
    return [
        row
        for k in shots
        for row in (
            score_row(STEPS, metric, 0.5 + k / 100, task="arc", shots=k),
            score_row(STEPS, "bits_per_byte", 1.5 - k / 100, task="arc", shots=k),
        )
    ]


def study(name: str, runs: Mapping[str, Sequence[ModelScore]]) -> StudyInTask:
    scored = [ScoredRun(run, 1000, 2560, 1.5e7, rows) for run, rows in runs.items()]
    points = [point_of(LAW, 1000, 2560, run) for run in runs]
    in_task = [run_in_task(run, "arc", STEPS) for run in scored]
    return StudyInTask(name, selection_of(points), in_task, tasks_of_runs(scored))


def problems(*studies: StudyInTask, shots: int | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        common_shots(studies, "arc", shots)
    assert raised.value.exit_code == 2
    return raised.value.problems


def test_the_smallest_common_number_of_examples_or_the_one_asked_for() -> None:
    first = study("a.yaml", {"one": whole(0, 1, 5), "two": whole(1, 5)})
    second = study("b.yaml", {"three": whole(0, 5, 1)})
    assert common_shots([first, second], "arc", None) == 1
    assert common_shots([first, second], "arc", 5) == 5
    assert common_shots([second], "arc", 0) == 0
    assert [score.accuracy for score in first.scores(5)] == [0.55, 0.55]


def test_the_losses_become_bits_per_byte_of_the_right_answer() -> None:
    selection = study("a.yaml", {"one": whole(0), "two": whole(0)}).answer_selection(0)
    assert selection.table.unit == "bits-per-byte"
    assert [(point.name, point.loss) for point in selection.kept] == [("one", 1.5), ("two", 1.5)]
    assert [point.tokens for point in selection.kept] == [2560, 2560]


def test_a_number_of_examples_that_nobody_has() -> None:
    first = study("a.yaml", {"one": whole(0, 5)})
    assert problems(first, shots=3) == [
        "--shots 3: arc is not scored with 3 examples in all runs, but with 0, 5: name one of these"
    ]


def test_numbers_of_examples_without_a_common_one() -> None:
    first = study("a.yaml", {"one": whole(0, 5)})
    second = study("b.yaml", {"two": whole(1), "three": whole(2)})
    assert problems(first, second) == [
        "--task arc: no number of examples is scored in all runs: a.yaml has 0, 5; b.yaml has none. "
        "Score all runs with the same evaluation.shots"
    ]


def test_all_runs_that_lack_scores_are_named_at_once() -> None:
    first = study(
        "a.yaml",
        {
            "whole": whole(0),
            "other": [score_row(STEPS, "acc", 0.5, task="boolq")],
            "none": [],
        },
    )
    second = study(
        "b.yaml",
        {
            "older": [{**row, "step": 5, "model": "step_00000005"} for row in whole(0)],
            "written": [score_row(STEPS, "exact_match", 0.5, task="arc")],
            "text": [score_row(STEPS, "bits_per_byte", 0.5, task="arc")],
        },
    )
    assert problems(first, second) == [
        "--task arc: a.yaml: not scored in 2 runs (other, none); tasks with scores: arc, boolq. Add it "
        "to evaluation.tasks, and run `pipeline evaluate` on each run file",
        "--task arc: b.yaml: no accuracy in run text; name a task whose questions have answers to "
        "choose from",
        "--task arc: b.yaml: no bits per byte of the right answer in run written, as in tasks whose "
        "answers the model writes; name a task whose questions have answers to choose from",
        "--task arc: b.yaml: the last checkpoint is not scored in run older; run `pipeline evaluate` "
        "on each run file, with `last` in evaluation.models",
    ]


def test_a_study_without_any_score_names_no_task() -> None:
    (problem,) = problems(study("a.yaml", {"none": []}))
    assert "not scored in run none; tasks with scores: none. Add it" in problem


def test_accuracies_by_different_metrics_are_refused() -> None:
    first = study("a.yaml", {"one": whole(0)})
    second = study("b.yaml", {"two": whole(0, metric="acc_norm")})
    assert problems(first, second) == [
        "--task arc: the accuracy is acc in some runs, acc_norm in others; score all runs again with "
        "one version of the task"
    ]


def test_different_numbers_of_questions_are_refused() -> None:
    first = study("a.yaml", {"one": whole(0, 1)})
    fewer = [{**row, "items": 100} for row in whole(0)]
    second = study("b.yaml", {"two": [*fewer, *whole(1)]})
    assert problems(first, second) == [
        "--task arc: with 0 examples the runs were asked 100 or 200 questions; score all runs again "
        "with one evaluation.limit"
    ]
    assert common_shots([first, second], "arc", 1) == 1


def test_a_study_of_which_no_run_counts() -> None:
    assert problems(study("a.yaml", {"one": whole(0)}), study("b.yaml", {})) == [
        "b.yaml: no run has ended that a fit may use; `pipeline study status b.yaml` shows them"
    ]

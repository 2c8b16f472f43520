"""What `pipeline study compare --task` prints: which procedure is more accurate, from where on.

Reads study files and the scores of their runs. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from pipeline.cli.study.fit_lines import accuracy_prediction_line
from pipeline.cli.study.laws_compared import (
    CompareQuestion,
    Report,
    common_count,
    fit_each,
    print_comparison,
    too_few_tables,
)
from pipeline.cli.study.opened_study import is_study_file
from pipeline.cli.study.task_scores import StudyInTask, common_shots, study_in_task
from pipeline.errors import ConfigError, RequirementError
from pipeline.logs import console, print_json
from pipeline.planning.laws.comparison import CurveComparison, Prediction
from pipeline.planning.laws.fit import FittedLaw
from pipeline.planning.laws.loss_law import Unit
from pipeline.planning.laws.points import COUNTS, Selection
from pipeline.planning.laws.refusals import refuse_unfit
from pipeline.planning.laws.two_step import refuse_noise
from pipeline.planning.laws.two_step_fit import (
    FittedTask,
    compare_accuracies,
    fit_two_steps,
    noise_above_difference,
    predict_largest_accuracy,
)


@dataclass(frozen=True)
class TaskQuestion:
    """What `study compare --task` is asked for."""

    compared: CompareQuestion
    """Its tables are studies, its unit is bits per byte."""
    task: str
    shots: int | None
    """Solved examples; None: the smallest number that all runs have."""


def show_task_comparison(question: TaskQuestion, *, as_json: bool) -> None:
    """Fit both steps to each study and print, for each pair, which is more accurate and where.

    Raises ConfigError for studies that cannot be compared, RequirementError for runs that forbid a
    fit, and, after all pairs, for those whose difference is within the noise.
    """
    # What is compared.
    studies = [study_in_task(path, question.task) for path in question.compared.tables]
    shots = common_shots(studies, question.task, question.shots)
    selections = [study.answer_selection(shots) for study in studies]
    count = common_count(selections, question.compared.count)
    for study, selection in zip(studies, selections, strict=True):
        refuse_unfit(selection, count)
        refuse_noise(study.scores(shots), _task_of(study.name, question.task))

    # Both steps of each, and each pair.
    fitted = _fitted_tasks(studies, shots, count, question)
    comparisons = [
        compare_accuracies(first, second) for (first, _), (second, _) in combinations(fitted, 2)
    ]
    refusals = [noise_above_difference(comparison) for comparison in comparisons]
    compared = [
        comparison for comparison, refusal in zip(comparisons, refusals, strict=True) if not refusal
    ]
    metric = studies[0].runs[0].metric
    if as_json:
        print_json(
            {
                "task": question.task,
                "metric": metric,
                "shots": shots,
                "count": count,
                "largest_runs": [prediction and asdict(prediction) for _, prediction in fitted],
                "comparisons": [asdict(comparison) for comparison in compared],
                "not_compared": [refusal for refusal in refusals if refusal],
            }
        )
    else:
        console.print(f"{metric} of {question.task} with {shots} examples, N = {COUNTS[count]}")
        _print_comparisons(fitted, compared)
    if any(refusals):
        listed = "\n".join(f"  - {refusal}" for refusal in refusals if refusal)
        raise RequirementError(f"{question.task}: accuracies are not compared:\n{listed}")


def refuse_options(
    paths: Sequence[Path], unit: Unit | None, task: str | None, shots: int | None
) -> None:
    """Raise ConfigError for options that do not go together. None: not given.

    With `task`, also where there is nothing to compare, or a table that has no scores.
    """
    problems: list[str] = []
    if task is None and shots is not None:
        problems.append(
            f"--shots {shots}: losses are compared, which have no solved examples; name a task with "
            "--task, or leave --shots out"
        )
    if task is not None and unit not in (None, "bits-per-byte"):
        problems.append(
            f"--unit {unit}: with --task {task} the loss is bits per byte of the right answer; leave "
            "--unit out"
        )
    if task is not None:
        problems += too_few_tables(paths)
        problems += [
            f"{path}: is no study file, and a table of points has no scores of tasks; with --task, "
            "name study files (.yaml)"
            for path in paths
            if not is_study_file(path)
        ]
    if problems:
        raise ConfigError(problems, "the options")


def _task_of(study: str, task: str) -> str:
    return f"{study}, {task}"


def _fitted_tasks(
    studies: Sequence[StudyInTask], shots: int, count: str, question: TaskQuestion
) -> list[tuple[FittedTask, Prediction | None]]:
    """Return both steps of each study, and the prediction of its largest run."""
    scores = {study.name: study.scores(shots) for study in studies}

    def finish(
        selection: Selection, law: FittedLaw, report: Report
    ) -> tuple[FittedTask, Prediction | None]:
        name = selection.table.name
        task = fit_two_steps(law, scores[name], _task_of(name, question.task))
        return task, predict_largest_accuracy(selection, task, report)

    selections = [study.answer_selection(shots) for study in studies]
    return fit_each(selections, count, question.compared, finish)


def _print_comparisons(
    fitted: Sequence[tuple[FittedTask, Prediction | None]], compared: Sequence[CurveComparison]
) -> None:
    """Print the predictions of the largest runs, and each pair that is compared."""
    for task, prediction in fitted:
        line = accuracy_prediction_line(prediction)
        console.print(f"{task.fitted.law.name}: {line}", soft_wrap=True)
    for comparison in compared:
        print_comparison(comparison, "highest accuracy at a compute, second minus first:")
        console.print(
            "differences up to the noise over the last checkpoints of a run, "
            f"{comparison.least_difference:.4f}, make neither better",
            soft_wrap=True,
        )

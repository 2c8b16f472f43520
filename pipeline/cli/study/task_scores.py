"""Which scores of a task the runs of studies have: one number of examples that serves all of them.

Reads study files, tables of points and tables of scores. Imports no torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cli.study.answer_scores import RunInTask, run_in_task, tasks_of_runs
from pipeline.cli.study.opened_study import open_study, renew_points
from pipeline.cli.study.scored_study import scored_runs
from pipeline.errors import ConfigError, first_of
from pipeline.planning.laws.points import Selection, select_points
from pipeline.planning.laws.points_file import read_points
from pipeline.planning.laws.two_step import TaskPoint

NAMES_SHOWN = 5


@dataclass(frozen=True)
class StudyInTask:
    """A study and the scores of its runs in one task."""

    name: str
    selection: Selection
    """The runs that a fit uses, with their losses in nats a token."""
    runs: Sequence[RunInTask]
    """The same runs."""
    tasks: Sequence[str]
    """All tasks in which one of them has a score."""

    def scores(self, shots: int) -> list[TaskPoint]:
        """Return the scores of all runs at a number of examples that all have."""
        return [run.by_shots[shots] for run in self.runs]

    def answer_selection(self, shots: int) -> Selection:
        """Return the same runs, with bits per byte of the right answer as their losses."""
        bits = {score.name: score.bits_per_byte for score in self.scores(shots)}
        return replace(
            self.selection,
            table=replace(self.selection.table, unit="bits-per-byte"),
            kept=tuple(replace(point, loss=bits[point.name]) for point in self.selection.kept),
        )


def study_in_task(path: Path, task: str) -> StudyInTask:
    """Return a study with its runs' scores in a task.

    Raises ConfigError for a wrong study file, DataError for a study of which no run has begun.
    """
    opened = open_study(path, [])
    points = renew_points(opened)
    table = read_points(opened.folder.points, "nats")
    selection = select_points(replace(table, name=str(path)))
    kept = {point.name for point in selection.kept}
    finished = [point for point in points if point.name in kept]
    scored = scored_runs(opened, finished)
    runs = [
        run_in_task(run, task, point.steps) for run, point in zip(scored, finished, strict=True)
    ]
    return StudyInTask(str(path), selection, runs, tasks_of_runs(scored))


def common_shots(studies: Sequence[StudyInTask], task: str, asked: int | None) -> int:
    """Return the number of examples to compare at: the one asked for, or the smallest that all have.

    Raises ConfigError with every run that lacks scores, and where none is common.
    """
    problems = [problem for study in studies for problem in _missing_scores(study, task)]
    metrics = sorted({run.metric for study in studies for run in study.runs if run.metric})
    if not problems and len(metrics) > 1:
        problems.append(
            f"--task {task}: the accuracy is {' in some runs, '.join(metrics)} in others; score all "
            "runs again with one version of the task"
        )
    if problems:
        raise ConfigError(problems, "the options")
    by_run = [set(run.by_shots) for study in studies for run in study.runs]
    common = sorted(set.intersection(*by_run))
    wanted = [shots for shots in common if asked in (None, shots)]
    if not wanted:
        raise ConfigError([_no_common_shots(studies, task, asked, common)], "the options")
    _refuse_other_questions(studies, task, wanted[0])
    return wanted[0]


def _refuse_other_questions(studies: Sequence[StudyInTask], task: str, shots: int) -> None:
    """Raise ConfigError where runs were asked different numbers of questions."""
    numbers = {
        run.questions[shots] for study in studies for run in study.runs if shots in run.questions
    }
    if len(numbers) > 1:
        listed = " or ".join(str(number) for number in sorted(numbers))
        raise ConfigError(
            [
                f"--task {task}: with {shots} examples the runs were asked {listed} questions; score "
                "all runs again with one evaluation.limit"
            ],
            "the options",
        )


def _missing_scores(study: StudyInTask, task: str) -> list[str]:
    """Return which scores the runs of a study lack, with the remedies."""
    if not study.runs:
        return [
            f"{study.name}: no run has ended that a fit may use; `pipeline study status {study.name}` "
            "shows them"
        ]
    # Runs that lack both scores, or one of them.
    problems: list[str] = []
    unscored = [run.run for run in study.runs if run.accuracy is None and run.answer_bits is None]
    if unscored:
        listed = first_of(sorted(study.tasks), NAMES_SHOWN) or "none"
        problems.append(
            f"--task {task}: {study.name}: not scored in {_named(unscored)}; tasks with scores: "
            f"{listed}. Add it to evaluation.tasks, and run `pipeline evaluate` on each run file"
        )
    without_accuracy = [
        run.run for run in study.runs if run.accuracy is None and run.answer_bits is not None
    ]
    if without_accuracy:
        problems.append(
            f"--task {task}: {study.name}: no accuracy in {_named(without_accuracy)}; name a task "
            "whose questions have answers to choose from"
        )
    without_bits = [
        run.run for run in study.runs if run.accuracy is not None and run.answer_bits is None
    ]
    if without_bits:
        problems.append(
            f"--task {task}: {study.name}: no bits per byte of the right answer in "
            f"{_named(without_bits)}, as in tasks whose answers the model writes; name a task whose "
            "questions have answers to choose from"
        )

    # Runs of which only earlier checkpoints have both.
    older = [
        run.run
        for run in study.runs
        if run.accuracy is not None and run.answer_bits is not None and not run.by_shots
    ]
    if older:
        problems.append(
            f"--task {task}: {study.name}: the last checkpoint is not scored in {_named(older)}; run "
            "`pipeline evaluate` on each run file, with `last` in evaluation.models"
        )
    return problems


def _named(runs: Iterable[str]) -> str:
    names = list(runs)
    if len(names) == 1:
        return f"run {names[0]}"
    return f"{len(names)} runs ({first_of(names, NAMES_SHOWN)})"


def _no_common_shots(
    studies: Sequence[StudyInTask], task: str, asked: int | None, common: Sequence[int]
) -> str:
    """Return that a number of examples is not scored in all runs, and which are."""
    if common:
        numbers = ", ".join(str(shots) for shots in common)
        return (
            f"--shots {asked}: {task} is not scored with {asked} examples in all runs, but with "
            f"{numbers}: name one of these"
        )
    by_study = "; ".join(f"{study.name} has {_numbers_of(study) or 'none'}" for study in studies)
    return (
        f"--task {task}: no number of examples is scored in all runs: {by_study}. Score all runs with "
        "the same evaluation.shots"
    )


def _numbers_of(study: StudyInTask) -> str:
    """Return the numbers of examples that all runs of a study have."""
    common = set.intersection(*(set(run.by_shots) for run in study.runs))
    return ", ".join(str(shots) for shots in sorted(common))

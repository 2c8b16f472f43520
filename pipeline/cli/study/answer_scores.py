"""The scores of a study's runs in one task: bits per byte of the right answer, and accuracy.

Takes the lines of each run's table of scores. Reads and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.planning.laws.two_step import TaskPoint
from pipeline.reporting.score_curves import ScorePoint, TaskCurves, task_curves
from pipeline.reporting.study.few_shot_tables import ANSWER_BITS, ScoredRun, is_accuracy
from pipeline.store.counts import ModelScore
from pipeline.store.scores_folder import own_step

LAST_CHECKPOINTS = 5
"""Checkpoints at the end of a run whose accuracies tell the noise, at most."""


@dataclass(frozen=True)
class RunInTask:
    """A run's scores in one task."""

    run: str
    steps: int
    """Steps of the training."""
    accuracy: TaskCurves | None
    """None without such a score."""
    answer_bits: TaskCurves | None
    questions: Mapping[int, int]
    """Number of examples -> questions that the last checkpoint was asked."""

    @property
    def metric(self) -> str:
        """The metric of the accuracy; "" without one."""
        if self.accuracy is None:
            return ""
        return self.accuracy.metric

    @property
    def by_shots(self) -> Mapping[int, TaskPoint]:
        """Scores of the last checkpoint, by number of examples; empty where it is not scored."""
        accuracies = _at_step(self.accuracy, self.steps)
        bits = _at_step(self.answer_bits, self.steps)
        return {
            shots: TaskPoint(self.run, bits[shots], accuracy, self._last_accuracies(shots))
            for shots, accuracy in accuracies.items()
            if shots in bits
        }

    def _last_accuracies(self, shots: int) -> tuple[tuple[float, float], ...]:
        points = [point for point in _checkpoints(self.accuracy) if point.shots == shots]
        last = [(float(point.tokens or 0), point.score) for point in points]
        return tuple(sorted(last)[-LAST_CHECKPOINTS:])


def run_in_task(run: ScoredRun, task: str, steps: int) -> RunInTask:
    """Return a run's scores in a task. `steps`: the step of the run's last checkpoint."""
    accuracies = [row for row in run.scores if is_accuracy(row["metric"])]
    bits = [row for row in run.scores if row["metric"] == ANSWER_BITS]
    questions = {
        row["shots"]: row["items"]
        for row in accuracies
        if row["task"] == task and own_step(row["model"], row["step"]) == steps
    }
    return RunInTask(
        run.name, steps, _curves_of(accuracies, task), _curves_of(bits, task), questions
    )


def tasks_of_runs(runs: Iterable[ScoredRun]) -> list[str]:
    """Return the tasks in which a run has any score."""
    return list(dict.fromkeys(curves.task for run in runs for curves in task_curves(run.scores)))


def _curves_of(rows: Sequence[ModelScore], task: str) -> TaskCurves | None:
    return next((curves for curves in task_curves(rows) if curves.task == task), None)


def _checkpoints(curves: TaskCurves | None) -> list[ScorePoint]:
    if curves is None:
        return []
    return curves.checkpoints


def _at_step(curves: TaskCurves | None, step: int) -> dict[int, float]:
    """Return the scores of a checkpoint, by number of examples."""
    return {point.shots: point.score for point in _checkpoints(curves) if point.step == step}

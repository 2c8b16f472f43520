"""The runs of a time-to study, and other runs beside them, read from their folders."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.planning.study.points import ROLLED_BACK, StudyPoint
from pipeline.planning.study.study_run import StudyRun
from pipeline.planning.time_to.timed_run import Reading, TimedRun
from pipeline.reporting.run_account import StepMoment, account_of_run
from pipeline.reporting.score_curves import ScorePoint, task_curves
from pipeline.sampling.held_out import held_out_tokens
from pipeline.store.counts import scores_with_values
from pipeline.store.events import BRANCH, StartEvent, read_events
from pipeline.store.files import read_json_lines
from pipeline.store.layout import run_folder
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.store.recorded_run import recorded_config
from pipeline.store.scores_folder import ScoresFolder


def timed_runs(opened: OpenedStudy, points: Sequence[StudyPoint]) -> list[TimedRun]:
    """Return the runs of a study that have begun, then those of `question.runs`.

    Raises DataError where one of the latter is no run, or has made no step, or is named twice.
    """
    begun = {point.name: point for point in points}
    runs: list[TimedRun] = []
    held_out: set[str] = set()
    folders: list[Path] = []
    for run in opened.runs:
        if run.name not in begun:
            continue
        point = begun[run.name]
        # A run that is still on its way counts for the targets that it has reached.
        has_rollback = point.left_out.startswith(ROLLED_BACK)
        recipe = _recipe_of(run, opened.runs)
        name = recipe
        if len(opened.study.seeds) > 1:
            name = f"{recipe}-s{run.seed}"
        runs.append(
            read_timed_run(run.config, name, recipe, point.left_out if has_rollback else "")
        )
        held_out.add(point.held_out)
        folders.append(run.config.paths.run_dir.resolve())

    # Losses of other text are no losses of the same target.
    for path in opened.study.question.runs:
        config = recorded_config(path, [])
        folder = run_folder(config)
        if folder.path.resolve() in folders:
            raise DataError(
                f"question.runs: {path} is named twice, or is a run of the study; remove it"
            )
        folders.append(folder.path.resolve())
        tokens = held_out_tokens(config)
        left_out = ""
        if held_out and (not tokens or held_out != {tokens}):
            left_out = "not known to have the held-out tokens of the study"
        runs.append(read_timed_run(config, folder.name, folder.name, left_out))
    return runs


def _recipe_of(run: StudyRun, runs: Sequence[StudyRun]) -> str:
    """Return what a run shares with its other seeds: size, budget and place, if there are several."""
    parts: list[str] = []
    if len({other.size for other in runs}) > 1:
        parts.append(run.size)
    if len({other.budget.label for other in runs}) > 1:
        parts.append(run.budget.label)
    if run.place.label:
        parts.append(run.place.label)
    return "-".join(parts) or run.size


def read_timed_run(config: RunConfig, name: str, recipe: str, left_out: str) -> TimedRun:
    """Return a run with its validation losses and scores.

    Raises DataError where it has made no step.
    """
    folder = run_folder(config)
    records = read_metrics(folder.path)
    if not records:
        raise DataError(
            f"{folder.path}: the run has made no step yet; leave it out of question.runs"
        )
    starts: list[StartEvent] = read_events(folder.path, "start")
    account = account_of_run(folder.path, with_moments=True)
    moments: dict[int, StepMoment] = {}
    if account is not None:
        moments = {moment.step: moment for moment in account.moments}
    if read_events(folder.path, BRANCH):
        left_out = "began from another run's checkpoint, so that it has no time from the beginning"

    # Its readings.
    table = ScoresFolder(folder.evaluation).table
    curves = task_curves(scores_with_values(read_json_lines(table)))
    losses = [
        _reading(record, record["validation_loss"], moments)
        for record in records
        if "validation_loss" in record
    ]
    by_step = {record["step"]: record for record in records}
    return TimedRun(
        name=name,
        recipe=recipe,
        ranks=starts[-1]["ranks"] if starts else 1,
        batch_tokens=config.batch.global_batch_tokens,
        tokens_per_second=statistics.median(record["tokens_per_second"] for record in records),
        losses=losses,
        scores={
            curve.task: _score_readings(curve.checkpoints, by_step, moments) for curve in curves
        },
        left_out=left_out,
    )


def _score_readings(
    points: Sequence[ScorePoint],
    records: Mapping[int, StepRecord],
    moments: Mapping[int, StepMoment],
) -> list[Reading]:
    """Return the scores of a run's checkpoints with the fewest solved examples, oldest first."""
    fewest = min((point.shots for point in points), default=0)
    values = {
        point.step: point.score
        for point in points
        if point.shots == fewest and point.step in records
    }
    return [
        _reading(records[step], values[step], moments)
        for step in sorted(step for step in values if step is not None)
    ]


def _reading(record: StepRecord, value: float | None, moments: Mapping[int, StepMoment]) -> Reading:
    moment = moments.get(record["step"])
    return Reading(
        step=record["step"],
        tokens=record["tokens"],
        value=value,
        seconds=None if moment is None else moment.seconds,
        device_seconds=None if moment is None else moment.device_seconds,
        joules=None if moment is None else moment.joules,
    )

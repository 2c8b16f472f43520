"""The scores of a study's runs, read from their run folders."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.study.few_shot_tables import ScoredRun
from pipeline.store.counts import scores_with_values
from pipeline.store.files import read_json_lines
from pipeline.store.layout import RunFolder
from pipeline.store.scores_folder import ScoresFolder


def scored_runs(opened: OpenedStudy, points: Sequence[StudyPoint]) -> list[ScoredRun]:
    """Return the runs of points, each with its table of scores."""
    run_dirs = {run.name: run.config.paths.run_dir for run in opened.runs}
    return [_scored_run(point, run_dirs[point.name]) for point in points]


def _scored_run(point: StudyPoint, run_dir: Path) -> ScoredRun:
    """Return a run with its table of scores, which is empty before its evaluation."""
    table = ScoresFolder(RunFolder(run_dir).evaluation).table
    return ScoredRun(
        name=point.name,
        parameters=point.parameters_total,
        tokens=point.tokens,
        flops=point.flops,
        scores=scores_with_values(read_json_lines(table)),
    )

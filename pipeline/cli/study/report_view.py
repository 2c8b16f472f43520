"""`pipeline study report`: renews the table of points and the fits, writes figures and the page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.cli.study.batch_report import report_batch_study
from pipeline.cli.study.critical_batch_report import report_critical_batch
from pipeline.cli.study.few_shot_report import few_shot_report
from pipeline.cli.study.fit_view import fit_with_progress
from pipeline.cli.study.opened_study import OpenedStudy, open_study, renew_points
from pipeline.cli.study.scaling_report import scaling_report
from pipeline.cli.study.scored_study import scored_runs
from pipeline.cli.study.study_totals import StudyTotals
from pipeline.cli.study.throughput_report import throughput_report
from pipeline.cli.study.time_to_report import report_of_time_to_study
from pipeline.cli.study.width_report import report_widths
from pipeline.errors import RequirementError
from pipeline.logs import console, counted_noun, note
from pipeline.planning.laws.fit import RESAMPLES
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.fits_file import write_fits
from pipeline.planning.laws.points import Selection, select_points
from pipeline.planning.laws.points_file import read_points
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.account_words import name_of_device_hours
from pipeline.reporting.run_account import RunAccount, account_of_run
from pipeline.reporting.study.study_page import StudyReport, write_study_report
from pipeline.store.studies.study_folder import StudyFolder


def report_study(file: Path, overrides: Sequence[str]) -> None:
    """Write points, fits, figures and the page of a study."""
    write_report(open_study(file, overrides))


def write_report(opened: OpenedStudy) -> None:
    """Write points, fits, figures and the page of a study, whatever part of it is done.

    Points that allow no fit are a result: the page shows them with the reasons. Raises DataError for
    a study of which no run has begun.
    """
    points = renew_points(opened)
    report = REPORTS[opened.study.kind](opened, points, _totals(opened, points))
    written = write_study_report(opened.folder, report)
    for reason in report.refusals:
        console.print(f"not possible: {reason}", soft_wrap=True, highlight=False)
    note(
        f"study: {counted_noun(len(report.figures), 'figure')} in {opened.folder.figures}, "
        f"page {written[-1]}"
    )


def _scaling(opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals) -> StudyReport:
    selection, summaries = fits_of_points(opened.folder)
    return scaling_report(opened.file.stem, points, selection, summaries, totals)


def _few_shot(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    runs = scored_runs(opened, points)
    return few_shot_report(opened.file.stem, points, runs, totals)


Reporter: TypeAlias = Callable[[OpenedStudy, Sequence[StudyPoint], StudyTotals], StudyReport]
REPORTS: Mapping[str, Reporter] = {
    "scaling": _scaling,
    "few-shot": _few_shot,
    "throughput": throughput_report,
    "time-to": report_of_time_to_study,
    "batch": report_batch_study,
    "critical-batch": report_critical_batch,
    "width": report_widths,
}
"""Kind of study -> its report."""


def fits_of_points(
    folder: StudyFolder, resamples: int = RESAMPLES
) -> tuple[Selection, list[FitSummary]]:
    """Return which points of a study's table count, and their laws; write `fits.json`.

    Where the points allow no fit, there are no laws, and no file of an earlier fit is left.
    """
    selection = select_points(read_points(folder.points, "nats"))
    try:
        summaries = fit_with_progress(selection, resamples=resamples)
    except RequirementError:
        folder.fits.unlink(missing_ok=True)
        return selection, []
    write_fits(folder.fits, selection, summaries)
    return selection, summaries


def _totals(opened: OpenedStudy, points: Sequence[StudyPoint]) -> StudyTotals:
    """Return what the runs took together."""
    begun = {point.name for point in points}
    done = {run.name for run in opened.queued() if run.manifest.is_file()}
    accounts: list[RunAccount] = []
    for run in opened.runs:
        account = account_of_run(run.config.paths.run_dir)
        if account is not None:
            accounts.append(account)
    hours = None
    name = "device-hours"
    if accounts:
        hours = sum(account.device_hours for account in accounts)
        name = name_of_device_hours(accounts[0])
    return StudyTotals(
        done=len(done),
        planned=len(opened.runs),
        flops=sum(run.own_flops for run in opened.runs if run.name in done),
        device_hours=hours,
        device_hours_name=name,
        not_begun=[run.name for run in opened.runs if run.name not in begun],
    )

"""The report of a time-to study: its tables, its sentences, what it refuses, its page."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from html_outline import Outline
from made_up_study import study_point

from pipeline.cli.study.study_totals import StudyTotals
from pipeline.cli.study.time_to_report import time_to_report
from pipeline.planning.time_to.targets import Target
from pipeline.planning.time_to.timed_run import Reading, TimedRun
from pipeline.reporting.study.study_page import StudyReport, write_study_report
from pipeline.store.studies.study_folder import StudyFolder

TOTALS = StudyTotals(2, 2, 1e9, None, "device-hours", [])
POINTS = [study_point("slow", 1000, 10_000, 3.0), study_point("fast", 1000, 10_000, 3.5)]


def run(name: str, speed: float, losses: Sequence[float], left_out: str = "") -> TimedRun:
    """Return a run of 2 ranks whose validations are 100 steps of 10 tokens apart."""
    readings = [
        Reading(
            100 * number, 1000 * number, loss, 1000 * number / speed, 2000 * number / speed, None
        )
        for number, loss in enumerate(losses, start=1)
    ]
    return TimedRun(name, name, 2, 10, speed, readings, {}, left_out)


RUNS = [run("slow", 10, [5.0, 3.4, 3.0]), run("fast", 20, [5.5, 5.0, 4.5, 4.0, 3.7, 3.5])]
"""slow is at 3.5 after 2,000 tokens and 200 s, fast after 6,000 tokens and 300 s."""


def report_of(*targets: Target, runs: Sequence[TimedRun] = RUNS) -> StudyReport:
    return time_to_report("made up", targets, POINTS, runs, TOTALS)


def test_the_first_to_arrive_stands_first_with_what_it_took() -> None:
    report = report_of(Target(3.5))
    times, orders = report.results
    assert times.table[1] == [
        ["slow", "", "10", 2, "10", "200", "2k", "3 min 20 s (-1 min 40 s)", "0.111", ""],
        ["fast", "", "20", 2, "10", "600", "6k", "5 min 00 s (-50.0 s)", "0.167", ""],
    ]
    assert times.note.endswith("Energy is blank where the devices told none, as on CPUs.")
    assert orders.title == "Throughput and time to loss 3.5: 1 of 1 pairs disagree"
    assert orders.table[1] == [
        ["fast", "20", 1, "5 min 00 s", 2],
        ["slow", "10", 2, "3 min 20 s", 1],
    ]
    assert report.statements == [
        "By tokens/s: fast (20), slow (10). By time to loss 3.5: slow (200.0 s), fast (300.0 s). The "
        "two orders disagree in 1 of 1 pairs: throughput is necessary, not sufficient."
    ]
    assert (report.tiles[-1].value, report.tiles[-1].detail) == ("3 min 20 s", "slow")


def test_a_run_that_was_there_before_its_first_validation_leaves_no_winner() -> None:
    """fast is at 5.2 after its second validation; slow was there before its first one."""
    report = report_of(Target(5.2))
    _, orders = report.results
    assert [tile.name for tile in report.tiles if "5.2" in tile.name] == []
    assert orders.table[1][1][3] == "before its first reading"
    assert report.statements == []


def test_the_numbers_are_written_for_all_runs_and_targets() -> None:
    report = report_of(Target(3.5), Target(3.2))
    rows = list(csv.DictReader(io.StringIO(report.numbers["times_to_targets"])))
    assert [(row["target"], row["run"], row["seconds"]) for row in rows] == [
        ("loss 3.5", "slow", "200.0"),
        ("loss 3.5", "fast", "300.0"),
        ("loss 3.2", "slow", "300.0"),
        ("loss 3.2", "fast", ""),
    ]
    assert rows[3]["reason"] == "not reached; its best is 3.5"
    assert rows[0]["interval_seconds"] == "100.0"


def test_energy_is_shown_where_it_was_measured() -> None:
    readings = [Reading(1, 10, 5.0, 1.0, 1.0, 3e5), Reading(2, 20, 3.0, 2.0, 2.0, 7.2e6)]
    measured = TimedRun("m", "m", 1, 10, 10.0, readings, {})
    (times, *_) = report_of(Target(4.0), runs=[measured]).results
    assert times.table[1][0][-1] == "2.00 kWh"
    assert "Energy is blank" not in times.note


def test_targets_that_no_run_tells_are_refused_and_the_rest_is_shown(tmp_path: Path) -> None:
    report = report_of(Target(2.0), Target(6.0), Target(0.5, "copa"), Target(3.5))
    assert [reason.partition(":")[0] for reason in report.refusals] == [
        "loss 2",
        "loss 6",
        "copa 0.5",
    ]
    assert len(report.results) == 2
    written = write_study_report(StudyFolder(tmp_path), report)
    page = written[-1].read_text()
    outline = Outline(page)
    assert outline.open == []
    assert outline.headings[0] == "Not possible with these runs"
    assert outline.pictures == 3
    assert "loss 2: no run reached it, the best is 3;" in page


def test_without_any_target_that_was_reached_the_losses_are_drawn() -> None:
    report = report_of(Target(2.0))
    assert [figure.table.name for figure in report.figures] == ["loss_over_time"]
    assert report.results == []


def test_runs_of_other_text_are_named_and_count_for_nothing() -> None:
    other = run("other", 100, [5.0, 1.0], left_out="not known to have the held-out tokens")
    report = report_of(Target(3.5), runs=[*RUNS, other])
    assert report.statements[-1] == "other: left out, not known to have the held-out tokens."
    assert "other (" not in report.statements[0]
    assert report.results[0].table[1][-1][:2] == ["other", "not known to have the held-out tokens"]

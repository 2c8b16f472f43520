"""The page of several runs: figures, tables, and the settings that differ."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from html_outline import Outline
from runs_to_compare import run_by_hand, with_end

from pipeline.cli.study.study_totals import RUNS_NOTE
from pipeline.config.run_file import load
from pipeline.planning.model_cost import FLOPS_FORMULA
from pipeline.reporting.figures import STYLE, canvas
from pipeline.reporting.many_runs.comparable import basis_of
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint
from pipeline.reporting.many_runs.curve_figures import (
    TOKENS,
    scale_axes,
    time_of_runs,
    training_means,
)
from pipeline.reporting.many_runs.runs_page import runs_page
from pipeline.reporting.many_runs.setting_differences import differing_settings


@pytest.fixture
def runs(run_file: Path) -> list[ComparedRun]:
    other = load(run_file, ["train.seed=7", "batch.micro_batch_sequences=1", "evaluation.shots=[]"])
    return [run_by_hand(load(run_file), "a"), run_by_hand(other, "<b>")]


def test_the_page_is_whole_and_asks_no_network(runs: list[ComparedRun]) -> None:
    page = runs_page(runs, ["a", "<b>"])
    outline = Outline(page)
    assert outline.open == []
    assert outline.headings == [
        "What can be said",
        "Losses",
        "Final figures",
        "Settings that differ",
    ]
    assert outline.pictures == 3
    assert "http" not in page and "<script" not in page
    assert "<b>" not in page.replace("<div class=tile><b>", ""), "names are escaped"
    assert page == runs_page(runs, ["a", "<b>"]), "the same bytes"


def test_both_ways_of_counting_flops_are_named(runs: list[ComparedRun]) -> None:
    """A run has two numbers of FLOPs, on this page and on that of a study."""
    page = runs_page(runs, ["a", "b"])
    assert "6 N + 6 L d T a token" in page
    assert "Plans and studies count" in page and FLOPS_FORMULA in page
    assert FLOPS_FORMULA in RUNS_NOTE and "6 N + 6 L d T" in RUNS_NOTE


def test_without_any_time_there_is_no_figure_over_time(runs: list[ComparedRun]) -> None:
    timeless = [
        replace(run, points=[replace(point, seconds=None) for point in run.points]) for run in runs
    ]
    assert Outline(runs_page(timeless, ["a", "b"])).pictures == 2


def test_differing_settings_are_marked_where_they_are_not_the_first_runs(
    runs: list[ComparedRun],
) -> None:
    found = differing_settings(runs)
    assert [(setting.name, list(setting.values)) for setting in found] == [
        ("batch.micro_batch_sequences", ["2", "1"]),
        ("train.seed", ["1", "7"]),
    ]
    page = runs_page(runs, ["a", "b"])
    row = '<td class="text">train.seed</td><td class="text">1</td><td class="text differs">7</td>'
    assert row in page
    assert "None that the runs have recorded." in runs_page([runs[0]] * 2, ["a", "b"])


def test_what_is_no_setting_stands_below_them(runs: list[ComparedRun]) -> None:
    """A run that has not recorded a fact is not taken for the same."""
    other = replace(runs[0], facts={"commit": "abc"})
    (difference,) = differing_settings([runs[0], other])
    assert (difference.name, list(difference.values)) == ("commit", ["not recorded", "abc"])


def test_of_many_runs_with_long_names_the_lowest_are_drawn(
    runs: list[ComparedRun], recwarn: pytest.WarningsRecorder
) -> None:
    """Run 0 ends highest of 12, and its name stands in no legend; nothing warns."""
    many = [with_end(runs[0], 5 - number / 8) for number in range(12)]
    names = [f"a-rather-long-name-of-a-run-of-many/r{number:02d}/run" for number in range(12)]
    page = runs_page(many, names)
    labels = re.findall(r"<text[^>]*>(r\d\d)</text>", page)
    assert labels == [f"r{number:02d}" for number in range(2, 12)] * 4
    assert "Drawn are the 10 of 12 runs that end lowest; the table has all." in page
    assert f"{names[3]} and 8 more" in page
    assert names[4] not in page
    assert "Names are shown without the beginning a-rather-long-name-of-a-run-of-many/ " in page
    assert not list(recwarn)


def test_many_runs_are_rows_of_the_settings(runs: list[ComparedRun]) -> None:
    page = runs_page([*runs, *runs, *runs], [*"abcdef"])
    assert '<th class="text">run</th><th class="text">batch.micro_batch_sequences</th>' in page
    row = '<td class="text">b</td><td class="text differs">1</td><td class="text differs">7</td>'
    assert row in page


def test_bits_per_byte_leave_no_half_of_the_axis_empty(runs: list[ComparedRun]) -> None:
    """Steps without a validation, of which nothing is drawn, do not widen the axis."""
    early = StepPoint(4, 1e7, 0.1, 4.5, None, None)
    other = [
        replace(run, tokenizer=name, points=[early, *run.points])
        for run, name in zip(runs, "tu", strict=True)
    ]
    basis = basis_of(other)
    assert basis.unit == "bits per byte"
    with mpl.rc_context(STYLE):
        _, axes = canvas(3.9)
        scale_axes(axes, other, basis, TOKENS)
    assert axes.get_xlim() == (200 * 0.9, 200 * 1.1)


def test_training_losses_are_means_of_equal_parts() -> None:
    """120 steps make 60 parts of two; a step without a loss is in none."""
    points = [StepPoint(step, 1.0, None, float(step), None, None) for step in range(1, 121)]
    broken = StepPoint(121, 1.0, None, None, None, None)
    means = training_means([*points, broken], TOKENS)
    assert means[:2] == [(2.0, 1.5), (4.0, 3.5)]
    assert len(means) == 60


def test_the_unit_of_time_fits_the_longest_run(runs: list[ComparedRun]) -> None:
    assert time_of_runs(runs).label == "seconds from the first launch"
    last = replace(runs[0].last, seconds=7200.0)
    longer = time_of_runs([replace(runs[0], points=[last])])
    assert longer.label == "hours from the first launch"
    assert longer.of(last) == 2.0

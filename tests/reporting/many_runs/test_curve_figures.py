"""The frame of the figures of several runs: a run that diverged flattens no other curve."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from runs_to_compare import run_by_hand

from pipeline.config.run_file import load
from pipeline.reporting.figures import STYLE, canvas
from pipeline.reporting.many_runs.comparable import Basis
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint
from pipeline.reporting.many_runs.curve_figures import (
    TOKENS,
    highest_in_frame,
    names_off_scale,
    scale_axes,
)
from pipeline.reporting.many_runs.runs_page import runs_page

NATS = Basis("nats a token", is_held_out=True, reasons=[])
BITS = Basis("bits per byte", is_held_out=True, reasons=[])


@pytest.fixture
def runs(run_file: Path) -> list[ComparedRun]:
    """Two runs that begin at 6 nats; the second one ends at 19."""
    begin = StepPoint(1, 1e7, 0.1, 6.0, None, None)
    run = run_by_hand(load(run_file), "a")
    run = replace(run, points=[begin, *run.points])
    last = replace(run.last, loss=18.0, validation_loss=19.0, bits_per_byte=8.0)
    return [run, replace(run, points=[begin, last])]


def top_of_frame(runs: list[ComparedRun], basis: Basis) -> float:
    with mpl.rc_context(STYLE):
        _, axes = canvas(3.9)
        scale_axes(axes, runs, basis, TOKENS)
    return axes.get_ylim()[1]


def test_the_frame_ends_where_the_training_began(runs: list[ComparedRun]) -> None:
    assert highest_in_frame(runs, NATS) == 6.0
    assert 6 < top_of_frame(runs, NATS) < 6.2
    assert names_off_scale(runs, ["a", "b"], NATS) == ["b"]
    page = runs_page(runs, ["a", "b"])
    assert "The frame ends at 6, about the loss of guessing" in page
    assert "Above it (a held-out loss is a triangle at the upper edge): b." in page

    # The frame of runs that stay below is that of their losses.
    assert top_of_frame(runs[:1], NATS) < 4.1
    assert names_off_scale(runs[:1], ["a"], NATS) == []


def test_bits_per_byte_end_where_the_training_began(runs: list[ComparedRun]) -> None:
    """A nat is 1.5 / 3.6 bits per byte in the first run, 8 / 19 in the second one."""
    assert highest_in_frame(runs, BITS) == 6.0 * 1.5 / 3.6
    assert names_off_scale(runs, ["a", "b"], BITS) == ["b"]


def test_where_nothing_tells_the_loss_of_guessing_all_is_in_the_frame(
    runs: list[ComparedRun],
) -> None:
    branched = [replace(run, branches_off=True) for run in runs]
    assert top_of_frame(branched, NATS) > 19


def test_where_all_runs_are_above_it_all_is_in_the_frame(runs: list[ComparedRun]) -> None:
    above = [runs[1], runs[1]]
    assert highest_in_frame(above, NATS) == math.inf
    assert names_off_scale(above, ["a", "b"], NATS) == []

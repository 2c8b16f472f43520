"""The report of a critical-batch study: tables, sentences, refusals, for runs of a known hyperbola."""

import math
from dataclasses import replace

import pytest
from made_up_batches import batch_point

from pipeline.cli.study.critical_batch_report import critical_batch_report
from pipeline.cli.study.study_totals import StudyTotals
from pipeline.planning.batch_size.critical_results import NoiseAt, RunCurve
from pipeline.planning.batch_size.hyperbola import Hyperbola
from pipeline.planning.batch_size.target import Evaluation
from pipeline.reporting.study.study_page import StudyReport
from pipeline.reporting.study.table_drawing import draw_table

TOTALS = StudyTotals(12, 12, 1e9, None, "device-hours", [])
TRUE = Hyperbola(100, 2048)


def curve(batch: int, rate: float, best: float = 1.0) -> RunCurve:
    """Return a run whose loss is 4 where the hyperbola says; other rates take twice the tokens.

    Batches below 4,096 have measured their noise scale often enough.
    """
    updates = 100 if batch < 4096 else 8
    tokens = TRUE.total(batch) * (1 if rate == best else 2)
    places = [tokens * 2.0 ** (number / 4 - 2.1) for number in range(14)]
    return RunCurve(
        f"b{batch}-x{rate:g}",
        batch,
        rate,
        tuple(Evaluation(place, 4 - math.log2(place / tokens)) for place in places),
        tuple(NoiseAt(place, 1024.0, updates) for place in places),
    )


def report_of(
    batches: tuple[int, ...], targets: tuple[float, ...] = (4.0,), best: float = 1.0
) -> StudyReport:
    curves = [curve(batch, rate, best) for batch in batches for rate in (0.5, 1.0, 2.0)]
    points = [batch_point(batch, 3.0 if batch < 4096 else 3.5, scaling="none") for batch in batches]
    return critical_batch_report("made up", points, curves, targets, TOTALS)


def test_the_critical_batch_stands_beside_noise_scale_and_kaplan() -> None:
    report = report_of((256, 1024, 4096, 16_384))
    assert report.refusals == []
    assert [(tile.value, tile.name) for tile in report.tiles[2:]] == [
        ("2.05k", "B_crit, tokens, at 4 nats"),
        ("1.02k", "noise scale there, tokens"),
    ]
    assert report.tiles[3].detail == "running average over 80 steps, of 2 of 4 batches"
    assert report.statements == [
        "To 4 nats: S_min = 100 [100, 100] steps, E_min = 205k [205k, 205k] tokens, B_crit = 2.05k "
        "[2.05k, 2.05k] tokens; the measured noise scale, a running average over the last 80 steps, is "
        "0.5 times that, of 2 of 4 batches; Kaplan's B_crit 1.3e+02 times.",
        "At the end, after the same tokens, batches up to 1,024 tokens are within 0.01 nats of the "
        "smallest, 256 (the criterion of Merrill et al. 2025). Each loss is the lowest of a batch over "
        "its learning rates, from a single seed: a difference of this size may be chance.",
    ]
    targets, batches = report.results
    assert targets.table[1][0][5] == "1.02k [1.02k, 1.02k], of 2 of 4 batches"
    assert targets.table[1][0][0] == "4.0000"
    assert [row[:4] for row in batches.table[1]] == [
        ["256", "", "1", "900.0"],
        ["1,024", "", "1", "300.0"],
        ["4,096", "", "1", "150.0"],
        ["16,384", "", "1", "112.5"],
    ]
    for figure in report.figures:
        assert draw_table(figure.table, figure.look).startswith("<svg")
        assert figure.caption


def test_a_noise_scale_that_no_batch_had_time_to_measure_is_not_known() -> None:
    curves = [
        replace(run, noise=(NoiseAt(0.9 * TRUE.total(run.batch), 1024.0, 39),))
        for run in (curve(b, rate) for b in (256, 1024, 4096, 16_384) for rate in (0.5, 1.0, 2.0))
    ]
    points = [batch_point(256, 3.0, scaling="none")]
    report = critical_batch_report("made up", points, curves, (4.0,), TOTALS)
    assert not any("noise scale" in tile.name for tile in report.tiles)
    assert report.results[0].table[1][0][5] == ""
    assert (
        "; the noise scale there is not known, as no batch has made 40 measurements before the target, "
        "one every 4 steps; " in report.statements[0]
    )


def test_where_no_larger_batch_is_as_good_as_the_smallest_none_is_named() -> None:
    """Losses after the same tokens: 3 at 512, 3.05 at 1,024, and 3.002 at 2,048, which is chance."""
    losses = {512: 3.0, 1024: 3.05, 2048: 3.002}
    points = [
        replace(batch_point(batch, loss, scaling="none"), seed=seed)
        for batch, loss in losses.items()
        for seed in (1, 2)
    ]
    assert critical_batch_report("made up", points, [], (), TOTALS).statements == [
        "At the end, after the same tokens, not even the second smallest batch, 1,024 tokens, is within "
        "0.01 nats of the smallest, 512 (the criterion of Merrill et al. 2025): its loss is 0.050 nats "
        "higher, so no larger batch counts. Each loss is the lowest of a batch over its learning rates "
        "and 2 seeds, so that some of it is chance."
    ]


def test_batches_that_do_not_bracket_it_are_refused_and_their_points_kept() -> None:
    report = report_of((16, 32, 64, 128))
    (refusal,) = report.refusals
    assert refusal.startswith(
        "to 4 nats: batches of 16 to 128 do not bracket the critical batch size"
    )
    assert refusal.endswith("add larger batches")
    assert report.results[0].table[1][0][1] == "refused"
    assert [row[0] for row in report.results[1].table[1]] == ["16", "32", "64", "128"]
    assert report.figures[0].table.name == "steps_over_batch"


def test_a_best_rate_at_the_end_of_those_tried_is_refused() -> None:
    report = report_of((256, 1024, 4096, 16_384), best=2.0)
    assert report.refusals == [
        "to 4 nats: the best learning rate is the last one tried for 4 of 4 batches, so that steps may "
        "be those of a wrong rate: 256 (higher), 1,024 (higher), 4,096 (higher), 16,384 (higher); add "
        "axes.learning_rate_factors there"
    ]
    assert report.results[1].table[1][0][1] == "better rate may be higher"


def test_a_target_that_was_missed_says_how_far_the_runs_came() -> None:
    report = report_of((256, 1024, 4096, 16_384), (0.5, 4.0))
    assert len(report.refusals) == 1
    assert report.refusals[0].startswith("to 0.5 nats: 0 batches have reached the target")
    assert report.results[1].table[1][0][1] == "target missed: its lowest loss is 2.8500"
    assert "B_crit, tokens, at 4 nats" in [tile.name for tile in report.tiles]


def test_the_default_target_is_the_lowest_that_every_batch_has_reached() -> None:
    report = report_of((256, 1024, 4096, 16_384), ())
    assert report.results[0].table[1][0][0] == "2.8500"


def test_models_of_several_sizes_have_no_critical_batch_together() -> None:
    points = [replace(batch_point(256, 3.0, scaling="none"), size=size) for size in ("w32", "w64")]
    report = critical_batch_report("made up", points, [], (), TOTALS)
    assert report.refusals == [
        "runs have models of several sizes, w32, w64, and a critical batch size is that of one; keep one "
        "of sizes"
    ]


def test_a_target_that_was_reached_too_early_says_so() -> None:
    report = report_of((256, 1024, 4096, 16_384), (7.0,))
    assert report.results[1].table[1][0][1] == (
        "target missed: it was there at its first validation; raise rules.validations"
    )


def test_a_branch_that_is_there_after_its_first_step_has_another_remedy() -> None:
    """Of the batch of 16,384: its first validation is after a step, and there the loss is 3.5."""
    steps = [Evaluation(number * 16_384, 4.0 - number / 2) for number in (1, 2)]
    branch = RunCurve("b16384-x1", 16_384, 1.0, tuple(steps), ())
    points = [batch_point(16_384, 3.0, scaling="none")]
    report = critical_batch_report("made up", points, [branch], (3.6,), TOTALS)
    assert report.results[1].table[1][0][1] == (
        "target missed: it was there after its first step, before which it is not validated; ask for a "
        "lower loss (question.target_losses), or leave this batch out"
    )


@pytest.mark.parametrize("batch", [256, 512])
def test_without_runs_that_count_there_is_a_reason(batch: int) -> None:
    points = [replace(batch_point(batch, 3.0, scaling="none"), left_out="at step 1 of 2")]
    report = critical_batch_report("made up", points, [], (), TOTALS)
    assert report.refusals == [
        "no run that counts has a validation loss; train the runs to their end"
    ]
    assert report.figures == []

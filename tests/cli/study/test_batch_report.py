"""The report of a batch study: tables, sentences, and what the runs cannot tell."""

from dataclasses import replace

from made_up_batches import batch_point, goyal_points

from pipeline.cli.study.batch_report import batch_report
from pipeline.cli.study.study_totals import StudyTotals
from pipeline.planning.study.points import NOT_FINITE
from pipeline.reporting.study.table_drawing import draw_table

TOTALS = StudyTotals(10, 10, 1e9, None, "device-hours", [])


def test_the_best_of_each_batch_is_compared_with_the_reference() -> None:
    report = batch_report("made up", goyal_points(), 256, TOTALS)
    best, everything = report.results
    assert best.table[1] == [
        [
            "rate unscaled, warm-up 10%", "256", "1", "400", "0.001", "2 seeds",
            "4.0000", "3.9375 to 4.0625", "+0.00%",
        ],
        [
            "rate x K, warm-up 10%", "1,024", "4", "100", "0.001", "2 seeds",
            "4.0000", "3.9375 to 4.0625", "+0.00%",
        ],
        [
            "rate x K, warm-up 10%", "4,096", "16", "25", "0.001", "2 seeds",
            "5.0000", "4.9375 to 5.0625", "+25.00%",
        ],
    ]  # fmt: skip
    assert len(everything.table[1]) == 6, "the reference under both rules"
    assert report.refusals == []
    assert report.tiles[-1].value == "K = 4"
    assert report.tiles[-1].detail == "1,024 tokens"
    told = "where 0.2621 nats could be told from the seeds' spread"
    assert report.statements == [
        "Standard deviation of a loss over seeds, in nats: 0.1310.",
        f"With rate unscaled, no loss is seen up to K = 1, {told}; at K = 16 the loss is +50.0%.",
        f"With rate x K, no loss is seen up to K = 4, {told}; at K = 16 the loss is +25.0%.",
        f"With the best rule of each batch, no loss is seen up to K = 4, {told}; at K = 16 the loss is "
        "+25.0%.",
    ]


def test_what_diverged_is_named_and_best_nowhere() -> None:
    """At 4,096 tokens a seed of the better rule diverged; at 16,384 the only recipe did."""
    points = goyal_points()
    better = next(
        number
        for number, point in enumerate(points)
        if (point.batch_tokens, point.place["learning_rate_scaling"]) == (4096, "linear")
    )
    points[better] = replace(points[better], loss=None, left_out=NOT_FINITE)
    lost = batch_point(16_384, None, scaling="linear", warmup=0.1)
    points.append(replace(lost, left_out="rolled back 5 times"))
    report = batch_report("made up", points, 256, TOTALS)
    best, everything = report.results
    assert best.table[1][-1][0] == "rate unscaled, warm-up 10%"
    assert [row[5] for row in everything.table[1][-2:]] == [
        "2 seeds, 1 diverged",
        "1 seed, 1 diverged",
    ]
    assert everything.table[1][-1][6:] == ["", "", ""]
    assert report.statements[-2].endswith("at K = 64 a seed of every recipe diverged.")
    assert report.statements[-1] == f"2 runs diverged: {points[better].name}, {lost.name}."
    # Where the reference itself diverged there is nothing to compare with.
    at_reference = [
        replace(point, loss=None, left_out=NOT_FINITE) if point.batch_tokens == 256 else point
        for point in points
    ]
    report = batch_report("made up", at_reference, 256, TOTALS)
    assert report.refusals[0].endswith("all its recipes diverged, so give them a lower rate")


def test_every_figure_is_drawn() -> None:
    report = batch_report("made up", goyal_points(), 256, TOTALS)
    for figure in report.figures:
        assert "rate" in draw_table(figure.table, figure.look) or figure.table.name.startswith(
            "best"
        )
        assert figure.caption


def test_a_figure_of_a_variant_says_which() -> None:
    points = [
        batch_point(batch, 3.0, scaling="none", optimizer=name)
        for name in ("muon", "adamw")
        for batch in (256, 512)
    ]
    captions = [each.caption for each in batch_report("made up", points, 256, TOTALS).figures]
    assert captions[0].startswith("muon: held-out loss after the same tokens")
    assert captions[1].startswith("adamw: held-out loss")


def test_without_the_reference_or_a_second_seed_nothing_is_compared() -> None:
    report = batch_report(
        "made up", [each for each in goyal_points() if each.batch_tokens > 256], 256, TOTALS
    )
    assert report.refusals == [
        "no run of the reference batch of 256 tokens counts, so nothing is compared with it: train its "
        "runs"
    ]
    assert len(report.tiles) == 2
    single = [each for each in goyal_points() if each.seed == 1]
    report = batch_report("made up", single, 256, TOTALS)
    assert report.refusals == [
        "no batch has two seeds under one recipe, so that no difference can be told from noise: train "
        "more seeds"
    ]
    assert report.statements == []


def test_points_that_do_not_count_are_listed_only() -> None:
    points = [replace(batch_point(256, 3.0, scaling="none"), left_out="at step 1 of 2")]
    report = batch_report("made up", points, 256, TOTALS)
    assert report.figures == []
    assert report.runs.table[1][0][1] == "at step 1 of 2"


def test_what_diverged_is_said_to_lie_above_the_frame() -> None:
    """ln 2 is below all losses of the made-up study."""
    report = batch_report("made up", goyal_points(), 256, TOTALS, 2)
    assert all(
        "has diverged: it is a triangle at the upper" in each.caption for each in report.figures
    )
    assert all(each.look.is_cut_at_chance for each in report.figures)

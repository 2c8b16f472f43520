"""The report of a batch study: tables, sentences, and what the runs cannot tell."""

from dataclasses import replace

from made_up_batches import batch_point, goyal_points

from pipeline.cli.study.batch_report import batch_report
from pipeline.cli.study.study_totals import StudyTotals
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
    assert report.statements == [
        "One seed differs from another by 0.1310 nats (standard deviation).",
        "With rate unscaled, batches up to K = 1 are as good as the reference within the seeds' spread; "
        "at K = 16 the loss is +50.0%.",
        "With rate x K, batches up to K = 4 are as good as the reference within the seeds' spread; at "
        "K = 16 the loss is +25.0%.",
        "With the best rule of each batch, batches up to K = 4 are as good as the reference within the "
        "seeds' spread; at K = 16 the loss is +25.0%.",
    ]


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

"""All that a table shows: a law for each way of counting N, or the reasons why there is none."""

from dataclasses import replace

import pytest
from law_points import COUNT, SLANTED, grid_of

from pipeline.errors import RequirementError
from pipeline.planning.laws.fit_summary import FITS_A_COUNT, summaries_of
from pipeline.planning.laws.points import PointTable, select_points

BOTH = tuple(
    replace(
        point,
        counts={
            "parameters_total": 4 * point.counts[COUNT],
            "parameters_multiplying": point.counts[COUNT],
        },
    )
    for point in grid_of(SLANTED)
)


def test_each_way_of_counting_has_its_law() -> None:
    reported: list[None] = []
    selection = select_points(PointTable("grid.csv", "nats", BOTH))
    total, multiplying = summaries_of(
        selection, resamples=8, computes=[2e20], report=lambda: reported.append(None)
    )
    assert len(reported) == 2 * 8 * FITS_A_COUNT
    assert (total.fitted.count, multiplying.fitted.count) == (
        "parameters_total",
        "parameters_multiplying",
    )
    assert multiplying.fitted.law.parameter_factor == pytest.approx(64, rel=1e-5)
    assert total.fitted.law.parameter_factor == pytest.approx(128, rel=1e-5)
    assert multiplying.fitted.law.name == "grid.csv"
    assert len(total.parabolas) == 4
    assert 2e20 in [optimum.flops for optimum in total.optima]
    assert total.prediction is not None
    assert total.prediction.error == pytest.approx(0, abs=1e-6)


def test_equal_ways_of_counting_are_fitted_once() -> None:
    """Without embeddings N is half: a law of its own. Multiplying and all parameters are equal."""
    points = tuple(
        replace(
            point,
            counts={
                "parameters_total": point.counts[COUNT],
                "parameters_non_embedding": point.counts[COUNT] / 2,
                "parameters_multiplying": point.counts[COUNT],
            },
        )
        for point in grid_of(SLANTED)
    )
    reported: list[None] = []
    summaries = summaries_of(
        select_points(PointTable("grid.csv", "nats", points)),
        resamples=8,
        report=lambda: reported.append(None),
    )
    assert [summary.counts for summary in summaries] == [
        ("parameters_total", "parameters_multiplying"),
        ("parameters_non_embedding",),
    ]
    assert len(reported) == 2 * 8 * FITS_A_COUNT


def test_points_without_a_fit_are_refused_before_one_starts() -> None:
    selection = select_points(PointTable("grid.csv", "nats", BOTH[:10]))
    with pytest.raises(RequirementError, match=r"grid\.csv: no law is fitted"):
        list(summaries_of(selection, report=lambda: pytest.fail("a fit was started")))


def test_a_way_of_counting_that_allows_no_fit_is_left_out() -> None:
    """With one N for all as the total, only the other way of counting remains."""
    points = tuple(
        replace(point, counts={**point.counts, "parameters_total": 1e9}) for point in BOTH
    )
    selection = select_points(PointTable("grid.csv", "nats", points))
    (summary,) = summaries_of(selection, resamples=4)
    assert summary.fitted.count == "parameters_multiplying"


def test_a_largest_run_that_the_others_need_is_not_predicted() -> None:
    """Without it, 3 sizes would be left."""
    points = tuple(
        replace(point, counts={COUNT: size, "parameters_total": size})
        for point, size in zip(
            BOTH[:12], [1e6, 2e6, 4e6, 4e6, 2e6, 1e6, 2e6, 1e6, 4e6, 2e6, 1e6, 4e6], strict=True
        )
    )
    largest = replace(points[-1], counts={COUNT: 1e8}, flops=1e23)
    selection = select_points(PointTable("free.csv", "nats", (*points, largest)))
    (summary,) = summaries_of(selection, resamples=4)
    assert summary.prediction is None

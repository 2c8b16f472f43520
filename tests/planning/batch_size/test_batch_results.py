"""Losses of batches under recipes, by hand: what is best, and up to which batch none is lost."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_up_batches import batch_point, goyal_points

from pipeline.planning.batch_size.batch_figures import (
    BEST,
    GOYAL,
    OVER_BATCH,
    RELATIVE,
    batch_figures,
)
from pipeline.planning.batch_size.batch_results import (
    BatchResult,
    batch_results,
    best_of_batches,
    deviation_of_seeds,
    largest_harmless,
    schedule_words,
    variant_words,
)


def result(batch: int, *losses: float) -> BatchResult:
    return BatchResult(batch, {"learning_rate_scaling": "linear"}, losses, 10, 0.1)


def test_seeds_of_a_recipe_are_one_result() -> None:
    points = [
        batch_point(512, 3.0, scaling="linear", warmup=0.1, seed=1),
        batch_point(512, 3.25, scaling="linear", warmup=0.1, seed=2),
        batch_point(512, 3.5, scaling="linear", warmup=0, seed=1),
        batch_point(512, None, scaling="linear", warmup=0, seed=2),
        replace(batch_point(512, 1.0, scaling="linear", warmup=0, seed=3), left_out="rolled back"),
    ]
    warm, cold = batch_results(points, 256)
    assert warm.losses == (3.0, 3.25)
    assert (warm.mean, warm.low, warm.high) == (3.125, 3.0, 3.25)
    assert schedule_words(warm) == "rate x K, warm-up 10%"
    assert schedule_words(cold) == "rate x K, no warm-up"
    assert cold.losses == (3.5,)


def test_the_reference_batch_is_that_of_every_rule() -> None:
    """It is trained with one of them; each warm-up has its own."""
    points = [
        batch_point(256, 3.0, scaling="none", warmup=0.1),
        batch_point(256, 3.5, scaling="none", warmup=0),
        batch_point(512, 4.0, scaling="linear", warmup=0.1),
    ]
    results = batch_results(points, 256)
    found = [(each.batch, each.scaling, each.recipe["warmup"], each.mean) for each in results]
    assert sorted(found) == [
        (256, "linear", 0, 3.5),
        (256, "linear", 0.1, 3.0),
        (256, "none", 0, 3.5),
        (256, "none", 0.1, 3.0),
        (512, "linear", 0.1, 4.0),
    ]


def test_sizes_are_no_seeds_and_an_axis_that_is_not_there_has_no_rule() -> None:
    points = [
        replace(batch_point(256, loss, scaling="none"), size=size, place={"batch_tokens": 256})
        for size, loss in (("w32", 3.0), ("w64", 2.5))
    ]
    results = batch_results(points, 256)
    assert [(each.losses, variant_words(each)) for each in results] == [
        ((3.0,), "w32"),
        ((2.5,), "w64"),
    ]
    assert schedule_words(results[0]) == "rate by rules.learning_rate"
    assert len(batch_figures(results, 256)) == 4


def test_other_axes_are_variants() -> None:
    point = batch_point(512, 3.0, scaling="none", optimizer="muon", learning_rate_factor=0.5)
    (each,) = batch_results([point], 256)
    assert variant_words(each) == "muon, x 0.5"
    assert schedule_words(each) == "rate unscaled"


def test_the_best_of_each_batch_has_the_lowest_mean() -> None:
    results = [result(512, 3.0, 3.5), result(256, 4.0), result(512, 3.125, 3.125)]
    assert best_of_batches(results) == [results[1], results[2]]


def test_the_deviation_of_seeds_is_not_that_of_recipes_that_diverge() -> None:
    """Variances of 0.5 with one degree of freedom, whose median is 0.4549 of the true one."""
    alike = [result(256, 3.0, 4.0), result(512, 3.0, 4.0), result(1024, 9.0)]
    assert deviation_of_seeds(alike) == pytest.approx(math.sqrt(0.5 / 0.4549364), rel=1e-6)
    diverged = [*alike, result(2048, 9.0, 20.0)]
    assert deviation_of_seeds(diverged) == deviation_of_seeds(alike)
    # With three seeds the median is ln 2 of the true variance.
    three = [result(256, 3.0, 4.0, 5.0)]
    assert deviation_of_seeds(three) == pytest.approx(math.sqrt(1 / math.log(2)))
    assert deviation_of_seeds([result(256, 3.0)]) is None


@pytest.mark.parametrize(
    ("losses", "largest"),
    [((3.0, 3.0, 3.0), 1024), ((3.0, 3.1, 3.3), 512), ((3.0, 3.3, 3.0), 256), ((3.0, 2.0), 512)],
)
def test_batches_are_harmless_up_to_the_first_that_is_worse(
    losses: Sequence[float], largest: int
) -> None:
    """Two seeds each: the limit is 2 standard errors of the difference, 2 x 0.1."""
    best = [result(256 * 2**place, loss, loss) for place, loss in enumerate(losses)]
    assert largest_harmless(best, 256, 0.1) == largest


def test_smaller_batches_are_not_asked_about_and_a_missing_reference_is() -> None:
    best = [result(128, 9.0), result(256, 3.0), result(512, 3.0)]
    assert largest_harmless(best, 256, 0.1) == 512
    assert largest_harmless(best[:1], 256, 0.1) is None


def test_figures_hold_means_with_the_spread_of_seeds() -> None:
    tables = {table.name: table for table in batch_figures(batch_results(goyal_points(), 256), 256)}
    assert list(tables) == [OVER_BATCH, BEST, RELATIVE]
    curves = tables[OVER_BATCH]
    assert curves.series_of("run") == ["rate unscaled, warm-up 10%", "rate x K, warm-up 10%"]
    assert [(each.x, each.y, each.low, each.high) for each in curves.points[:2]] == [
        (256, 4.0, 3.9375, 4.0625),
        (1024, 4.5, 4.4375, 4.5625),
    ]
    assert [each.y for each in tables[BEST].points] == [4.0, 4.0, 5.0]


def test_ratios_stand_beside_goyals() -> None:
    (table,) = [
        each
        for each in batch_figures(batch_results(goyal_points(), 256), 256)
        if each.name == RELATIVE
    ]
    linear = [each for each in table.points if each.series == "rate x K"]
    assert [(each.x, each.y) for each in linear] == [(1, 0.0), (4, 0.0), (16, 25.0)]
    published = [each for each in table.points if each.series == GOYAL]
    assert [each.x for each in published] == [1, 32, 64, 128, 256]


def test_variants_have_a_figure_each_and_without_results_there_is_none() -> None:
    points = [batch_point(256, 3.0, scaling="none", optimizer=name) for name in ("muon", "adamw")]
    names = [table.name for table in batch_figures(batch_results(points, 256), 256)]
    assert names == [f"{OVER_BATCH}_muon", f"{OVER_BATCH}_adamw", BEST, RELATIVE]
    assert batch_figures([], 256) == []

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
    deviations_of_seeds,
    difference_seen,
    first_without_stable,
    largest_harmless,
    schedule_words,
    variant_words,
)
from pipeline.planning.study.points import NOT_FINITE


def result(batch: int, *losses: float) -> BatchResult:
    return BatchResult(batch, {"learning_rate_scaling": "linear"}, losses, 10, 0.1)


def test_seeds_of_a_recipe_are_one_result() -> None:
    points = [
        batch_point(512, 3.0, scaling="linear", warmup=0.1, seed=1),
        batch_point(512, 3.25, scaling="linear", warmup=0.1, seed=2),
        batch_point(512, 3.5, scaling="linear", warmup=0, seed=1),
        batch_point(512, None, scaling="linear", warmup=0, seed=2),
        replace(
            batch_point(512, 1.0, scaling="linear", warmup=0, seed=3), left_out="at step 3 of 9"
        ),
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


def test_a_recipe_of_which_a_seed_diverged_is_best_nowhere() -> None:
    """Linear scaling has the lower loss with the seed that is left, and the only one at 1,024."""
    points = [
        batch_point(256, 4.0, scaling="none"),
        batch_point(512, 4.5, scaling="none"),
        batch_point(512, 3.0, scaling="linear"),
        replace(batch_point(512, None, scaling="linear", seed=2), left_out="rolled back 5 times"),
        replace(batch_point(1024, None, scaling="linear"), left_out=NOT_FINITE),
    ]
    results = batch_results(points, 256)
    assert [(each.batch, each.mean) for each in best_of_batches(results)] == [
        (256, 4.0),
        (512, 4.5),
    ]
    assert [each.diverged for each in results if each.scaling == "linear"] == [0, 1, 1]
    assert first_without_stable(results) == 1024
    # The figures draw what is there.
    assert len(batch_figures(results, 256)) == 3


def test_a_mean_is_never_outside_its_range_by_rounding() -> None:
    assert result(256, 0.4, 0.4, 0.4).mean == 0.4


def test_the_deviation_of_seeds_is_not_that_of_recipes_that_run_away() -> None:
    """Variances of 0.5 with one degree of freedom, whose median is 0.4549 of the true one."""
    alike = [result(256, 3.0, 4.0), result(512, 3.0, 4.0), result(1024, 9.0)]
    expected = math.sqrt(0.5 / 0.4549364)
    assert deviations_of_seeds(alike) == {"": pytest.approx(expected, rel=1e-6)}
    away = [*alike, result(2048, 9.0, 20.0)]
    assert deviations_of_seeds(away) == deviations_of_seeds(alike)
    # With three seeds the median is ln 2 of the true variance.
    three = [result(256, 3.0, 4.0, 5.0)]
    assert deviations_of_seeds(three) == {"": pytest.approx(math.sqrt(1 / math.log(2)))}
    assert deviations_of_seeds([result(256, 3.0)]) == {}


def test_each_variant_has_its_own_deviation_and_the_reference_counts_once() -> None:
    """The reference stands for two rules: of 256 and two larger batches the middle one counts."""
    points = [
        batch_point(batch, loss + seed * spread, scaling=scaling, optimizer=name, seed=seed)
        for name, factor in (("muon", 1.0), ("adamw", 2.0))
        for batch, scaling, loss, spread in (
            (256, "none", 3.0, 8 * factor),
            (512, "none", 3.0, factor),
            (512, "linear", 3.0, 2 * factor),
        )
        for seed in (1, 2)
    ]
    deviations = deviations_of_seeds(batch_results(points, 256))
    assert deviations["adamw"] == pytest.approx(2 * deviations["muon"])
    assert deviations["muon"] == pytest.approx(math.sqrt(2.0 / 0.4549364), rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "largest"),
    [((3.0, 3.0, 3.0), 1024), ((3.0, 3.1, 3.3), 512), ((3.0, 3.3, 3.0), 256), ((3.0, 2.0), 512)],
)
def test_batches_are_harmless_up_to_the_first_that_is_worse(
    losses: Sequence[float], largest: int
) -> None:
    """Two seeds each: the limit is 2 standard errors of the difference, 2 x 0.1."""
    results = [result(256 * 2**place, loss, loss) for place, loss in enumerate(losses)]
    assert largest_harmless(results, 256, {"": 0.1}) == largest
    assert difference_seen(results[0], results[1], {"": 0.1}) == pytest.approx(0.2)


def test_smaller_batches_are_not_asked_about_and_a_missing_reference_is() -> None:
    results = [result(128, 9.0), result(256, 3.0), result(512, 3.0)]
    assert largest_harmless(results, 256, {"": 0.1}) == 512
    assert largest_harmless(results[:1], 256, {"": 0.1}) is None
    # Nothing tells the spread; a batch at which all recipes diverged ends it.
    assert largest_harmless(results, 256, {"muon": 0.1}) is None
    diverged = replace(result(512), diverged=2)
    assert largest_harmless([result(256, 3.0), diverged, result(1024, 3.0)], 256, {"": 0.1}) == 256


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

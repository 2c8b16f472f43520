"""Every reason not to fit a law, by its message, and the points kept."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from law_points import COUNT, SLANTED, grid_of, point_of, selection_of

from pipeline.errors import RequirementError
from pipeline.planning.laws.points import LawPoint, PointTable, select_points
from pipeline.planning.laws.refusals import refusals, refuse_unfit

GRID = grid_of(SLANTED)


def reasons(points: Sequence[LawPoint]) -> list[str]:
    return refusals(selection_of(points), COUNT)


def free_points(sizes: Sequence[float], tokens: Sequence[float]) -> list[LawPoint]:
    return [point_of(SLANTED, size, amount) for size in sizes for amount in tokens]


def test_a_whole_grid_is_fitted() -> None:
    assert reasons(GRID) == []
    refuse_unfit(selection_of(GRID), COUNT)


def test_too_few_sizes() -> None:
    points = free_points((1e6, 2e6, 4e6), (1e8, 2e8, 4e8))
    assert reasons(points) == ["3 sizes are left, at least 4 are needed: train more sizes"]


def test_too_few_budgets() -> None:
    points = grid_of(SLANTED, budgets=(1e18, 1e19))
    assert reasons(points) == [
        "2 budgets of compute are left, at least 3 are needed: train with more budgets"
    ]


def test_too_few_points() -> None:
    points = free_points((1e6, 2e6, 4e6, 8e6), (1e8,))
    points = [replace(point, tokens=1e8 * (1 + place % 2)) for place, point in enumerate(points)]
    assert reasons(points) == ["4 points are left for a law of 5 numbers: train more runs"]


def test_short_runs_leave_too_few_sizes_and_the_others_are_named() -> None:
    points = [
        replace(point, name=f"run {place}", steps=500.0 - 320 * (place % 5 > 2))
        for place, point in enumerate(GRID[:5])
    ]
    selection = select_points(PointTable("my.csv", "nats", tuple(points)))
    with pytest.raises(RequirementError) as raised:
        refuse_unfit(selection, COUNT)
    assert raised.value.exit_code == 3
    lines = str(raised.value).splitlines()
    assert lines[0] == "my.csv: no law is fitted:"
    assert "  - 3 sizes are left, at least 4 are needed: train more sizes" in lines
    assert lines[-1] == "points kept: 3 of 5 (run 0, run 1, run 2)"


def test_no_point_is_left() -> None:
    selection = select_points(PointTable("my.csv", "nats", tuple(GRID)), drop_highest=len(GRID))
    with pytest.raises(RequirementError, match=r"(?s)no point is left.*points kept: 0 of 20$"):
        refuse_unfit(selection, COUNT)


def test_one_number_of_tokens() -> None:
    points = free_points((1e6, 2e6, 4e6, 8e6, 16e6, 32e6), (1e8,))
    assert reasons(points) == [
        "all runs have the same 1e+08 tokens, so B and beta cannot be told from E: train with other "
        "numbers of tokens, too"
    ]


def test_one_number_of_tokens_a_parameter() -> None:
    points = [point_of(SLANTED, size, 20 * size) for size in (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)]
    assert reasons(points) == [
        "all runs have the same 20 tokens a parameter, so A / N^alpha cannot be told from B / D^beta: "
        "train with other ratios, too"
    ]


def test_minima_at_the_edge_of_an_isoflop_grid() -> None:
    inside = grid_of(SLANTED, budgets=(1e18, 1e19))
    too_large = grid_of(SLANTED, budgets=(1e20,), ratios=(1, 2, 4))
    too_small = grid_of(SLANTED, budgets=(1e21,), ratios=(0.25, 0.5, 1))
    smallest = SLANTED.optimal_parameters(1e20)
    largest = SLANTED.optimal_parameters(1e21)
    assert reasons([*inside, *too_large, *too_small]) == [
        f"at 1e+20 FLOPs the lowest loss is at the edge of the grid, N = {smallest:.3g}: train smaller "
        "sizes at this budget",
        f"at 1e+21 FLOPs the lowest loss is at the edge of the grid, N = {largest:.3g}: train larger "
        "sizes at this budget",
    ]


def test_points_that_are_no_isoflop_grid_have_no_edge() -> None:
    """More tokens always help: at each of these sizes the last one has the lowest loss."""
    assert reasons(free_points((1e6, 2.2e6, 4.9e6, 11e6), (1e8, 3e8, 9e8))) == []


def test_losses_a_token_of_different_tokenizers() -> None:
    points = [
        replace(point, tokenizer=("bpe-4k", "bpe-32k")[place % 2])
        for place, point in enumerate(GRID)
    ]
    assert reasons(points) == [
        "the losses are nats a token of 2 tokenizers (bpe-32k, bpe-4k), whose tokens differ in "
        "length: fit bits per byte with --unit bits-per-byte"
    ]
    assert refusals(selection_of(points, "bits-per-byte"), COUNT) == []


def test_more_than_four_epochs() -> None:
    points = [replace(point, name=f"run {place}", epochs=4.0) for place, point in enumerate(GRID)]
    assert reasons(points) == []
    points[3] = replace(points[3], epochs=4.1)
    points[9] = replace(points[9], epochs=12.0)
    assert reasons(points) == [
        "2 runs read their text more than 4 times, up to 12 times (run 3, run 9); the law is about "
        "new tokens: train on more text, or leave them out with --leave-out NAME"
    ]


def with_seeds(points: Sequence[LawPoint], difference: float) -> list[LawPoint]:
    """Return each point twice, with losses this far apart around its own."""
    return [
        replace(point, seed=seed, loss=point.loss + sign * difference / 2)
        for point in points
        for seed, sign in (("1", -1), ("2", 1))
    ]


def test_differences_smaller_than_between_seeds() -> None:
    """Two losses d apart have a standard deviation of d / sqrt(2): two seeds differ by d."""
    spreads = []
    for budget in range(4):
        losses = [point.loss for point in GRID[5 * budget : 5 * budget + 5]]
        spreads.append(max(losses) - min(losses))
    assert spreads == sorted(spreads, reverse=True)
    between = (spreads[2] + spreads[3]) / 2
    assert reasons(with_seeds(GRID, 0.9 * spreads[3])) == []
    assert reasons(with_seeds(GRID, between)) == [
        f"at 1e+21 FLOPs losses of different sizes differ by {spreads[3]:.3g}, those of two seeds by "
        f"{between:.3g}: train more seeds, or sizes that are further apart"
    ]


def test_differences_smaller_than_between_seeds_without_budgets() -> None:
    points = free_points((1e6, 2.2e6, 4.9e6, 11e6), (1e8, 3e8, 9e8))
    assert reasons(with_seeds(points, 0.001)) == []
    flat = [replace(point, loss=3.0) for point in points]
    assert reasons([*with_seeds(flat[:1], 0.5), *flat[1:]]) == [
        "over all runs losses of different sizes differ by 0, those of two seeds by 0.5: train more "
        "seeds, or sizes that are further apart"
    ]


def test_one_seed_says_nothing_of_noise() -> None:
    flat = [
        replace(point, loss=3.0 + 1e-9 * abs(place % 5 - 2)) for place, point in enumerate(GRID)
    ]
    assert reasons(flat) == []


def test_all_reasons_are_given_at_once() -> None:
    points = [
        replace(point, tokenizer=str(place % 2), epochs=9.0)
        for place, point in enumerate(free_points((1e6, 2e6, 4e6), (1e8,)))
    ]
    assert len(reasons(points)) == 5

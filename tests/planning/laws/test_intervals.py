"""Intervals of resamples, and what is not identified, by hand."""

from dataclasses import replace

import pytest
from law_points import COUNT, grid_of

from pipeline.planning.laws.fit import FittedLaw
from pipeline.planning.laws.intervals import (
    Interval,
    compute_axis,
    interval_of,
    numbers_of,
    optimum_at,
    percentiles,
)
from pipeline.planning.laws.loss_law import LossLaw

LAW = LossLaw("simple", 1.0, 16.0, 0.5, 16.0, 0.5)


def fitted(*resampled: LossLaw, budgets: tuple[float, ...] = (1e18, 1e19)) -> FittedLaw:
    points = grid_of(LAW, budgets)
    return FittedLaw(LAW, COUNT, 0.0, tuple(points), resampled, seed=0)


def fitted_law(law: LossLaw, *resampled: LossLaw) -> FittedLaw:
    return replace(fitted(*resampled), law=law)


def test_percentiles_of_the_middle_95_percent() -> None:
    assert percentiles(range(401)) == (10.0, 390.0)


def test_an_interval_is_that_of_the_resamples() -> None:
    laws = [replace(LAW, irreducible=1 + number / 400) for number in range(401)]
    interval = interval_of(fitted(*laws), lambda law: law.irreducible)
    assert interval == Interval(1.0, pytest.approx(1.025), pytest.approx(1.975))
    assert interval.width == pytest.approx(0.95)


def not_identified(**changes: float) -> dict[str, str]:
    """Return symbol -> doubt, where half of the resamples have changed numbers."""
    laws = [*[LAW] * 10, *[replace(LAW, **changes)] * 10]
    return {
        number.symbol: number.doubt
        for number in numbers_of(fitted(*laws))
        if not number.is_identified
    }


@pytest.mark.parametrize(
    ("field", "fine", "wide", "symbol", "doubt"),
    [
        ("irreducible", 1.1, 1.11, "E", "wider than 10 %"),
        ("parameter_exponent", 0.75, 0.76, "alpha", "wider than 50 %"),
        ("token_exponent", 0.75, 0.76, "beta", "wider than 50 %"),
        ("parameter_factor", 160.0, 161.0, "A", "bounds a factor of 10 apart"),
        ("token_factor", 160.0, 161.0, "B", "bounds a factor of 10 apart"),
    ],
)
def test_what_is_not_identified(
    field: str, fine: float, wide: float, symbol: str, doubt: str
) -> None:
    assert not_identified(**{field: fine - 1e-9}) == {}
    assert not_identified(**{field: wide}) == {symbol: doubt}


def test_a_term_that_adds_next_to_nothing_is_not_identified() -> None:
    """A / N^alpha is 1e-4 at the smallest N, about 1e8, under a thousandth of a loss of 1."""
    law = replace(LAW, parameter_factor=1.0)
    doubts = {number.symbol: number.doubt for number in numbers_of(fitted_law(law, law))}
    assert doubts == {
        "E": "",
        "A": "its term adds under 0.1 % to a loss",
        "alpha": "its term adds under 0.1 % to a loss",
        "B": "",
        "beta": "",
        "a": "its term adds under 0.1 % to a loss",
    }


@pytest.mark.parametrize(("exponent", "is_doubted"), [(0.01, True), (0.011, False), (3.0, True)])
def test_an_exponent_at_a_limit_of_its_range_is_not_identified(
    exponent: float, is_doubted: bool
) -> None:
    law = replace(LAW, token_exponent=exponent, token_factor=1e30)
    numbers = {number.symbol: number for number in numbers_of(fitted_law(law, law))}
    assert (numbers["beta"].doubt == "exponent at a limit of 0.01 to 3") is is_doubted
    assert (numbers["B"].doubt == "exponent at a limit of 0.01 to 3") is is_doubted
    assert numbers["alpha"].is_identified


def test_the_exponent_of_the_optimum_is_judged_like_the_others() -> None:
    """beta / (alpha + beta) = 1/4 where alpha is 3 beta: 0.25 to 0.5 is 50 % of 0.5."""
    assert "a" not in not_identified(parameter_exponent=1.5 - 1e-9)
    assert not_identified(parameter_exponent=1.6)["a"] == "wider than 50 %"


def test_an_optimum_knows_whether_it_is_beyond_the_runs() -> None:
    inside = optimum_at(fitted(LAW, LAW), 9e18)
    beyond = optimum_at(fitted(LAW, LAW), 6e20)
    assert not inside.is_beyond
    assert beyond.is_beyond
    assert beyond.parameters.value == pytest.approx(1e10)
    assert beyond.tokens.low == beyond.tokens.high == pytest.approx(1e10)
    assert beyond.loss.value == pytest.approx(1 + 2 * 16 / 1e5)


def test_the_axis_reaches_a_hundred_times_beyond() -> None:
    axis = compute_axis(fitted(LAW))
    assert axis[::4] == [1e18, 1e19, 1e20, 1e21]
    assert axis[1] == pytest.approx(10**18.25)
    assert len(axis) == 13

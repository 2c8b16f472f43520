"""Fits to points of known laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from law_points import CHINCHILLA, COUNT, SLANTED, grid_of
from scipy.optimize import approx_fprime

from pipeline.planning.laws.fit import HUBER_DELTA, _Problem, fit_law, resamples_of
from pipeline.planning.laws.intervals import numbers_of
from pipeline.planning.laws.loss_law import LossLaw


def numbers(law: LossLaw) -> list[float]:
    return [
        law.irreducible,
        law.parameter_factor,
        law.parameter_exponent,
        law.token_factor,
        law.token_exponent,
    ]


@pytest.mark.parametrize("law", [CHINCHILLA, SLANTED], ids=lambda law: law.name)
def test_a_grid_without_noise_gives_the_law_to_five_digits(law: LossLaw) -> None:
    fitted = fit_law(grid_of(law), COUNT, "grid", "nats", resamples=3)
    assert numbers(fitted.law) == pytest.approx(numbers(law), rel=1e-5)
    assert fitted.objective < 1e-15
    for resampled in fitted.resampled:
        assert numbers(resampled) == pytest.approx(numbers(law), rel=1e-3)


def test_a_resample_is_as_many_draws_as_points() -> None:
    (times,) = resamples_of(12, 1, seed=3)
    assert times.sum() == 12
    assert times.max() > 1


def test_the_laws_of_resamples_are_those_of_the_points_drawn() -> None:
    points = grid_of(SLANTED)
    points = [
        replace(point, loss=point.loss + 0.01 * (place % 3)) for place, point in enumerate(points)
    ]
    (law,) = fit_law(points, COUNT, "grid", "nats", resamples=1, seed=3).resampled
    (times,) = resamples_of(len(points), 1, seed=3)
    drawn = [point for point, number in zip(points, times, strict=True) for _ in range(int(number))]
    again = fit_law(drawn, COUNT, "grid", "nats", resamples=0).law
    assert law.optimal_loss(1e19) == pytest.approx(again.optimal_loss(1e19), rel=1e-4)
    whole = fit_law(points, COUNT, "grid", "nats", resamples=0).law
    assert law.optimal_loss(1e19) != pytest.approx(whole.optimal_loss(1e19), rel=1e-4)


def test_in_bits_the_factors_grow_and_the_exponents_stay() -> None:
    points = grid_of(CHINCHILLA)
    in_bits = [replace(point, loss=point.loss / math.log(2)) for point in points]
    nats = fit_law(points, COUNT, "grid", "nats", resamples=0).law
    bits = fit_law(in_bits, COUNT, "grid", "bits", resamples=0).law
    assert bits.irreducible == pytest.approx(nats.irreducible / math.log(2), rel=1e-5)
    assert bits.parameter_factor == pytest.approx(nats.parameter_factor / math.log(2), rel=1e-5)
    assert bits.token_factor == pytest.approx(nats.token_factor / math.log(2), rel=1e-5)
    assert bits.parameter_exponent == pytest.approx(nats.parameter_exponent, rel=1e-5)
    assert bits.token_exponent == pytest.approx(nats.token_exponent, rel=1e-5)
    assert numbers(bits.in_nats()) == pytest.approx(numbers(nats), rel=1e-5)


def problem() -> _Problem:
    points = grid_of(SLANTED, budgets=(1e18, 1e20))
    losses = np.array([point.loss for point in points])
    # One point far from the law: its Huber loss is linear.
    losses[0] *= 1.1
    return _Problem(
        parameters=np.array([point.counts[COUNT] for point in points]),
        tokens=np.array([point.tokens for point in points]),
        losses=losses,
    )


def test_the_gradient_is_that_of_the_objective() -> None:
    table = problem()
    times = np.arange(10.0)
    place = np.array([-0.5, -1.0, 0.2, 0.45, 0.3])
    _, gradient = table.objective(place, times)
    expected = approx_fprime(place, lambda at: table.objective(at, times)[0], 1e-8)
    assert gradient == pytest.approx(expected, rel=1e-4)


def test_the_objective_is_the_sum_of_huber_losses() -> None:
    """At a law that predicts 1 everywhere: log L - log 1 = log L."""
    table = _Problem(np.array([1.0, 4.0]), np.array([1.0, 4.0]), np.exp([0.0005, -0.1]))
    place = np.array([math.log(0.25), math.log(0.25), math.log(0.5), 0.0, 0.0])
    objective, _ = table.objective(place, np.ones(2))
    small = 0.0005**2 / 2
    large = HUBER_DELTA * (0.1 - HUBER_DELTA / 2)
    assert objective == pytest.approx(small + large)
    twice, _ = table.objective(place, np.array([2.0, 0.0]))
    assert twice == pytest.approx(2 * small)


def test_an_outlier_moves_the_law_little() -> None:
    points = grid_of(CHINCHILLA)
    points[7] = replace(points[7], loss=2 * points[7].loss)
    law = fit_law(points, COUNT, "outlier", "nats", resamples=0).law
    assert law.irreducible == pytest.approx(CHINCHILLA.irreducible, rel=1e-2)


def test_n_is_counted_as_asked() -> None:
    """With N / 16 and alpha = 1/2, A is a fourth."""
    points = [
        replace(point, counts={"parameters_total": 16 * point.counts[COUNT], **point.counts})
        for point in grid_of(SLANTED)
    ]
    total = fit_law(points, "parameters_total", "grid", "nats", resamples=0)
    assert total.count == "parameters_total"
    assert total.law.parameter_factor == pytest.approx(4 * SLANTED.parameter_factor, rel=1e-5)


def test_each_resample_is_reported() -> None:
    reported: list[None] = []
    fit_law(
        grid_of(SLANTED), COUNT, "grid", "nats", resamples=3, report=lambda: reported.append(None)
    )
    assert len(reported) == 3


def test_losses_that_are_all_equal_are_all_irreducible() -> None:
    points = [replace(point, loss=3.0) for point in grid_of(SLANTED)]
    fitted = fit_law(points, COUNT, "flat", "nats", resamples=4)
    assert fitted.law.irreducible == pytest.approx(3, rel=1e-6)
    assert {number.symbol for number in numbers_of(fitted) if number.is_identified} == {"E"}

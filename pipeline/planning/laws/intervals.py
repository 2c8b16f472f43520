"""What a fitted law says, with intervals from its resamples, and what of it is not identified."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.planning.laws.fit import EXPONENTS, HUBER_DELTA, FittedLaw
from pipeline.planning.laws.loss_law import LossLaw

PERCENTILES = (2.5, 97.5)
"""Bounds of an interval, among the resamples' values."""
WIDEST_IRREDUCIBLE = 0.1
"""Width of E's interval, as a share of E, above which E is not identified."""
WIDEST_EXPONENT = 0.5
"""Width of an exponent's interval, as a share of it, above which it is not identified."""
WIDEST_FACTOR = 10.0
"""Upper over lower bound of A or B above which it is not identified. Each is a term of the loss at
N = 1 or D = 1, far outside any table, and follows its exponent."""
PLACES_A_DECADE = 4
BEYOND = 100.0
"""Laws are shown up to this multiple of the largest compute."""
LEAST_SHARE_OF_TERM = HUBER_DELTA
"""Share of a loss below which the term of N or D is lost among the differences that are fitted."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Width of the interval as a share of the value."""
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class FittedNumber:
    """One number of a law."""

    symbol: str
    """E, A, alpha, B, beta, or a, the exponent of N_opt."""
    interval: Interval
    doubt: str
    """Why the number is not identified; empty if it is."""

    @property
    def is_identified(self) -> bool:
        return not self.doubt


@dataclass(frozen=True)
class Optimum:
    """How a compute is best divided, by a law."""

    flops: float
    parameters: Interval
    tokens: Interval
    loss: Interval
    is_beyond: bool
    """Whether the compute is larger than that of every point of the fit."""


def interval_of(fitted: FittedLaw, value: Callable[[LossLaw], float]) -> Interval:
    """Return what the law says, with PERCENTILES of what the laws of its resamples say."""
    low, high = percentiles([value(law) for law in fitted.resampled])
    return Interval(value(fitted.law), low, high)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return PERCENTILES of values."""
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def numbers_of(fitted: FittedLaw) -> list[FittedNumber]:
    """Return E, A, alpha, B, beta and the exponent of N_opt, each with its interval."""
    law = fitted.law
    fewest_parameters = min(point.counts[fitted.count] for point in fitted.points)
    fewest_tokens = min(point.tokens for point in fitted.points)
    lowest_loss = min(point.loss for point in fitted.points)
    size_term = law.parameter_factor / fewest_parameters**law.parameter_exponent
    token_term = law.token_factor / fewest_tokens**law.token_exponent
    size_problem = _problem_of_term(size_term / lowest_loss, law.parameter_exponent)
    token_problem = _problem_of_term(token_term / lowest_loss, law.token_exponent)
    irreducible = interval_of(fitted, lambda law: law.irreducible)
    alpha = interval_of(fitted, lambda law: law.parameter_exponent)
    beta = interval_of(fitted, lambda law: law.token_exponent)
    optimal = interval_of(fitted, lambda law: law.optimal_exponent)
    return [
        _share("E", irreducible, WIDEST_IRREDUCIBLE),
        _factor("A", interval_of(fitted, lambda law: law.parameter_factor), size_problem),
        _share("alpha", alpha, WIDEST_EXPONENT, size_problem),
        _factor("B", interval_of(fitted, lambda law: law.token_factor), token_problem),
        _share("beta", beta, WIDEST_EXPONENT, token_problem),
        _share("a", optimal, WIDEST_EXPONENT, size_problem or token_problem),
    ]


def _problem_of_term(share: float, exponent: float) -> str:
    """Return why the term of N or D has no meaning, whatever its interval; "" if it has one.

    `share`: the term at the smallest N or D, where it is largest, over the lowest loss.
    """
    if share < LEAST_SHARE_OF_TERM:
        return f"its term adds under {100 * LEAST_SHARE_OF_TERM:.1f} % to a loss"
    if not EXPONENTS[0] * (1 + 1e-6) < exponent < EXPONENTS[1] * (1 - 1e-6):
        return f"exponent at a limit of {EXPONENTS[0]} to {EXPONENTS[1]:.0f}"
    return ""


def _share(symbol: str, interval: Interval, widest: float, problem: str = "") -> FittedNumber:
    """Return a number whose interval may be `widest` times its value wide."""
    doubt = problem
    if not problem and interval.width > widest:
        doubt = f"wider than {100 * widest:.0f} %"
    return FittedNumber(symbol, interval, doubt)


def _factor(symbol: str, interval: Interval, problem: str) -> FittedNumber:
    """Return a number whose bounds may be WIDEST_FACTOR apart."""
    doubt = problem
    if not problem and interval.high > WIDEST_FACTOR * interval.low:
        doubt = f"bounds a factor of {WIDEST_FACTOR:.0f} apart"
    return FittedNumber(symbol, interval, doubt)


def optimum_at(fitted: FittedLaw, flops: float) -> Optimum:
    """Return N, D and the loss at the law's optimum for a compute of 6 N D FLOPs."""
    return Optimum(
        flops=flops,
        parameters=interval_of(fitted, lambda law: law.optimal_parameters(flops)),
        tokens=interval_of(fitted, lambda law: law.optimal_tokens(flops)),
        loss=interval_of(fitted, lambda law: law.optimal_loss(flops)),
        is_beyond=flops > max(point.flops for point in fitted.points),
    )


def compute_axis(fitted: FittedLaw) -> list[float]:
    """Return computes to show a law at: PLACES_A_DECADE, powers of ten among them.

    They reach from the points to BEYOND times the largest compute.
    """
    computes = [point.flops for point in fitted.points]
    first = math.floor(math.log10(min(computes)))
    last = math.ceil(math.log10(BEYOND * max(computes)))
    places = range(PLACES_A_DECADE * first, PLACES_A_DECADE * last + 1)
    return [10.0 ** (place / PLACES_A_DECADE) for place in places]

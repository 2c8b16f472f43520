"""What a fitted law says, with intervals from its resamples, and what of it is not identified."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.planning.laws.fit import FittedLaw
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
    rule: str
    """With which interval such a number is not identified, in words."""
    is_identified: bool


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
    return [
        _share("E", interval_of(fitted, lambda law: law.irreducible), WIDEST_IRREDUCIBLE),
        _factor("A", interval_of(fitted, lambda law: law.parameter_factor)),
        _share("alpha", interval_of(fitted, lambda law: law.parameter_exponent), WIDEST_EXPONENT),
        _factor("B", interval_of(fitted, lambda law: law.token_factor)),
        _share("beta", interval_of(fitted, lambda law: law.token_exponent), WIDEST_EXPONENT),
        _share("a", interval_of(fitted, lambda law: law.optimal_exponent), WIDEST_EXPONENT),
    ]


def _share(symbol: str, interval: Interval, widest: float) -> FittedNumber:
    """Return a number whose interval may be `widest` times its value wide."""
    rule = f"wider than {100 * widest:.0f} %"
    return FittedNumber(symbol, interval, rule, interval.width <= widest)


def _factor(symbol: str, interval: Interval) -> FittedNumber:
    """Return a number whose bounds may be WIDEST_FACTOR apart."""
    rule = f"bounds a factor of {WIDEST_FACTOR:.0f} apart"
    return FittedNumber(symbol, interval, rule, interval.high <= WIDEST_FACTOR * interval.low)


def optimum_at(fitted: FittedLaw, flops: float) -> Optimum:
    """Return N, D and the loss at the law's optimum for a compute of 6 N D FLOPs."""
    return Optimum(
        flops=flops,
        parameters=interval_of(fitted, lambda law: law.optimal_parameters(flops)),
        tokens=interval_of(fitted, lambda law: law.optimal_tokens(flops)),
        loss=interval_of(fitted, lambda law: law.optimal_loss(flops)),
        is_beyond=flops > max(point.flops for point in fitted.points),
    )


def compute_axis(fitted: FittedLaw, beyond: float = 100.0) -> list[float]:
    """Return computes to show a law at: powers of ten from its points to `beyond` their largest."""
    computes = [point.flops for point in fitted.points]
    first = int(np.floor(np.log10(min(computes))))
    last = int(np.ceil(np.log10(max(computes) * beyond)))
    return [10.0**power for power in range(first, last + 1)]

"""Steps and tokens to a target over the batch: (S / S_min - 1)(E / E_min - 1) = 1, fitted.

S steps of a batch B take E = S B tokens, so that S = S_min + E_min / B. The critical batch size
B_crit = E_min / S_min takes twice the fewest steps and twice the fewest tokens. Pure arithmetic.
Source: McCandlish et al. 2018 (arXiv:1812.06162), equation 2.11.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import RequirementError
from pipeline.planning.laws.intervals import Interval, percentiles

Array = npt.NDArray[np.float64]

FEWEST_BATCHES = 4
"""Two numbers are fitted; two more batches than that tell how well."""
RESAMPLES = 400
SEED = 0
WIDEST = 1e4
"""B_crit is looked for up to this factor beyond the batches tried."""
PLACES = 400
"""Places, even in log B_crit, among which the search for the best one begins."""


@dataclass(frozen=True)
class StepsToTarget:
    """What one training took to reach the target."""

    batch: float
    """B: tokens, or examples, of a batch."""
    steps: float
    """S; a fraction where it is interpolated."""

    @property
    def total(self) -> float:
        """E: tokens, or examples."""
        return self.batch * self.steps


@dataclass(frozen=True)
class Hyperbola:
    """(S / S_min - 1)(E / E_min - 1) = 1."""

    fewest_steps: float
    """S_min: steps that the largest batch would take."""
    critical_batch: float
    """B_crit = E_min / S_min, in the unit of the batches."""

    @property
    def fewest_total(self) -> float:
        """E_min: tokens, or examples, that the smallest batch would take."""
        return self.fewest_steps * self.critical_batch

    def steps(self, batch: float) -> float:
        """Return S = S_min + E_min / B."""
        return self.fewest_steps * (1 + self.critical_batch / batch)

    def total(self, batch: float) -> float:
        """Return E = E_min + S_min B."""
        return batch * self.steps(batch)


@dataclass(frozen=True)
class FittedHyperbola:
    """The hyperbola of some trainings, with those of resamples."""

    curve: Hyperbola
    resampled: tuple[Hyperbola, ...]
    scatter: float
    """Standard deviation of log S around the curve."""

    @property
    def critical_batch(self) -> Interval:
        """B_crit with its 95 % interval."""
        low, high = percentiles([curve.critical_batch for curve in self.resampled])
        return Interval(self.curve.critical_batch, low, high)

    @property
    def fewest_steps(self) -> Interval:
        """S_min with its 95 % interval."""
        low, high = percentiles([curve.fewest_steps for curve in self.resampled])
        return Interval(self.curve.fewest_steps, low, high)

    @property
    def fewest_total(self) -> Interval:
        """E_min with its 95 % interval."""
        low, high = percentiles([curve.fewest_total for curve in self.resampled])
        return Interval(self.curve.fewest_total, low, high)

    def steps(self, batch: float) -> Interval:
        """Return S at a batch with its 95 % band."""
        low, high = percentiles([curve.steps(batch) for curve in self.resampled])
        return Interval(self.curve.steps(batch), low, high)


def fit_hyperbola(
    results: Sequence[StepsToTarget], *, resamples: int = RESAMPLES, seed: int = SEED
) -> FittedHyperbola:
    """Return the hyperbola with the least squares of log S, and those of resamples.

    A resample adds normal noise to the fitted log S of each of the n trainings. Its deviation is the
    scatter around the curve, which a handful of trainings tell badly: so each resample draws it anew,
    as scatter * sqrt((n - 2) / chi^2 with n - 2 degrees of freedom). Where log S is linear in what is
    fitted the interval is then that of Student's t: with 4 trainings 2.2 times as wide as with a known
    deviation. Drawing from the residuals themselves gives intervals that hold the truth in three of
    four cases.

    Source: Gelman et al. 2013, "Bayesian Data Analysis", section 14.2, the posterior of a regression.

    Raises RequirementError for fewer than FEWEST_BATCHES batches, and where the interval of B_crit is
    not inside of the batches tried: the curve is then straight within its noise.
    """
    sizes = sorted({result.batch for result in results})
    if len(sizes) < FEWEST_BATCHES:
        raise RequirementError(
            f"{len(sizes)} batches have reached the target, and a hyperbola needs at least "
            f"{FEWEST_BATCHES}; add batches, or choose a higher target"
        )
    batches: Array = np.array([result.batch for result in results])
    logs: Array = np.log(np.array([result.steps for result in results]))
    curve = _best_curve(batches, logs)

    # Curves of the same trainings with other noise.
    fitted_logs = np.log(curve.fewest_steps * (1 + curve.critical_batch / batches))
    freedom = len(results) - 2
    scatter = float(np.sqrt(np.sum((logs - fitted_logs) ** 2) / freedom))
    generator = np.random.default_rng(seed)
    deviations = scatter * np.sqrt(freedom / generator.chisquare(freedom, resamples))
    noise = deviations[:, None] * generator.normal(size=(resamples, len(results)))
    fitted = FittedHyperbola(
        curve=curve,
        resampled=tuple(_best_curve(batches, fitted_logs + drawn) for drawn in noise),
        scatter=scatter,
    )
    _refuse_open_end(fitted, sizes[0], sizes[-1])
    return fitted


def _best_curve(batches: Array, logs: Array) -> Hyperbola:
    """Return the curve with the least squares of log S.

    For a given B_crit, log S_min is the mean of log S - log(1 + B_crit / B); what is left to be
    searched is one number.
    """
    # Not at the top: commands that only read results would wait for it.
    from scipy.optimize import fminbound

    def squares(log_critical: float) -> float:
        return float(np.var(logs - np.log1p(np.exp(log_critical) / batches)))

    places = np.linspace(np.log(batches.min() / WIDEST), np.log(batches.max() * WIDEST), PLACES)
    shapes = np.log1p(np.exp(places)[:, None] / batches)
    best = int(np.argmin(np.var(logs - shapes, axis=1)))
    low = float(places[max(0, best - 1)])
    high = float(places[min(PLACES - 1, best + 1)])
    place = fminbound(squares, low, high, xtol=1e-10)
    critical = math.exp(float(place))  # pyright: ignore[reportArgumentType]
    fewest = float(np.exp(np.mean(logs - np.log1p(critical / batches))))
    return Hyperbola(fewest, critical)


def _refuse_open_end(fitted: FittedHyperbola, smallest: float, largest: float) -> None:
    """Raise RequirementError where the batches tried do not bracket the critical one."""
    critical = fitted.critical_batch
    remedies: list[str] = []
    if critical.low <= smallest:
        remedies.append("smaller")
    if critical.high >= largest:
        remedies.append("larger")
    if remedies:
        raise RequirementError(
            f"batches of {smallest:,.0f} to {largest:,.0f} do not bracket the critical batch size, "
            f"which is {_rounded(critical.value)} [{_rounded(critical.low)}, "
            f"{_rounded(critical.high)}] by the fit; add {' and '.join(remedies)} batches"
        )


def _rounded(batch: float) -> str:
    return f"{float(f'{batch:.3g}'):,.6g}"

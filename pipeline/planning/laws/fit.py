"""Fits L(N, D) = E + A / N^alpha + B / D^beta to points, and again to resamples of them.

Arrays are of shape (points,) float64. Reads and writes nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.planning.laws.loss_law import LossLaw, Unit
from pipeline.planning.laws.points import LawPoint

Array = npt.NDArray[np.float64]

HUBER_DELTA = 1e-3
"""Difference of log losses from which a point's weight falls. Source: Hoffmann et al. 2022
(arXiv:2203.15556), section 3.3."""
EXPONENTS = (0.01, 3.0)
"""Range of alpha and beta: at 0, A and B could not be told from E."""
GRID = np.geomspace(0.03, 2.0, 12)
"""alpha and beta from which fits start."""
STARTS = 4
"""Best places of the grid from which the Huber objective is minimised."""
LEAST_TERM = 1e-9
"""Smallest E, A / N^alpha and B / D^beta, as shares of the mean loss: their logarithms are fitted."""
RESAMPLES = 400
SEED = 0


@dataclass(frozen=True)
class FittedLaw:
    """A law with what it was fitted to."""

    law: LossLaw
    count: str
    """How N is counted."""
    objective: float
    """Sum over the points of the Huber loss of log L - log prediction."""
    points: tuple[LawPoint, ...]
    resampled: tuple[LossLaw, ...]
    """Laws of resamples, from which intervals are taken."""
    seed: int
    """Seed of the resamples."""


def fit_law(
    points: Sequence[LawPoint],
    count: str,
    name: str,
    unit: Unit,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    report: Callable[[], None] = lambda: None,
) -> FittedLaw:
    """Return the law of the points with the lowest objective, and laws of resamples.

    Variable projection finds the starts: for each alpha and beta on a grid, E, A and B follow by
    non-negative least squares. The sum of Huber losses of log L - log prediction is then minimised.
    The fit of a resample starts from the law of all points and from its own best place on the grid.

    `count`: the way of counting N. `report` is called after each resample.
    Source: Hoffmann et al. 2022 (arXiv:2203.15556), section 3.3, and Besiroglu et al. 2024
    (arXiv:2404.10102): the sum, not the mean.
    """
    problem = _Problem(
        parameters=np.array([point.counts[count] for point in points]),
        tokens=np.array([point.tokens for point in points]),
        losses=np.array([point.loss for point in points]),
    )
    # The law of all points.
    everything = np.ones(len(points))
    starts = problem.starts(everything, STARTS)
    best, objective = problem.minimum(starts, everything)
    # One more round from the minimum: the minimiser's memory of the way there is then gone.
    best, objective = problem.minimum([best], everything)
    # The laws of resamples.
    laws: list[LossLaw] = []
    for times in resamples_of(len(points), resamples, seed):
        resampled, _ = problem.minimum([best, *problem.starts(times, 1)], times)
        laws.append(problem.law(resampled, name, unit))
        report()
    return FittedLaw(
        law=problem.law(best, name, unit),
        count=count,
        objective=objective,
        points=tuple(points),
        resampled=tuple(laws),
        seed=seed,
    )


def resamples_of(points: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each point is in each resample: as many draws as points, with replacement."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(0, points, points)
        yield np.bincount(drawn, minlength=points).astype(np.float64)


@dataclass(frozen=True)
class _Problem:
    """The points of one fit.

    What is fitted is (log A / N0^alpha, log B / D0^beta, log E, alpha, beta), with N0 and D0 the
    geometric means: a step in an exponent then hardly changes what the factors should be.
    """

    parameters: Array
    tokens: Array
    losses: Array

    @cached_property
    def log_parameters(self) -> Array:
        """log(N / N0)."""
        logs = np.log(self.parameters)
        return logs - logs.mean()

    @cached_property
    def log_tokens(self) -> Array:
        """log(D / D0)."""
        logs = np.log(self.tokens)
        return logs - logs.mean()

    @cached_property
    def log_losses(self) -> Array:
        return np.log(self.losses)

    @cached_property
    def logs_by_place(self) -> Array:
        """Matrix of what is fitted -> logarithms of the terms A, B and E: shape (3 points, 5)."""
        matrix = np.zeros((3, len(self.losses), 5))
        for term in range(3):
            matrix[term, :, term] = 1
        matrix[0, :, 3] = -self.log_parameters
        matrix[1, :, 4] = -self.log_tokens
        return matrix.reshape(-1, 5)

    @cached_property
    def least_log(self) -> float:
        """Smallest logarithm of a term."""
        return math.log(LEAST_TERM) + float(self.log_losses.mean())

    @cached_property
    def grid(self) -> list[tuple[float, float, Array]]:
        """(alpha, beta, columns of A, B and E over the losses), for each place of the grid."""
        return [
            (float(alpha), float(beta), self._columns(float(alpha), float(beta)))
            for alpha in GRID
            for beta in GRID
        ]

    def _columns(self, alpha: float, beta: float) -> Array:
        """Return the terms at factors of 1, over the losses: shape (points, 3)."""
        terms = [
            np.exp(-alpha * self.log_parameters),
            np.exp(-beta * self.log_tokens),
            np.ones_like(self.losses),
        ]
        return np.stack(terms, axis=1) / self.losses[:, None]

    def starts(self, times: Array, number: int) -> list[Array]:
        """Return the best places of the grid with their E, A and B, by relative squared error.

        `times`: how often each point counts.
        """
        # Not at the top: commands that only read laws would wait for it.
        from scipy.optimize import nnls

        weights = np.sqrt(times)
        floor = math.exp(self.least_log)
        # The last resort: three equal terms.
        third = float(self.log_losses.mean()) - math.log(3)
        projected = [(math.inf, np.array([third, third, third, 0.3, 0.3]))]
        for alpha, beta, columns in self.grid:
            # Losses that are all equal can send the solver round in circles.
            with suppress(RuntimeError):
                factors, residual = nnls(columns * weights[:, None], weights)
                logs = np.log(np.maximum(factors, floor))
                projected.append((float(residual), np.array([*logs, alpha, beta])))
        projected.sort(key=lambda place: place[0])
        return [start for _, start in projected[:number]]

    def minimum(self, starts: Sequence[Array], times: Array) -> tuple[Array, float]:
        """Return the place with the lowest objective that is reached from the starts, and it."""
        from scipy.optimize import minimize

        bounds = [(self.least_log, None)] * 3 + [EXPONENTS] * 2
        ends: list[tuple[float, Array]] = []
        for start in starts:
            # The minimiser's tolerances are absolute: objectives are brought to about 1.
            scale = max(self.objective(start, times)[0], 1e-300)
            end = minimize(
                self._scaled,
                start,
                args=(times, scale),
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"maxiter": 2000, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-9},
            )
            ends.append((float(end.fun) * scale, np.asarray(end.x, np.float64)))
        objective, place = min(ends, key=lambda end: end[0])
        return place, objective

    def _scaled(self, place: Array, times: Array, scale: float) -> tuple[float, Array]:
        objective, gradient = self.objective(place, times)
        return objective / scale, gradient / scale

    def objective(self, place: Array, times: Array) -> tuple[float, Array]:
        """Return the sum of Huber losses of log L - log prediction, and its gradient, shape (5,)."""
        # The three terms' logarithms, and their share of the prediction.
        terms = (self.logs_by_place @ place).reshape(3, -1)
        largest = terms.max(axis=0)
        relative = np.exp(terms - largest)
        sums = relative.sum(axis=0)
        errors = self.log_losses - largest - np.log(sums)
        clipped = np.clip(errors, -HUBER_DELTA, HUBER_DELTA)
        objective = times @ (clipped * (errors - 0.5 * clipped))
        # The derivative of a Huber loss by its error is the clipped error.
        by_term = -(times * clipped / sums) * relative
        return float(objective), by_term.ravel() @ self.logs_by_place

    def law(self, place: Array, name: str, unit: Unit) -> LossLaw:
        """Return the law at a place."""
        log_a, log_b, log_e, alpha, beta = (float(number) for number in place)
        mean_parameters = float(np.log(self.parameters).mean())
        mean_tokens = float(np.log(self.tokens).mean())
        return LossLaw(
            name=name,
            irreducible=math.exp(log_e),
            parameter_factor=math.exp(log_a + alpha * mean_parameters),
            parameter_exponent=alpha,
            token_factor=math.exp(log_b + beta * mean_tokens),
            token_exponent=beta,
            unit=unit,
        )

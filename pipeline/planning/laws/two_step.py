"""Accuracy of a task in two steps: (N, D) -> bits per byte of the right answer -> accuracy.

The first step is a loss law, fitted to bits per byte of the right answer. The second is a sigmoid.
Source: Bhagia et al. 2024 (arXiv:2412.04403), sections 3.1 and 3.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import RequirementError
from pipeline.evaluation.comparing.paired_tests import variances_around_trend
from pipeline.planning.laws.loss_law import LossLaw

Array = npt.NDArray[np.float64]

LEAST_MODELS = 5
"""Models that a sigmoid of four numbers needs."""
LEAST_CHECKPOINTS = 3
"""Checkpoints at the end of a run from which its noise is estimated at least."""
STEEPNESSES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Steepnesses, over the range of bits per byte, from which fits start."""


@dataclass(frozen=True)
class TaskPoint:
    """One model's scores in one task."""

    name: str
    bits_per_byte: float
    """Bits per byte of the right answer."""
    accuracy: float
    last_accuracies: tuple[tuple[float, float], ...] = ()
    """(tokens, accuracy) of the run's last checkpoints, in rising order, for their noise."""


@dataclass(frozen=True)
class AccuracySigmoid:
    """accuracy = floor + height / (1 + exp(steepness (bits_per_byte - middle)))."""

    floor: float
    height: float
    steepness: float
    middle: float

    def accuracy(self, bits_per_byte: float) -> float:
        """Return the accuracy at bits per byte of the right answer."""
        exponent = self.steepness * (bits_per_byte - self.middle)
        if exponent > 700:
            return self.floor
        return self.floor + self.height / (1 + math.exp(exponent))


@dataclass(frozen=True)
class TwoStepLaw:
    """Both steps."""

    law: LossLaw
    """In bits per byte of the right answer."""
    sigmoid: AccuracySigmoid

    def accuracy(self, parameters: float, tokens: float) -> float:
        """Return the accuracy of a model of N parameters after D tokens."""
        return self.sigmoid.accuracy(self.law.loss(parameters, tokens))

    def optimal_accuracy(self, flops: float) -> float:
        """Return the highest accuracy for a compute of 6 N D FLOPs."""
        return self.sigmoid.accuracy(self.law.optimal_loss(flops))


def fit_sigmoid(points: Sequence[TaskPoint], task: str) -> AccuracySigmoid:
    """Return the sigmoid with the least squared error, between accuracies of 0 and 1.

    Raises RequirementError for fewer than LEAST_MODELS models, and where the noise over the last
    checkpoints exceeds the difference between the models.
    """
    refuse_noise(points, task)
    problem = _SigmoidProblem(points)
    return problem.fitted(problem.starts(), np.ones(len(points)))


def refit_sigmoid(
    points: Sequence[TaskPoint], times: Array, start: AccuracySigmoid
) -> AccuracySigmoid:
    """Return the sigmoid of a resample of points, from that of all points.

    `times`: how often each point counts, shape (points,).
    """
    problem = _SigmoidProblem(points)
    return problem.fitted([problem.place(start)], times)


class _SigmoidProblem:
    """The points of one fit.

    What is fitted is (floor, height / (1 - floor), steepness x range of bits per byte, middle): one
    set of starts then serves all tasks, and no accuracy exceeds 1.
    """

    def __init__(self, points: Sequence[TaskPoint]) -> None:
        self.bits = np.array([point.bits_per_byte for point in points])
        self.accuracies = np.array([point.accuracy for point in points])
        self.scale = float(np.ptp(self.bits)) or 1.0
        self.lowest = np.array([0.0, 0.0, 0.0, float(self.bits.min()) - self.scale])
        self.highest = np.array([1.0, 1.0, 200.0, float(self.bits.max()) + self.scale])

    def starts(self) -> list[Array]:
        """Return where fits start; a flat start stays flat, so that several steepnesses are tried."""
        floor = min(max(float(self.accuracies.min()), 0.01), 0.98)
        share = (float(self.accuracies.max()) - floor) / (1 - floor)
        middle = float(np.median(self.bits))
        return [
            np.array([floor, min(max(share, 0.01), 0.99), steepness, middle])
            for steepness in STEEPNESSES
        ]

    def place(self, sigmoid: AccuracySigmoid) -> Array:
        """Return what a sigmoid is in the numbers that are fitted."""
        share = 0.0
        if sigmoid.floor < 1:
            share = sigmoid.height / (1 - sigmoid.floor)
        place = [sigmoid.floor, share, sigmoid.steepness * self.scale, sigmoid.middle]
        return np.clip(place, self.lowest, self.highest)

    def errors(self, place: Array) -> Array:
        """Return predicted minus measured accuracies, shape (points,)."""
        floor, share, steepness, middle = place
        exponents = np.clip(steepness * (self.bits - middle) / self.scale, -700, 700)
        return floor + share * (1 - floor) / (1 + np.exp(exponents)) - self.accuracies

    def fitted(self, starts: Sequence[Array], times: Array) -> AccuracySigmoid:
        """Return the best sigmoid that is reached from the starts."""
        # Not at the top: commands that only read laws would wait for it.
        from scipy.optimize import least_squares

        weights = np.sqrt(times)
        fits = [
            least_squares(
                lambda place: weights * self.errors(place),
                start,
                bounds=(self.lowest, self.highest),
                ftol=1e-15,
                xtol=1e-15,
                gtol=1e-15,
            )
            for start in starts
        ]
        best = min(fits, key=lambda fit: float(fit.cost))
        floor, share, steepness, middle = (float(number) for number in best.x)
        return AccuracySigmoid(floor, share * (1 - floor), steepness / self.scale, middle)


def refuse_noise(points: Sequence[TaskPoint], task: str) -> None:
    """Raise RequirementError where a task cannot tell the models apart."""
    reasons = noise_refusals(points)
    if reasons:
        listed = "\n".join(f"  - {reason}" for reason in reasons)
        raise RequirementError(f"{task}: accuracy is not predicted:\n{listed}")


def noise_refusals(points: Sequence[TaskPoint]) -> list[str]:
    """Return why a task cannot tell the models apart, each reason with its remedy.

    The noise is that of `noise_of_last_checkpoints`.
    """
    reasons: list[str] = []
    if len(points) < LEAST_MODELS:
        reasons.append(
            f"{len(points)} models are scored, at least {LEAST_MODELS} are needed: score more of them"
        )
    noise = noise_of_last_checkpoints(points)
    if noise is None:
        reasons.append(
            f"no run has {LEAST_CHECKPOINTS} scored checkpoints at its end, so the noise is not known: "
            "score the last checkpoints of the runs"
        )
    elif noise >= accuracy_range(points):
        reasons.append(
            f"the models' accuracies differ by {accuracy_range(points):.4f}, the noise over the last "
            f"checkpoints of a run is {noise:.4f}: score more questions, or larger models"
        )
    return reasons


def accuracy_range(points: Sequence[TaskPoint]) -> float:
    """Return the largest minus the smallest accuracy."""
    accuracies = [point.accuracy for point in points]
    return max(accuracies) - min(accuracies)


def noise_of_last_checkpoints(points: Sequence[TaskPoint]) -> float | None:
    """Return the standard deviation of last checkpoints' accuracies around each run's own trend.

    It is pooled over the runs with LEAST_CHECKPOINTS; None where no run has as many.
    """
    variances: list[float] = []
    for point in points:
        if len(point.last_accuracies) >= LEAST_CHECKPOINTS:
            tokens = [place for place, _ in point.last_accuracies]
            accuracies = [accuracy for _, accuracy in point.last_accuracies]
            variances += variances_around_trend(tokens, accuracies)
    if not variances:
        return None
    return math.sqrt(np.mean(variances))

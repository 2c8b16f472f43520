"""The arithmetic of comparing scores: paired differences, their tests, and how small they may be.

Pure functions of arrays. A score is one number for each question, in the same order for both
models. Reads and writes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ALPHA = 0.05
"""Largest probability of a difference where there is none."""
POWER = 0.8
"""Probability with which the smallest visible difference is found."""
LEAST_CHECKPOINTS = 4
"""Checkpoints from which noise around a trend is estimated at least: two have two neighbours."""


@dataclass(frozen=True)
class PairedDifference:
    """The second model's mean score minus the first one's, on the same questions."""

    items: int
    difference: float
    standard_error: float | None
    """None for fewer than two questions."""
    test: Literal["McNemar", "paired t"]
    """McNemar's exact test for scores of 0 and 1, the paired t-test for all others."""
    p_value: float | None
    """Two-sided; None for fewer than two questions."""
    smallest_visible: float | None
    """True difference that these questions show with probability POWER, at ALPHA.

    None where they are so few that they would not show any."""


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Compare two models' scores of the same questions, `(items,)` each.

    The standard error is that of a mean of differences: the standard deviation over the questions
    (divisor n - 1), divided by the root of their number. It is smaller than that of two independent
    means, as a hard question is hard for both models. Source: Miller 2024, Adding Error Bars to
    Evals (paired analysis).
    """
    differences = second - first
    items = len(differences)
    mean = float(differences.mean())
    is_right_or_wrong = all_right_or_wrong(first) and all_right_or_wrong(second)
    test: Literal["McNemar", "paired t"] = "McNemar" if is_right_or_wrong else "paired t"
    if items < 2:
        return PairedDifference(items, mean, None, test, None, None)
    error = float(differences.std(ddof=1) / math.sqrt(items))
    visible: float | None = smallest_visible_difference(error, items)
    if is_right_or_wrong:
        p_value = mcnemar_p_value(int((differences > 0).sum()), int((differences < 0).sum()))
        visible = max(visible, least_changed_items() / items)
        if visible > 1:
            visible = None
    else:
        p_value = paired_t_p_value(mean, error, items)
    return PairedDifference(items, mean, error, test, p_value, visible)


def all_right_or_wrong(scores: np.ndarray) -> bool:
    """Tell whether all scores are 0 or 1."""
    return bool(np.isin(scores, (0, 1)).all())


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    `gained`: questions that only the second model answers correctly; `lost`: only the first one.
    Without a difference each of them falls to either side with probability 1/2, so that the
    p-value is twice the tail of a binomial distribution, at most 1.
    Source: McNemar 1947, Psychometrika 12; in its exact form.
    """
    changed = gained + lost
    tail = sum(math.comb(changed, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def least_changed_items() -> int:
    """Return the number of questions that must change, all to one side, for p to reach ALPHA."""
    changed = 1
    while mcnemar_p_value(changed, 0) > ALPHA:
        changed += 1
    return changed


def paired_t_p_value(mean: float, error: float, items: int) -> float:
    """Return the two-sided p-value of a mean difference with its standard error.

    Student's t with one degree of freedom less than there are questions.
    """
    # Not at the top: each report imports this module, and few have anything to compare.
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(items - 1, -abs(mean) / error))


def smallest_visible_difference(error: float, items: int) -> float:
    """Return the true difference that a test at ALPHA finds with probability POWER.

    (t(1 - ALPHA/2) + t(POWER)) times the standard error, with one degree of freedom less than there
    are questions. Source: Bloom 1995, Minimum Detectable Effects.
    """
    from scipy.special import stdtrit

    freedom = items - 1
    return float(stdtrit(freedom, 1 - ALPHA / 2) + stdtrit(freedom, POWER)) * error


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, so that any below ALPHA may be reported.

    The smallest is multiplied by the number of tests, the next one by one less, and so on; none
    becomes smaller than the one before it, and none larger than 1.
    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class MeanOfTasks:
    """The mean of several tasks' scores or differences, each task with the same weight."""

    tasks: int
    mean: float
    standard_error: float | None
    """None where a task has none."""
    p_value: float | None
    """Two-sided, of the mean being 0, by the normal distribution."""
    smallest_visible: float | None
    """Mean that is found with probability POWER, at ALPHA; None where the
    questions are so few that they would not show any."""


def mean_of_tasks(
    values: Sequence[float], errors: Sequence[float | None], floors: Sequence[float] = ()
) -> MeanOfTasks:
    """Return the mean over tasks, whose questions are different and so independent.

    Its variance is the sum of the tasks' variances, divided by the square of their number: the
    tasks are taken as given, not as a sample of tasks. `floors`: smallest difference of each task
    that its questions can show at all, 0 where there is no such bound. A task's part in the visible
    mean is at least that.
    """
    count = len(values)
    mean = sum(values) / count
    variances = [error**2 for error in errors if error is not None]
    if len(variances) < count:
        return MeanOfTasks(count, mean, None, None, None)
    error = math.sqrt(sum(variances)) / count
    p_value = 1.0 if mean == 0 else 0.0
    if error > 0:
        p_value = math.erfc(abs(mean) / error / math.sqrt(2))
    from scipy.special import ndtri

    quantiles = float(ndtri(1 - ALPHA / 2) + ndtri(POWER))
    bounds = floors or [0.0] * count
    of_tasks = [
        max(quantiles * math.sqrt(variance), floor)
        for variance, floor in zip(variances, bounds, strict=True)
    ]
    visible: float | None = math.hypot(*of_tasks) / count
    if any(bounds) and visible > 1:
        visible = None
    return MeanOfTasks(count, mean, error, p_value, visible)


def noise_around_trend(tokens: Sequence[float], scores: Sequence[float]) -> float | None:
    """Return the standard deviation of scores around their trend over tokens.

    It is how much a score changes from checkpoint to checkpoint for no reason. None for fewer than
    LEAST_CHECKPOINTS checkpoints.
    """
    if len(scores) < LEAST_CHECKPOINTS:
        return None
    return math.sqrt(np.mean(variances_around_trend(tokens, scores)))


def variances_around_trend(tokens: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Return an estimate of the noise's variance at each checkpoint but the first and the last.

    Each score is compared with the straight line between its two neighbours, so that a trend may
    bend. For noise of variance v, that difference has variance v (1 + a^2 + b^2), where a and b are
    the weights of the neighbours. Source: Gasser, Sroka and Jennen-Steinmetz 1986, Residual
    variance and residual pattern in nonlinear regression.
    """
    x = np.array(tokens, np.float64)
    y = np.array(scores, np.float64)
    before = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    after = 1 - before
    left = y[1:-1] - before * y[:-2] - after * y[2:]
    return [float(variance) for variance in left * left / (1 + before**2 + after**2)]


def noise_of_difference(first: float | None, second: float | None) -> float | None:
    """Return the noise of a difference between single checkpoints of two runs.

    Where only one of them is measured, both have that noise. None where neither is.
    """
    measured = [noise for noise in (first, second) if noise is not None]
    if not measured:
        return None
    return math.hypot(measured[0], measured[-1])

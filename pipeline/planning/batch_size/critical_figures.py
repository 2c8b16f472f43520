"""The numbers of a critical-batch study's figures."""

from collections.abc import Sequence

import numpy as np

from pipeline.planning.batch_size.critical_results import TargetAnswer
from pipeline.planning.batch_size.hyperbola import FittedHyperbola
from pipeline.planning.batch_size.target import TargetReached
from pipeline.planning.laws.loss_law import critical_batch_tokens
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

CURVE_POINTS = 60
OTHER_RATES = "other learning rates"
KAPLAN = "Kaplan et al. 2020"
AROUND = 0.05
"""Share of a loss by which Kaplan's curve goes beyond the targets."""


def main_answer(answers: Sequence[TargetAnswer]) -> TargetAnswer:
    """Return the answer that is drawn: at the lowest loss with a fit, else at the lowest loss."""
    return min(answers, key=lambda answer: (answer.fitted is None, answer.target))


def critical_figures(answers: Sequence[TargetAnswer]) -> list[FigureTable]:
    """Return the tables of all figures that the answers allow."""
    if not answers:
        return []
    main = main_answer(answers)
    tables = [
        _steps_over_batch(main),
        _tokens_over_steps(main),
        _tokens_over_rate(main),
        _batch_over_loss(answers),
    ]
    return [table for table in tables if table.points]


def _at_best(answer: TargetAnswer) -> str:
    return f"best rate, to {answer.target:.4g} nats"


def _steps_over_batch(answer: TargetAnswer) -> FigureTable:
    """Return S over B: each batch at its best rate, the other rates, and the fit with its band."""
    points = [
        FigurePoint("run", _at_best(answer), result.batch, result.steps)
        for tuned in answer.tuned
        for result in tuned.results()
    ]
    best = {each.name for tuned in answer.tuned for each in tuned.tries}
    points += [
        FigurePoint(
            "left out", OTHER_RATES, each.batch, each.result.tokens / each.batch, name=each.name
        )
        for each in answer.tries
        if each.name not in best and isinstance(each.result, TargetReached)
    ]
    if answer.fitted is not None:
        for batch in _batches_of_curve(answer):
            steps = answer.fitted.steps(batch)
            points.append(
                FigurePoint("fit", "S_min + E_min / B", batch, steps.value, steps.low, steps.high)
            )
        fewest = answer.fitted.curve.fewest_total
        points += [
            FigurePoint("ideal", "perfect scaling, E_min / B", tuned.batch, fewest / tuned.batch)
            for tuned in answer.tuned
        ]
    return FigureTable("steps_over_batch", "batch_tokens", "steps_to_target", points)


def _batches_of_curve(answer: TargetAnswer) -> list[float]:
    batches = [tuned.batch for tuned in answer.tuned]
    return [float(each) for each in np.geomspace(min(batches), max(batches), CURVE_POINTS)]


def _tokens_over_steps(answer: TargetAnswer) -> FigureTable:
    """Return E over S, where time is bought with tokens, and the fitted hyperbola."""
    points = [
        FigurePoint("run", _at_best(answer), result.steps, result.total)
        for tuned in answer.tuned
        for result in tuned.results()
    ]
    if answer.fitted is not None:
        points += _hyperbola(answer.fitted, _batches_of_curve(answer))
    return FigureTable("tokens_over_steps", "steps_to_target", "tokens_to_target", points)


def _hyperbola(fitted: FittedHyperbola, batches: Sequence[float]) -> list[FigurePoint]:
    curve = fitted.curve
    return [
        FigurePoint("fit", "(S/S_min - 1)(E/E_min - 1) = 1", curve.steps(batch), curve.total(batch))
        for batch in reversed(batches)
    ]


def _tokens_over_rate(answer: TargetAnswer) -> FigureTable:
    """Return tokens to the target over the learning rate, a curve for each batch."""
    points = [
        FigurePoint(
            "run", f"B = {each.batch:,}", each.rate_factor, each.result.tokens, name=each.name
        )
        for each in sorted(answer.tries, key=lambda each: (each.batch, each.rate_factor))
        if isinstance(each.result, TargetReached)
    ]
    return FigureTable("tokens_over_rate", "learning_rate_factor", "tokens_to_target", points)


def _batch_over_loss(answers: Sequence[TargetAnswer]) -> FigureTable:
    """Return B_crit by the fit and by the noise scale over the target loss, beside Kaplan's."""
    # By the fit, then by the noise scale, as curves over the loss.
    points: list[FigurePoint] = []
    for answer in sorted(answers, key=lambda each: each.target):
        if answer.fitted is not None:
            critical = answer.fitted.critical_batch
            points.append(
                FigurePoint(
                    "run",
                    "B_crit, fitted",
                    answer.target,
                    critical.value,
                    critical.low,
                    critical.high,
                )
            )
    for answer in sorted(answers, key=lambda each: each.target):
        if answer.noise is not None:
            noise = answer.noise
            points.append(
                FigurePoint(
                    "run",
                    "noise scale, measured",
                    answer.target,
                    noise.value,
                    noise.low,
                    noise.high,
                )
            )

    # Kaplan's curve around the targets.
    if points:
        targets = [answer.target for answer in answers]
        losses = np.linspace((1 - AROUND) * min(targets), (1 + AROUND) * max(targets), CURVE_POINTS)
        points += [
            FigurePoint("published", KAPLAN, float(loss), critical_batch_tokens(float(loss)))
            for loss in losses
        ]
    return FigureTable("critical_batch_over_loss", "target_loss", "batch_tokens", points)

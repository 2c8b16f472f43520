"""Everything that a table's points show for one way of counting N."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.planning.laws.comparison import (
    RESAMPLES_DIVISOR,
    Prediction,
    largest_run,
    predict_largest,
)
from pipeline.planning.laws.fit import RESAMPLES, SEED, FittedLaw, fit_law
from pipeline.planning.laws.intervals import (
    FittedNumber,
    Optimum,
    compute_axis,
    numbers_of,
    optimum_at,
)
from pipeline.planning.laws.isoflop import Parabola, isoflop_budgets, parabola_of
from pipeline.planning.laws.points import LawPoint, Selection
from pipeline.planning.laws.refusals import refusals, refuse_unfit

FITS_A_COUNT = 1 + 1 / RESAMPLES_DIVISOR
"""Resamples of a law of all points, and of one without the largest run, over those asked for."""


@dataclass(frozen=True)
class FitSummary:
    """The fit for one way of counting N, and what follows from it."""

    fitted: FittedLaw
    counts: tuple[str, ...]
    """The ways of counting N that the fit is for: `fitted.count`, and those equal to it."""
    numbers: tuple[FittedNumber, ...]
    """E, A, alpha, B, beta, and a, the exponent of N_opt."""
    optima: tuple[Optimum, ...]
    """In rising order of compute."""
    prediction: Prediction | None
    """The largest run by the law of the others; None where no law could be fitted to those."""
    parabolas: tuple[Parabola, ...]
    """Those of an isoFLOP grid; empty for other tables."""


def summaries_of(
    selection: Selection,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    computes: Sequence[float] = (),
    report: Callable[[], None] = lambda: None,
) -> Iterator[FitSummary]:
    """Yield the fit of each way of counting N that the table has and that allows a fit.

    Ways that are equal in all points have one fit together.
    `computes`: FLOPs at which the optimum is asked for, beside those of the axis. `report` is called
    after each resample: at most FITS_A_COUNT x `resamples` times for a way of counting.
    Raises RequirementError, before any fit, where the points forbid one for every way of counting.
    """
    possible = [counts for counts in selection.equal_counts if not refusals(selection, counts[0])]
    if not possible:
        refuse_unfit(selection, selection.table.counts[0])
    for counts in possible:
        fitted = fit_law(
            selection.kept,
            counts[0],
            selection.table.name,
            selection.table.unit,
            resamples=resamples,
            seed=seed,
            report=report,
        )
        axis = sorted({*compute_axis(fitted), *computes})
        budgets = isoflop_budgets(selection.kept, fitted.count)
        yield FitSummary(
            fitted=fitted,
            counts=counts,
            numbers=tuple(numbers_of(fitted)),
            optima=tuple(optimum_at(fitted, flops) for flops in axis),
            prediction=prediction_of(selection, fitted, report),
            parabolas=tuple(parabola_of(budget) for budget in budgets),
        )


def prediction_of(
    selection: Selection, fitted: FittedLaw, report: Callable[[], None]
) -> Prediction | None:
    """Return the prediction of the largest run; None where the others alone allow no fit."""

    def are_enough(others: Sequence[LawPoint]) -> bool:
        return not refusals(replace(selection, kept=tuple(others)), fitted.count)

    run = largest_run(fitted.points, fitted.count, are_enough)
    if run is None:
        return None
    return predict_largest(fitted, run, report)

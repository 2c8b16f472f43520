"""Why no law is fitted to points: what they cannot show, whatever the fit says."""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.errors import RequirementError, first_of
from pipeline.planning.laws.isoflop import Budget, isoflop_budgets
from pipeline.planning.laws.points import LawPoint, Selection, groups_of

FITTED_NUMBERS = 5
"""E, A, alpha, B and beta: as many points are met exactly, whatever they are."""
LEAST_SIZES = 4
LEAST_BUDGETS = 3
MOST_EPOCHS = 4.0
"""Up to 4 passes over a text teach about as much as new text.
Source: Muennighoff et al. 2023 (arXiv:2305.16264)."""
NAMES_SHOWN = 5


def refuse_unfit(selection: Selection, count: str) -> None:
    """Raise RequirementError with everything that forbids a fit, and with the points kept.

    `count`: the way of counting N.
    """
    reasons = refusals(selection, count)
    if not reasons:
        return
    kept = [point.name for point in selection.kept]
    listed = "\n".join(f"  - {reason}" for reason in reasons)
    raise RequirementError(
        f"{selection.table.name}: no law is fitted:\n{listed}\n"
        f"points kept: {len(kept)} of {len(selection.table.points)}"
        + (f" ({first_of(kept, NAMES_SHOWN)})" if kept else "")
    )


def refusals(selection: Selection, count: str) -> list[str]:
    """Return why no law can be fitted to the points kept, each reason with its remedy."""
    points = selection.kept
    if not points:
        return ["no point is left: the reasons stand beside the points that were dropped"]
    return [
        *_too_few(points, count),
        *_one_ratio(points, count),
        *_tokenizers(selection),
        *_epochs(points),
        *_minima_at_edges(points, count),
        *_smaller_than_between_seeds(points, count),
    ]


def _too_few(points: Sequence[LawPoint], count: str) -> list[str]:
    """Return which of sizes and budgets are too few."""
    sizes = len(groups_of(points, lambda point: point.counts[count]))
    budgets = len(groups_of(points, lambda point: point.flops))
    reasons: list[str] = []
    if len(points) <= FITTED_NUMBERS:
        reasons.append(
            f"{len(points)} points are left for a law of {FITTED_NUMBERS} numbers: train more runs"
        )
    if sizes < LEAST_SIZES:
        reasons.append(
            f"{sizes} sizes are left, at least {LEAST_SIZES} are needed: train more sizes"
        )
    if budgets < LEAST_BUDGETS:
        reasons.append(
            f"{budgets} budgets of compute are left, at least {LEAST_BUDGETS} are needed: train with "
            "more budgets"
        )
    return reasons


def _one_ratio(points: Sequence[LawPoint], count: str) -> list[str]:
    """Return that D does not vary, or only together with N."""
    if len(groups_of(points, lambda point: point.tokens)) == 1:
        return [
            f"all runs have the same {points[0].tokens:.3g} tokens, so B and beta cannot be told "
            "from E: train with other numbers of tokens, too"
        ]
    if len(groups_of(points, lambda point: point.tokens / point.counts[count])) == 1:
        ratio = points[0].tokens / points[0].counts[count]
        return [
            f"all runs have the same {ratio:.3g} tokens a parameter, so A / N^alpha cannot be told "
            "from B / D^beta: train with other ratios, too"
        ]
    return []


def _tokenizers(selection: Selection) -> list[str]:
    """Return that losses a token of different tokenizers stand side by side."""
    tokenizers = sorted({point.tokenizer for point in selection.kept if point.tokenizer})
    if selection.table.unit == "bits-per-byte" or len(tokenizers) < 2:
        return []
    return [
        f"the losses are {selection.table.unit} a token of {len(tokenizers)} tokenizers "
        f"({first_of(tokenizers, NAMES_SHOWN)}), whose tokens differ in length: fit bits per byte "
        "with --unit bits-per-byte"
    ]


def _epochs(points: Sequence[LawPoint]) -> list[str]:
    """Return which runs repeated their text too often."""
    repeated = [point for point in points if (point.epochs or 0) > MOST_EPOCHS]
    if not repeated:
        return []
    most = max(point.epochs or 0 for point in repeated)
    return [
        f"{len(repeated)} runs read their text more than {MOST_EPOCHS:.0f} times, up to {most:.3g} "
        f"times ({first_of([point.name for point in repeated], NAMES_SHOWN)}); the law is about new "
        "tokens: train on more text, or leave them out with --leave-out NAME"
    ]


def _minima_at_edges(points: Sequence[LawPoint], count: str) -> list[str]:
    """Return the budgets of an isoFLOP grid whose lowest loss is that of an outermost size."""
    return [
        f"at {budget.flops:.3g} FLOPs the lowest loss is at the edge of the grid, N = "
        f"{_lowest(budget):.3g}: train {_missing(budget)} sizes at this budget"
        for budget in isoflop_budgets(points, count)
        if budget.is_lowest_at_edge
    ]


def _lowest(budget: Budget) -> float:
    """Return the size with the lowest mean loss."""
    return min(budget.sizes, key=lambda size: size[1])[0]


def _missing(budget: Budget) -> str:
    """Return which sizes lie beyond the lowest loss."""
    if _lowest(budget) == budget.sizes[0][0]:
        return "smaller"
    return "larger"


def _smaller_than_between_seeds(points: Sequence[LawPoint], count: str) -> list[str]:
    """Return where losses of different sizes differ less than those of different seeds.

    Compared are the range of the sizes' mean losses and the expected difference of two seeds, which
    is sqrt(2) times their standard deviation, at each budget of an isoFLOP grid, or over all points.
    """
    repeats = _repeats(points, count)
    deviation = _deviation_between_seeds(repeats)
    if deviation is None:
        return []
    between_seeds = math.sqrt(2) * deviation
    places = [
        (f"at {budget.flops:.3g} FLOPs", [loss for _, loss in budget.sizes])
        for budget in isoflop_budgets(points, count)
    ]
    if not places:
        means = [sum(point.loss for point in group) / len(group) for group in repeats]
        places = [("over all runs", means)]
    return [
        f"{place} losses of different sizes differ by {max(losses) - min(losses):.3g}, those of two "
        f"seeds by {between_seeds:.3g}: train more seeds, or sizes that are further apart"
        for place, losses in places
        if max(losses) - min(losses) <= between_seeds
    ]


def _repeats(points: Sequence[LawPoint], count: str) -> list[list[LawPoint]]:
    """Return the points in groups of one N and D."""
    return [
        group
        for same_size in groups_of(points, lambda point: point.counts[count])
        for group in groups_of(same_size, lambda point: point.tokens)
    ]


def _deviation_between_seeds(repeats: Sequence[Sequence[LawPoint]]) -> float | None:
    """Return the pooled standard deviation of losses at equal N and D; None without repeats."""
    squares = 0.0
    freedom = 0
    for group in repeats:
        if len({point.seed for point in group}) > 1:
            losses = np.array([point.loss for point in group])
            squares += float(((losses - losses.mean()) ** 2).sum())
            freedom += len(group) - 1
    if freedom == 0:
        return None
    return math.sqrt(squares / freedom)

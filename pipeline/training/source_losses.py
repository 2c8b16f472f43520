"""The training loss of one step by source, and of the text that the run repeats. Pure arithmetic."""

import math
from collections.abc import Sequence

from pipeline.store.metrics import SourceFigures

DIGITS = 6
"""Digits after the point of a recorded loss: far below the noise of a step, and short in a line of
metrics.jsonl."""


def source_figures(
    names: Sequence[str], nats: Sequence[float], targets: Sequence[float]
) -> SourceFigures:
    """Return a step's fields of metrics.jsonl from the sums of each group of rows.

    `nats`, `targets`: two numbers a source, in the order of `names`: of text that the run sees for the
    first time, and of text that it repeats. The fields of repeated text are left out where there is
    none. A source has no loss where it has no target in the step, or where its loss was not finite.
    """
    sums = [nats[2 * i] + nats[2 * i + 1] for i in range(len(names))]
    counts = [targets[2 * i] + targets[2 * i + 1] for i in range(len(names))]
    figures: SourceFigures = {
        "loss_by_source": _losses(names, sums, counts),
        "targets_by_source": _counts(names, counts),
    }
    if any(targets[1::2]):
        figures["repeated_loss_by_source"] = _losses(names, nats[1::2], targets[1::2])
        figures["repeated_targets_by_source"] = _counts(names, targets[1::2])
    return figures


def _losses(
    names: Sequence[str], nats: Sequence[float], targets: Sequence[float]
) -> dict[str, float]:
    return {
        name: round(amount / count, DIGITS)
        for name, amount, count in zip(names, nats, targets, strict=True)
        if count and math.isfinite(amount)
    }


def _counts(names: Sequence[str], targets: Sequence[float]) -> dict[str, int]:
    return {name: int(count) for name, count in zip(names, targets, strict=True) if count}

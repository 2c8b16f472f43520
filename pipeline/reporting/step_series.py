"""The steps of a run for the page: numbers as columns, validations as records, read line by line.

A run may have millions of steps. Reads metrics.jsonl.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.reporting.generalisation import SourceCurves, TrainingSums
from pipeline.store.metrics import StepRecord

FIELDS = ("loss", "learning_rate", "tokens_per_second", "grad_norm", "mfu")
"""Fields of every step that the page draws."""
DRAWN_STEPS = 20_000
"""Steps from which on a line is drawn with fewer points."""
BUCKETS = 2_000
"""Parts of a longer line; of each its lowest and its highest point are drawn. A figure is 864 points
wide, so that each part is less than half a point."""


@dataclass(frozen=True)
class Line:
    """The points of one line of a figure."""

    tokens: np.ndarray
    """`(points,)`: tokens that the run had been trained on."""
    values: np.ndarray
    """`(points,) float64`; NaN leaves a gap."""


@dataclass(frozen=True)
class StepSeries:
    """All steps of a run, oldest first: 48 bytes a step."""

    tokens: np.ndarray
    """`(steps,) int64`"""
    values: dict[str, np.ndarray]
    """Field -> `(steps,) float64`, NaN where a step has no number."""
    validated: list[StepRecord]
    """The records of the steps that were followed by a validation."""
    curves: list[SourceCurves]
    """Training against held-out loss of each source."""

    def __len__(self) -> int:
        return len(self.tokens)

    def line(self, field: str, *, with_gaps: bool) -> Line:
        """Return the line of a field, with few enough points to draw.

        `with_gaps`: keep the steps without a number, which leave a gap in the line.
        """
        tokens = self.tokens
        values = self.values[field]
        if not with_gaps:
            known = ~np.isnan(values)
            tokens = tokens[known]
            values = values[known]
        places = drawn_places(values)
        return Line(tokens[places], values[places])


def step_series(records: Iterable[StepRecord]) -> StepSeries:
    """Return the columns of the records, which are read once."""
    tokens = array("q")
    columns = {field: array("d") for field in FIELDS}
    validated: list[StepRecord] = []
    sums = TrainingSums()
    for record in records:
        tokens.append(record["tokens"])
        for field, column in columns.items():
            value = record.get(field)
            column.append(np.nan if value is None else value)
        if "validation_loss" in record or "validation_loss_by_source" in record:
            validated.append(record)
        sums.add(record)
    return StepSeries(
        np.array(tokens, np.int64),
        {field: np.array(column, np.float64) for field, column in columns.items()},
        validated,
        sums.curves(),
    )


def drawn_places(values: np.ndarray) -> np.ndarray:
    """Return the places of the points of a line that are drawn, in order.

    All of a short line. Of a longer one the first and the last, and of each part the lowest, the
    highest and the first gap: so peaks and gaps stay, and the line looks the same.
    """
    count = len(values)
    if count <= DRAWN_STEPS:
        return np.arange(count)
    edges = np.linspace(0, count, BUCKETS + 1).astype(np.int64)
    places = {0, count - 1}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:end]
        gaps = np.isnan(part)
        if gaps.any():
            places.add(start + int(gaps.argmax()))
        if not gaps.all():
            places.add(start + int(np.nanargmin(part)))
            places.add(start + int(np.nanargmax(part)))
    return np.array(sorted(places))

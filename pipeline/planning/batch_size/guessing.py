"""The loss of guessing in the figures of a batch study: what is above it has diverged. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace

from pipeline.planning.batch_size.batch_figures import RELATIVE
from pipeline.planning.batch_size.batch_results import BatchResult, best_of_batches
from pipeline.store.studies.figure_table import FigurePoint, FigureTable


def with_guessing(
    tables: Sequence[FigureTable],
    results: Sequence[BatchResult],
    reference: int,
    vocabulary: int | None,
) -> list[FigureTable]:
    """Return the figures, with the loss of guessing in those that have a loss above it.

    Guessing gives every id of the vocabulary the same probability: ln V nats a token. `vocabulary`:
    ids of the model; None adds nothing.
    """
    if vocabulary is None:
        return list(tables)
    return [_with_line(table, results, reference, vocabulary) for table in tables]


def _with_line(
    table: FigureTable, results: Sequence[BatchResult], reference: int, vocabulary: int
) -> FigureTable:
    """Return a figure with the line, where it has a loss above it."""
    loss = math.log(vocabulary)
    label = f"guessing, ln {vocabulary:,} = {loss:.2f} nats"
    height = loss
    if table.name == RELATIVE:
        best = best_of_batches([result for result in results if result.batch == reference])
        height = 100 * (loss / best[0].mean - 1)
    runs = table.points_of("run")
    highest = max((point.high or point.y for point in runs), default=-math.inf)
    if highest <= height:
        return table
    line = FigurePoint("chance", label, runs[0].x, height)
    return replace(table, points=[*table.points, line])

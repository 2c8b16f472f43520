"""The numbers of a batch study's figures: loss over the batch |B| = K |B_ref|."""

from collections.abc import Sequence

from pipeline.planning.batch_size.batch_results import (
    RATE_WORDS,
    BatchResult,
    best_of_batches,
    schedule_words,
    variant_words,
)
from pipeline.planning.batch_size.published_batches import (
    GOYAL_WARMED_UP,
    GOYAL_WITHOUT_WARM_UP,
    batch_ratio,
    increase_percent,
)
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

LOSS = "validation_loss_nats_per_token"
OVER_BATCH = "loss_over_batch"
BEST = "best_loss_over_batch"
RELATIVE = "loss_beside_published"
GOYAL = "Goyal 2017, ResNet-50, warm-up"
GOYAL_COLD = "Goyal 2017, no warm-up"


def batch_figures(results: Sequence[BatchResult], reference: int) -> list[FigureTable]:
    """Return the tables of all figures; none without results."""
    tables = [_loss_over_batch(variant, own) for variant, own in _by_variant(results).items()]
    tables.append(_best_over_batch(results))
    tables.append(_beside_published(results, reference))
    return [table for table in tables if table.points]


def _by_variant(results: Sequence[BatchResult]) -> dict[str, list[BatchResult]]:
    """Return name of a variant, empty without any -> its results."""
    groups: dict[str, list[BatchResult]] = {}
    for result in results:
        groups.setdefault(variant_words(result), []).append(result)
    return groups


def _loss_over_batch(variant: str, results: Sequence[BatchResult]) -> FigureTable:
    """Return a curve for each way in which the learning rate follows the batch."""
    name = OVER_BATCH
    if variant:
        name += "_" + variant.replace(", ", "_").replace(" ", "")
    order = list(RATE_WORDS)
    curves = sorted(results, key=lambda each: (order.index(each.scaling), each.batch))
    return FigureTable(
        name,
        "batch_tokens",
        LOSS,
        [_point(schedule_words(each), each) for each in curves if each.losses],
    )


def _best_over_batch(results: Sequence[BatchResult]) -> FigureTable:
    """Return the best loss of each batch, a curve for each variant."""
    points: list[FigurePoint] = []
    for variant, own in _by_variant(results).items():
        series = f"best, {variant}" if variant else "best of each batch"
        points += [_point(series, best) for best in best_of_batches(own)]
    return FigureTable(BEST, "batch_tokens", LOSS, points)


def _point(series: str, result: BatchResult) -> FigurePoint:
    return FigurePoint("run", series, result.batch, result.mean, result.low, result.high)


def _beside_published(results: Sequence[BatchResult], reference: int) -> FigureTable:
    """Return by how much the loss is above the best one of the reference batch, beside Goyal's error.

    A curve for each rule of scaling, at its best warm-up and variant.
    """
    at_reference = best_of_batches([result for result in results if result.batch == reference])
    points: list[FigurePoint] = []
    if at_reference:
        base = at_reference[0].mean
        for rule, words in RATE_WORDS.items():
            own = [result for result in results if result.scaling == rule]
            points += [_increase(words, best, base, reference) for best in best_of_batches(own)]
        points += [
            FigurePoint("published", GOYAL, batch_ratio(error), increase_percent(error))
            for error in GOYAL_WARMED_UP
        ]
        points.append(
            FigurePoint(
                "published",
                GOYAL_COLD,
                batch_ratio(GOYAL_WITHOUT_WARM_UP),
                increase_percent(GOYAL_WITHOUT_WARM_UP),
            )
        )
    return FigureTable(RELATIVE, "batch_over_reference", "above_reference_percent", points)


def _increase(series: str, result: BatchResult, base: float, reference: int) -> FigurePoint:
    """Return how far a loss and those of its seeds are above `base`, in percent of it."""
    mean, low, high = (100 * (loss / base - 1) for loss in (result.mean, result.low, result.high))
    return FigurePoint("run", series, result.batch / reference, mean, low, high)

"""The report of a batch study: loss over the effective batch, for its page."""

from collections.abc import Sequence

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.logs import counted_noun
from pipeline.planning.batch_size.batch_figures import batch_figures
from pipeline.planning.batch_size.batch_results import (
    BatchResult,
    batch_results,
    best_of_batches,
    deviation_of_seeds,
    largest_harmless,
    schedule_words,
    variant_words,
)
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.page import Cell
from pipeline.reporting.study.batch_looks import batch_caption, batch_look
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable

RESULTS_NOTE = (
    "Mean validation loss over the seeds, in nats a token, with the lowest and the highest. Every batch "
    "was trained on the same tokens. Against: the mean over that of the best reference batch."
)


def report_batch_study(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report of a batch study, whatever part of it is done."""
    reference = opened.study.rules.reference_batch_tokens
    return batch_report(
        opened.file.stem, points, reference or opened.base.batch.global_batch_tokens, totals
    )


def batch_report(
    title: str, points: Sequence[StudyPoint], reference: int, totals: StudyTotals
) -> StudyReport:
    """Return the report; `reference`: tokens of the batch for which the rate was tuned."""
    results = batch_results(points, reference)
    best = best_of_batches(results)
    used = f"{sum(not point.left_out for point in points)} of them count"
    return StudyReport(
        title=title,
        line=(
            f"Validation loss over the effective batch |B| = K |B_ref|, |B_ref| = {reference:,} tokens, "
            "after the same tokens."
        ),
        tiles=[*total_tiles(totals, used), *_harmless_tiles(results, best, reference)],
        refusals=_refusals(results, reference),
        statements=_statements(results, best, reference),
        figures=[
            StudyFigure(table, batch_look(table), batch_caption(table))
            for table in batch_figures(results, reference)
        ],
        numbers={},
        results=[
            _results_table("Best of each batch", best, best, reference),
            _results_table("All batches and recipes", results, best, reference),
        ],
        runs=runs_table(points, {}, totals.not_begun),
    )


def _refusals(results: Sequence[BatchResult], reference: int) -> list[str]:
    """Return what the runs cannot tell, with the remedy."""
    if not any(result.batch == reference for result in results):
        return [
            f"no run of the reference batch of {reference:,} tokens counts, so nothing is compared with "
            "it: train its runs"
        ]
    if deviation_of_seeds(results) is None:
        return [
            "no batch has two seeds under one recipe, so that no difference can be told from noise: "
            "train more seeds"
        ]
    return []


def _harmless_tiles(
    results: Sequence[BatchResult], best: Sequence[BatchResult], reference: int
) -> list[Tile]:
    """Return the largest batch that costs no loss; nothing where the runs cannot tell."""
    deviation = deviation_of_seeds(results)
    if deviation is None:
        return []
    largest = largest_harmless(best, reference, deviation)
    if largest is None:
        return []
    return [
        Tile(f"K = {largest / reference:g}", "largest batch without loss", f"{largest:,} tokens")
    ]


def _statements(
    results: Sequence[BatchResult], best: Sequence[BatchResult], reference: int
) -> list[str]:
    """Return what the runs say, a sentence each."""
    deviation = deviation_of_seeds(results)
    if deviation is None:
        return []
    statements = [f"One seed differs from another by {deviation:.4f} nats (standard deviation)."]
    for rule in dict.fromkeys(result.scaling for result in results):
        own = best_of_batches([result for result in results if result.scaling == rule])
        statements += _sentence(
            f"With {schedule_words(own[0]).partition(',')[0]}", own, reference, deviation
        )
    statements += _sentence("With the best rule of each batch", best, reference, deviation)
    return statements


def _sentence(
    which: str, best: Sequence[BatchResult], reference: int, deviation: float
) -> list[str]:
    """Return up to which batch the loss stays that of the reference, and how far the largest is above."""
    largest = largest_harmless(best, reference, deviation)
    if largest is None:
        return []
    at_reference = next(each for each in best if each.batch == reference)
    last = best[-1]
    increase = last.mean / at_reference.mean - 1
    sentence = (
        f"{which}, batches up to K = {largest / reference:g} are as good as the reference within the "
        f"seeds' spread"
    )
    if last.batch > reference:
        sentence += f"; at K = {last.batch / reference:g} the loss is {increase:+.1%}"
    return [f"{sentence}."]


def _results_table(
    title: str, results: Sequence[BatchResult], best: Sequence[BatchResult], reference: int
) -> TitledTable:
    """Return a row for each batch and recipe."""
    base = next((each.mean for each in best if each.batch == reference), None)
    rows: list[list[Cell]] = []
    for result in results:
        against = "" if base is None else f"{result.mean / base - 1:+.2%}"
        rows.append(
            [
                ", ".join(filter(None, (schedule_words(result), variant_words(result)))),
                f"{result.batch:,}",
                f"{result.batch / reference:g}",
                f"{result.steps:,}",
                f"{result.peak_learning_rate:.3g}",
                counted_noun(len(result.losses), "seed"),
                f"{result.mean:.4f}",
                f"{result.low:.4f} to {result.high:.4f}",
                against,
            ]
        )
    head = ["recipe", "batch", "K", "steps", "peak rate", "seeds", "loss", "lowest to highest"]
    return TitledTable(title, ([*head, "against"], rows), 1, RESULTS_NOTE)

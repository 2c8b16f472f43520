"""The report of a batch study: loss over the effective batch, for its page."""

from collections.abc import Mapping, Sequence

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import (
    StudyTotals,
    diverged_sentences,
    runs_table,
    total_tiles,
)
from pipeline.logs import counted_noun
from pipeline.planning.batch_size.batch_figures import batch_figures
from pipeline.planning.batch_size.batch_results import (
    BatchResult,
    batch_results,
    best_of_batches,
    deviations_of_seeds,
    difference_seen,
    first_without_stable,
    largest_harmless,
    schedule_words,
    variant_words,
)
from pipeline.planning.batch_size.guessing import with_guessing
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.page import Cell
from pipeline.reporting.study.batch_looks import batch_caption, batch_look
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable

RESULTS_NOTE = (
    "Mean validation loss over the seeds, in nats a token, with the lowest and the highest. Every batch "
    "was trained on the same tokens. Against: the mean over that of the best reference batch. A recipe of "
    "which a seed diverged is best nowhere."
)


def report_batch_study(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report of a batch study, whatever part of it is done."""
    reference = opened.study.rules.reference_batch_tokens
    return batch_report(
        opened.file.stem,
        points,
        reference or opened.base.batch.global_batch_tokens,
        totals,
        opened.runs[0].facts.shape.vocabulary,
    )


def batch_report(
    title: str,
    points: Sequence[StudyPoint],
    reference: int,
    totals: StudyTotals,
    vocabulary: int | None = None,
) -> StudyReport:
    """Return the report.

    `reference`: tokens of the batch for which the rate was tuned. `vocabulary`: ids of the model, which
    tell the loss of guessing; None if unknown.
    """
    results = batch_results(points, reference)
    best = best_of_batches(results)
    used = f"{sum(not point.left_out for point in points)} of them count"
    figures = with_guessing(batch_figures(results, reference), results, reference, vocabulary)
    return StudyReport(
        title=title,
        line=(
            f"Validation loss over the effective batch |B| = K |B_ref|, |B_ref| = {reference:,} tokens, "
            "after the same tokens."
        ),
        tiles=[*total_tiles(totals, used), *_harmless_tiles(results, reference)],
        refusals=_refusals(results, reference),
        statements=[*_statements(results, reference), *diverged_sentences(points)],
        figures=[StudyFigure(table, batch_look(table), batch_caption(table)) for table in figures],
        numbers={},
        results=[
            _results_table("Best of each batch", best, best, reference),
            _results_table("All batches and recipes", results, best, reference),
        ],
        runs=runs_table(points, {}, totals.not_begun),
    )


def _refusals(results: Sequence[BatchResult], reference: int) -> list[str]:
    """Return what the runs cannot tell, with the remedy."""
    at_reference = [result for result in results if result.batch == reference]
    if not any(result.is_stable for result in at_reference):
        remedy = "train its runs"
        if at_reference:
            remedy = "all its recipes diverged, so give them a lower rate"
        return [
            f"no run of the reference batch of {reference:,} tokens counts, so nothing is compared with "
            f"it: {remedy}"
        ]
    if not deviations_of_seeds(results):
        return [
            "no batch has two seeds under one recipe, so that no difference can be told from noise: "
            "train more seeds"
        ]
    return []


def _harmless_tiles(results: Sequence[BatchResult], reference: int) -> list[Tile]:
    """Return the largest batch of which no loss is seen; nothing where the runs cannot tell."""
    largest = largest_harmless(results, reference, deviations_of_seeds(results))
    if largest is None:
        return []
    return [
        Tile(
            f"K = {largest / reference:g}", "largest batch without loss seen", f"{largest:,} tokens"
        )
    ]


def _statements(results: Sequence[BatchResult], reference: int) -> list[str]:
    """Return what the runs say, a sentence each."""
    deviations = deviations_of_seeds(results)
    if not deviations:
        return []
    spread = ", ".join(
        f"{deviation:.4f}{f' ({variant})' if variant else ''}"
        for variant, deviation in deviations.items()
    )
    statements = [f"Standard deviation of a loss over seeds, in nats: {spread}."]
    for rule in dict.fromkeys(result.scaling for result in results):
        own = [result for result in results if result.scaling == rule]
        words = schedule_words(own[0]).partition(",")[0]
        statements += _sentence(f"With {words}", own, reference, deviations)
    statements += _sentence("With the best rule of each batch", results, reference, deviations)
    return statements


def _sentence(
    which: str,
    results: Sequence[BatchResult],
    reference: int,
    deviations: Mapping[str, float],
) -> list[str]:
    """Return up to which batch no loss is seen, what could be seen, and how far the largest is above."""
    best = best_of_batches(results)
    largest = largest_harmless(results, reference, deviations)
    if largest is None:
        return []
    at_reference = next(each for each in best if each.batch == reference)
    seen = difference_seen(at_reference, at_reference, deviations)
    sentence = (
        f"{which}, no loss is seen up to K = {largest / reference:g}, where {seen:.4f} nats could be told "
        "from the seeds' spread"
    )
    last = best[-1]
    if last.batch > reference:
        increase = last.mean / at_reference.mean - 1
        sentence += f"; at K = {last.batch / reference:g} the loss is {increase:+.1%}"
    diverged = first_without_stable(results)
    if diverged is not None and diverged > reference:
        sentence += f"; at K = {diverged / reference:g} a seed of every recipe diverged"
    return [f"{sentence}."]


def _results_table(
    title: str, results: Sequence[BatchResult], best: Sequence[BatchResult], reference: int
) -> TitledTable:
    """Return a row for each batch and recipe."""
    base = next((each.mean for each in best if each.batch == reference), None)
    rows: list[list[Cell]] = []
    for result in results:
        count = counted_noun(len(result.losses) + result.diverged, "seed")
        if result.diverged:
            count += f", {result.diverged} diverged"
        rows.append(
            [
                ", ".join(filter(None, (schedule_words(result), variant_words(result)))),
                f"{result.batch:,}",
                f"{result.batch / reference:g}",
                f"{result.steps:,}",
                f"{result.peak_learning_rate:.3g}",
                count,
                *_loss_cells(result, base),
            ]
        )
    head = ["recipe", "batch", "K", "steps", "peak rate", "seeds", "loss", "lowest to highest"]
    return TitledTable(title, ([*head, "against"], rows), 1, RESULTS_NOTE)


def _loss_cells(result: BatchResult, base: float | None) -> list[Cell]:
    """Return mean, range, and the mean against that of the reference; blank where all seeds diverged."""
    if not result.losses:
        return ["", "", ""]
    against = "" if base is None else f"{result.mean / base - 1:+.2%}"
    return [f"{result.mean:.4f}", f"{result.low:.4f} to {result.high:.4f}", against]

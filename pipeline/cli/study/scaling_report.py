"""The report of a scaling study: figures, laws and runs, for its page. Pure functions."""

from collections.abc import Sequence

from pipeline.cli.study.fit_lines import UNIT_WORDS, with_bounds
from pipeline.cli.study.law_tables import law_sentences, law_tables, refusal_lines
from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.points import COUNTS, Selection, product_remarks
from pipeline.planning.study.points import StudyPoint
from pipeline.planning.study.scaling_figures import drawn_count, scaling_figures
from pipeline.reporting.study.scaling_looks import ScalingFacts, scaling_caption, scaling_look
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile


def scaling_report(
    title: str,
    points: Sequence[StudyPoint],
    selection: Selection,
    summaries: Sequence[FitSummary],
    totals: StudyTotals,
) -> StudyReport:
    """Return the report; `summaries` is empty where the points allow no fit."""
    count = drawn_count(selection.table, summaries)
    drawn = next((summary for summary in summaries if count in summary.counts), None)
    facts = _facts(selection, count, drawn)
    reasons = {point.name: point.reason for point in selection.dropped}
    used = f"{len(selection.kept)} used by fits"
    return StudyReport(
        title=title,
        line=(
            "Loss over parameters N, tokens D and compute C: L(N, D) = E + A / N^alpha + B / D^beta "
            f"fitted to {len(selection.kept)} of {len(points)} runs."
        ),
        tiles=[*total_tiles(totals, used), *_law_tiles(drawn)],
        refusals=refusal_lines(selection),
        statements=law_sentences(summaries),
        figures=[
            StudyFigure(table, scaling_look(table.name, facts), scaling_caption(table, facts))
            for table in scaling_figures(selection, count, drawn)
        ],
        numbers={},
        results=[table for summary in summaries for table in law_tables(summary)],
        runs=runs_table(points, reasons, totals.not_begun),
    )


def _facts(selection: Selection, count: str, drawn: FitSummary | None) -> ScalingFacts:
    """Return what captions need to know."""
    not_identified: list[str] = []
    if drawn is not None:
        not_identified = [number.symbol for number in drawn.numbers if not number.is_identified]
    return ScalingFacts(
        count=COUNTS[count],
        unit=UNIT_WORDS[selection.table.unit],
        has_law=drawn is not None,
        not_identified=not_identified,
        remarks=product_remarks(selection.kept, count),
    )


def _law_tiles(drawn: FitSummary | None) -> list[Tile]:
    """Return the exponents of the drawn law; nothing without a law."""
    if drawn is None:
        return []
    words = {"E": "E, irreducible loss", "a": "a, N_opt grows as C^a"}
    tiles: list[Tile] = []
    for number in drawn.numbers:
        if number.symbol not in words:
            continue
        _, detail = with_bounds(number.interval)
        if not number.is_identified:
            detail = f"not identified, {detail}"
        tiles.append(Tile(f"{number.interval.value:.3f}", words[number.symbol], detail))
    return tiles

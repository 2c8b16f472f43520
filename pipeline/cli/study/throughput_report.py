"""The report of a throughput study: figures, the fit, predictions, variants, for its page."""

import math
import statistics
from collections.abc import Sequence

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.logs import counted_noun, number_or_blank, short
from pipeline.planning.laws.intervals import Interval
from pipeline.planning.study.measured_steps import MeasuredRun, measured_runs
from pipeline.planning.study.points import StudyPoint
from pipeline.planning.study.throughput import ThroughputQuestion, first_variants
from pipeline.planning.study.throughput_figures import SERIES, steps_as_csv, throughput_figures
from pipeline.planning.study.throughput_findings import (
    ThroughputFindings,
    VariantRate,
    throughput_findings,
)
from pipeline.planning.throughput.scaling_fit import LEAST_ERROR, FittedScaling
from pipeline.planning.throughput.step_points import (
    StepPoint,
    efficiency,
    numbers_of_devices,
    reference_rate,
)
from pipeline.planning.throughput.throughput_file import write_throughput
from pipeline.reporting.page import Cell
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable
from pipeline.reporting.study.throughput_looks import throughput_caption, throughput_look

GIGA = 1e9
MOST_EFFICIENCY = 1.1
"""Efficiency above which the reference is doubted; caches that hold more of a smaller share of the work
can gain a few percent."""
STEPS_NOTE = (
    "Medians of the runs that differ in the seed only. Communication: share of a step, measured by "
    "leaving out the reduction of gradients and the gathering of weights in every second of some "
    "steps after the last one; blank where no such steps were made. By the fit: the step that the law "
    "gives, which was fitted to weak scaling where there is any."
)


def throughput_report(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report, and write `throughput.json` for `pipeline plan --from`.

    Where the runs allow no fit, no file of an earlier one is left.
    """
    question: ThroughputQuestion = opened.study.question
    runs, reasons = measured_runs(opened.study, opened.runs)
    findings = throughput_findings(runs, reasons, question.predict)
    _renew_file(opened, findings)

    # The parts of the page.
    steps = findings.points
    warnings = _warnings(findings)
    results: list[TitledTable] = []
    numbers: dict[str, str] = {}
    tiles: list[Tile] = []
    if steps:
        results.append(_steps_table(findings))
        numbers["steps"] = steps_as_csv([run.point for run in runs])
        tiles = _tiles(findings)
    if findings.predictions:
        results.append(_predictions_table(findings))
    if findings.variants:
        results.append(_variants_table(findings.variants, first_variants(opened.study)))
    return StudyReport(
        title=opened.file.stem,
        line=(
            "Throughput of the same training on "
            f"{', '.join(map(str, sorted(opened.study.axes.ranks)))} data-parallel ranks."
        ),
        tiles=[*total_tiles(totals, f"{len(runs)} with enough steps"), *tiles],
        refusals=findings.refusals,
        statements=[*_statements(findings, first_variants(opened.study)), *warnings],
        figures=[
            StudyFigure(table, throughput_look(table), throughput_caption(table))
            for table in throughput_figures(steps, findings.fitted, findings.plan)
        ],
        numbers=numbers,
        results=results,
        runs=runs_table(points, reasons, totals.not_begun),
    )


def _renew_file(opened: OpenedStudy, findings: ThroughputFindings) -> None:
    path = opened.folder.throughput
    if findings.fitted is None:
        path.unlink(missing_ok=True)
        return
    fewest = min(findings.fitted.points, key=lambda point: point.devices)
    run_dir = opened.folder.run_dir(fewest.name)
    write_throughput(path, findings.fitted, str(run_dir.relative_to(opened.folder.path)))


def _tiles(findings: ThroughputFindings) -> list[Tile]:
    """Return the efficiency of each way of scaling on the most devices."""
    points = findings.points
    reference = reference_rate(points)
    most = numbers_of_devices(points)[-1]
    tiles: list[Tile] = []
    for scaling in ("weak", "strong"):
        own = [point for point in points if point.scaling == scaling and point.devices == most]
        if own:
            value = statistics.median(efficiency(point, reference) for point in own)
            tiles.append(Tile(f"{value:.0%}", f"efficiency, {scaling}", f"on {most} devices"))
    return tiles


def _warnings(findings: ThroughputFindings) -> list[str]:
    """Return what the runs cannot say, a sentence each."""
    sentences: list[str] = []
    if findings.overloaded is not None:
        sentences.append(
            f"From {findings.overloaded} ranks on, a machine has more ranks than cores: they take "
            "turns, so efficiency falls whatever the communication costs. This says nothing about a "
            "cluster, and these runs are left out of the fit."
        )
    if findings.has_unknown_places:
        sentences.append(
            "Nothing tells on which machines the ranks were, nor whether each had a core of its own: the "
            "runs were made without settings.train.communication_steps."
        )
    elif findings.points and all(point.nodes == 1 for point in findings.points):
        sentences.append(
            "All ranks were on one machine, so no network was measured; predictions are for more "
            "ranks of one machine, with a core or device for each."
        )
    reference = reference_rate(findings.points) if findings.points else 1.0
    highest = max((efficiency(point, reference) for point in findings.points), default=0.0)
    if highest > MOST_EFFICIENCY:
        sentences.append(
            f"An efficiency of {highest:.0%} is more than devices can gain from being many: something "
            "else slowed the runs on the fewest devices; train them again while nothing else runs."
        )
    return sentences


def _statements(findings: ThroughputFindings, first: str) -> list[str]:
    """Return what the runs say, a sentence each."""
    sentences: list[str] = []
    if findings.fitted is not None:
        sentences += _law_sentences(findings.fitted)
    sentences += _link_sentences(findings.runs)
    if findings.points and not any(point.exposed_share is not None for point in findings.points):
        sentences.append(
            "The share of communication was not measured: set settings.train.communication_steps, "
            "such as 10, with a template of ZeRO 0 to 2."
        )
    if findings.variants:
        sentences.append(_variant_sentence(findings.variants, first))
    return sentences


def _law_sentences(fitted: FittedScaling) -> list[str]:
    # What a step takes.
    law = fitted.law
    share = law.per_device_seconds / law.compute_seconds if law.compute_seconds else 0.0
    words = [
        f"Fitted to {counted_noun(len(fitted.points), 'run')} on "
        f"{', '.join(map(str, numbers_of_devices(fitted.points)))} devices: t_c = "
        f"{law.compute_seconds:.4g} s for {law.tokens_per_device:,.0f} tokens of a device; each "
        f"further device adds g = {law.per_device_seconds:.3g} s, {share:.2%} of it; relative error of "
        f"a median step {_error_in_words(fitted)}."
    ]

    # How fast gradients move, and how much of that is hidden.
    for name, bandwidth in (("within a node", law.link), ("between nodes", law.network)):
        if bandwidth is None:
            continue
        if math.isinf(bandwidth):
            words.append(f"No time of communication is seen {name}.")
        else:
            words.append(f"Bandwidth {name} by the fit: {bandwidth / GIGA:.3g} GB/s.")
    if law.link is None and law.network is None:
        words.append(
            "The bandwidth is not identified by these runs: the time of communication is part of t_c "
            "and g."
        )
    if fitted.is_overlap_fitted:
        words.append(
            f"Computing hides communication during {law.overlap:.0%} of its time, by the fit."
        )
    elif law.overlap:
        words.append(f"The overlap is assumed: {law.overlap:.0%} of computing.")
    return words


def _error_in_words(fitted: FittedScaling) -> str:
    words = f"{fitted.relative_error:.1%}"
    if fitted.relative_error == LEAST_ERROR:
        words += ", the least that is assumed, as runs and law show no more"
    return words


def _link_sentences(runs: Sequence[MeasuredRun]) -> list[str]:
    """Return what links there are, and what an all-reduce among all ranks reached over them."""
    sentences: list[str] = []
    for devices in numbers_of_devices(run.point for run in runs):
        events = [
            run.communication
            for run in runs
            if run.point.devices == devices and run.communication is not None
        ]
        if not events:
            continue
        rate = statistics.median(event["bytes_per_second"] for event in events)
        event = events[-1]
        place = "one machine" if event["nodes"] == 1 else f"{event['nodes']} machines"
        sentences.append(
            f"All-reduce among {devices} ranks on {place} ({event['backend']}): bus bandwidth "
            f"{rate / GIGA:.3g} GB/s; links of a machine to others: {event['network']}."
        )
    return sentences


def _variant_sentence(variants: Sequence[VariantRate], first: str) -> str:
    best = variants[0]
    second = variants[1] if len(variants) > 1 else best
    sentence = (
        f"Of the variants tried on {best.devices} devices, {best.variant or first} is the fastest, "
        f"{short(best.tokens_per_second)} tokens/s"
    )
    if best.lowest <= second.highest and second is not best:
        return f"{sentence}, by no more than runs of one variant differ."
    return f"{sentence}."


def _steps_table(findings: ThroughputFindings) -> TitledTable:
    """Return a row for each number of devices and way of scaling."""
    head = ["scaling", "K", "nodes", "batch", "step, s", "tokens/s", "efficiency"]
    head += ["communication", "data wait", "step by the fit, s"]
    reference = reference_rate(findings.points)
    places = dict.fromkeys((point.scaling, point.devices) for point in findings.points)
    rows: list[list[Cell]] = []
    for scaling, devices in places:
        own = [
            point
            for point in findings.points
            if point.scaling == scaling and point.devices == devices
        ]
        rows.append(_step_row(own, reference, findings.fitted))
    return TitledTable("Steps", (head, rows), 1, STEPS_NOTE)


def _step_row(
    own: Sequence[StepPoint], reference: float, fitted: FittedScaling | None
) -> list[Cell]:
    """Return the row of runs that differ in the seed only."""
    first = own[0]
    shares = [point.exposed_share for point in own if point.exposed_share is not None]
    by_fit = ""
    if fitted is not None:
        by_fit = f"{fitted.law.step_of(first).total:.4g}"
    return [
        first.scaling,
        str(first.devices),
        str(first.nodes),
        f"{first.tokens:,}",
        f"{statistics.median(point.seconds for point in own):.4g}",
        f"{statistics.median(point.tokens_per_second for point in own):,.0f}",
        f"{statistics.median(efficiency(point, reference) for point in own):.1%}",
        number_or_blank(statistics.median(shares) if shares else None, ".1%"),
        f"{statistics.median(point.data_wait_share for point in own):.1%}",
        by_fit,
    ]


def _predictions_table(findings: ThroughputFindings) -> TitledTable:
    """Return a row for each predicted number of devices."""
    head = ["K", "step, s", "95 % band", "tokens/s", "95 % band", "efficiency", "95 % band"]
    rows: list[list[Cell]] = [
        [
            f"{each.devices:,.0f}",
            *_with_band(each.seconds, ".4g"),
            *_with_band(each.tokens_per_second, ",.0f"),
            *_with_band(each.efficiency, ".1%"),
        ]
        for each in findings.predictions
    ]
    note = "The batch as in the fitted runs."
    if findings.plan is not None:
        note = f"Batch: {SERIES[findings.plan.scaling]}, as in the fitted runs."
    return TitledTable("Predictions", (head, rows), 0, note)


def _with_band(interval: Interval, form: str) -> tuple[str, str]:
    return (
        format(interval.value, form),
        f"{format(interval.low, form)} to {format(interval.high, form)}",
    )


def _variants_table(variants: Sequence[VariantRate], first: str) -> TitledTable:
    head = ["variant", "K", "tokens/s", "range of runs", "communication"]
    rows: list[list[Cell]] = [
        [
            rate.variant or first,
            str(rate.devices),
            f"{rate.tokens_per_second:,.0f}",
            f"{rate.lowest:,.0f} to {rate.highest:,.0f}",
            number_or_blank(rate.exposed_share, ".1%"),
        ]
        for rate in variants
    ]
    note = f"The fastest first. The other tables and the figures are of {first}."
    return TitledTable("Variants", (head, rows), 1, note)

"""The report of a critical-batch study: steps and tokens to target losses, for its page."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import StudyTotals, diverged_sentences, runs_table, total_tiles
from pipeline.engine.noise_average import EVERY_STEPS, LEAST_UPDATES, MEMORY_STEPS
from pipeline.logs import number_or_blank, short
from pipeline.planning.batch_size.critical_figures import critical_figures, main_answer
from pipeline.planning.batch_size.critical_results import (
    RunCurve,
    TargetAnswer,
    answer_at,
    common_target,
    curve_of_run,
)
from pipeline.planning.batch_size.target import TargetMissed
from pipeline.planning.batch_size.tuned_rate import largest_within
from pipeline.planning.laws.intervals import Interval
from pipeline.planning.study.critical_batch import CriticalBatchQuestion
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.page import Cell
from pipeline.reporting.study.critical_batch_looks import (
    critical_batch_caption,
    critical_batch_look,
)
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable

TOLERANCE = 0.01
"""Nats a token by which the loss of a larger batch may be higher. Source: Merrill et al. 2025
(arXiv:2505.23971)."""
TARGETS_NOTE = (
    "B_crit = E_min / S_min, in tokens, with [95 %]. A step of B_crit takes twice the fewest "
    "steps and tokens. Scatter: standard deviation of log S around the fit. The intervals "
    "follow from that scatter alone: they do not hold what other seeds would give where each "
    "batch has one, nor that the best learning rate may lie between two that were tried, "
    f"which makes S too large. Noise scale: a running average over the last {MEMORY_STEPS} "
    "steps, shortly before the target; median [lowest, highest] over the batches that have "
    f"made {LEAST_UPDATES} measurements by then, one every {EVERY_STEPS} steps. With fewer the "
    "average is over all of the run, and the noise scale rises during a run; blank where no "
    "batch has as many."
)
BATCHES_NOTE = (
    "S and E are read off between two validations, at the best learning rate of each batch. Tokens count "
    "from the first step of the runs, so from the checkpoint where they branch off one."
)


def report_critical_batch(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report of a critical-batch study, whatever part of it is done."""
    by_name = {point.name: point for point in points}
    curves: list[RunCurve] = []
    for run in opened.runs:
        point = by_name.get(run.name)
        if point is not None and (point.has_diverged or not point.left_out):
            curves.append(replace(curve_of_run(run), has_diverged=point.has_diverged))
    question: CriticalBatchQuestion = opened.study.question
    origin = opened.runs[0].config.train.init_from
    branch = "" if origin is None else f" All runs branch off {origin.name}."
    return critical_batch_report(
        opened.file.stem, points, curves, question.target_losses, totals, branch
    )


def critical_batch_report(
    title: str,
    points: Sequence[StudyPoint],
    curves: Sequence[RunCurve],
    targets: Sequence[float],
    totals: StudyTotals,
    branch: str = "",
) -> StudyReport:
    """Return the report; `targets` is empty for the lowest loss that every batch has reached."""
    refusals = _several_sizes(points)
    answers: list[TargetAnswer] = []
    if not refusals:
        answers = _answers(curves, targets)
        refusals = _refusals(answers)
    used = f"{sum(not point.left_out for point in points)} of them count"
    return StudyReport(
        title=title,
        line=(
            "Steps S and tokens E to a validation loss over the batch B, the learning rate tuned at each: "
            f"(S / S_min - 1)(E / E_min - 1) = 1.{branch}"
        ),
        tiles=[*total_tiles(totals, used), *_tiles(answers)],
        refusals=refusals,
        statements=[*_statements(answers), *_same_tokens(points), *diverged_sentences(points)],
        figures=[
            StudyFigure(table, critical_batch_look(table), critical_batch_caption(table))
            for table in critical_figures(answers)
        ],
        numbers={},
        results=[_targets_table(answers), *(_batches_table(answer) for answer in answers)],
        runs=runs_table(points, {}, totals.not_begun),
    )


def _several_sizes(points: Sequence[StudyPoint]) -> list[str]:
    """Return a reason where the runs have models of several sizes."""
    sizes = sorted({point.size for point in points})
    if len(sizes) < 2:
        return []
    return [
        f"runs have models of several sizes, {', '.join(sizes)}, and a critical batch size is that of one; "
        "keep one of sizes"
    ]


def _answers(curves: Sequence[RunCurve], targets: Sequence[float]) -> list[TargetAnswer]:
    """Return what the runs say at each target, the lowest loss first."""
    if not targets:
        common = common_target(curves)
        targets = [] if common is None else [common]
    return [answer_at(curves, target) for target in sorted(targets)]


def _refusals(answers: Sequence[TargetAnswer]) -> list[str]:
    """Return why there is no critical batch at a target, each with its remedy."""
    if not answers:
        return ["no run that counts has a validation loss; train the runs to their end"]
    return [f"to {each.target:.4g} nats: {each.refusal}" for each in answers if each.refusal]


def _tiles(answers: Sequence[TargetAnswer]) -> list[Tile]:
    """Return the critical batch at the drawn target; nothing without a fit."""
    if not answers:
        return []
    answer = main_answer(answers)
    if answer.fitted is None:
        return []
    critical = answer.fitted.critical_batch
    tiles = [
        Tile(
            short(critical.value),
            f"B_crit, tokens, at {answer.target:.4g} nats",
            f"[{short(critical.low)}, {short(critical.high)}]",
        )
    ]
    if answer.noise is not None:
        detail = f"running average over {MEMORY_STEPS} steps, {_batches_of_noise(answer)}"
        tiles.append(Tile(short(answer.noise.value), "noise scale there, tokens", detail))
    return tiles


def _statements(answers: Sequence[TargetAnswer]) -> list[str]:
    """Return what the runs say at each target, a sentence each."""
    statements: list[str] = []
    for answer in answers:
        if answer.fitted is not None:
            fitted = answer.fitted
            sentence = (
                f"To {answer.target:.4g} nats: S_min = {_amount(fitted.fewest_steps)} steps, E_min = "
                f"{_amount(fitted.fewest_total)} tokens, B_crit = {_amount(fitted.critical_batch)} tokens"
            )
            sentence += f"; {_noise_in_words(answer, fitted.critical_batch.value)}"
            ratio = answer.kaplan / fitted.critical_batch.value
            statements.append(f"{sentence}; Kaplan's B_crit {ratio:.2g} times.")
        is_open = [batch for batch in answer.tuned if batch.open_side]
        if is_open and not answer.refusal:
            named = ", ".join(f"B = {each.batch:,} ({each.open_side})" for each in is_open)
            statements.append(
                f"To {answer.target:.4g} nats the best rate is the last one tried, and a better one may "
                f"lie beyond, at {named}."
            )
    return statements


def _noise_in_words(answer: TargetAnswer, critical: float) -> str:
    """Return what the runs measured beside the fitted B_crit, in tokens, and over what."""
    if answer.noise is None:
        return (
            "the noise scale there is not known, as no batch has made "
            f"{LEAST_UPDATES} measurements before the target, one every {EVERY_STEPS} steps"
        )
    return (
        f"the measured noise scale, a running average over the last {MEMORY_STEPS} steps, is "
        f"{answer.noise.value / critical:.2g} times that, {_batches_of_noise(answer)}"
    )


def _batches_of_noise(answer: TargetAnswer) -> str:
    return f"of {len(answer.noise_batches)} of {len(answer.tuned)} batches"


def _same_tokens(points: Sequence[StudyPoint]) -> list[str]:
    """Return which batches are as good as the smallest after the same tokens, and from what."""
    best: dict[int, float] = {}
    seeds: set[int] = set()
    for point in points:
        if point.loss is not None and not point.left_out:
            batch = point.batch_tokens
            best[batch] = min(point.loss, best.get(batch, point.loss))
            seeds.add(point.seed)
    if len(best) < 2:
        return []

    # The largest batch that counts, or by how much the first one misses.
    smallest, second = sorted(best)[:2]
    largest = largest_within(best, TOLERANCE)
    if largest > smallest:
        sentence = (
            f"At the end, after the same tokens, batches up to {largest:,} tokens are within {TOLERANCE} "
            f"nats of the smallest, {smallest:,} (the criterion of Merrill et al. 2025)."
        )
    else:
        sentence = (
            f"At the end, after the same tokens, not even the second smallest batch, {second:,} tokens, is "
            f"within {TOLERANCE} nats of the smallest, {smallest:,} (the criterion of Merrill et al. "
            f"2025): its loss is {best[second] - best[smallest]:.3f} nats higher, so no larger batch counts."
        )

    # What the comparison rests on.
    basis = "Each loss is the lowest of a batch over its learning rates"
    if len(seeds) == 1:
        return [f"{sentence} {basis}, from a single seed: a difference of this size may be chance."]
    return [f"{sentence} {basis} and {len(seeds)} seeds, so that some of it is chance."]


def _amount(interval: Interval) -> str:
    return f"{short(interval.value)} [{short(interval.low)}, {short(interval.high)}]"


def _targets_table(answers: Sequence[TargetAnswer]) -> TitledTable:
    """Return a row for each target."""
    rows: list[list[Cell]] = []
    for answer in answers:
        fitted = answer.fitted
        numbers = ["refused", "", "", ""]
        if fitted is not None:
            numbers = [
                _amount(fitted.critical_batch),
                _amount(fitted.fewest_steps),
                _amount(fitted.fewest_total),
                f"{fitted.scatter:.3f}",
            ]
        noise = ""
        if answer.noise is not None:
            noise = f"{_amount(answer.noise)}, {_batches_of_noise(answer)}"
        rows.append([f"{answer.target:.4f}", *numbers, noise, short(answer.kaplan)])
    head = ["target loss", "B_crit", "S_min", "E_min", "scatter", "noise scale", "Kaplan's B_crit"]
    return TitledTable("Critical batch", (head, rows), 1, TARGETS_NOTE)


def _batches_table(answer: TargetAnswer) -> TitledTable:
    """Return a row for each batch: its best rate, steps and tokens, or why it missed the target."""
    tuned = {each.batch: each for each in answer.tuned}
    rows: list[list[Cell]] = []
    for batch in sorted({each.batch for each in answer.tries}):
        best = tuned.get(batch)
        if best is None:
            rows.append([f"{batch:,}", _why_missed(answer, batch), "", "", "", ""])
            continue
        by_fit = None if answer.fitted is None else answer.fitted.curve.steps(batch)
        rows.append(
            [
                f"{batch:,}",
                f"better rate may be {best.open_side}" if best.open_side else "",
                f"{best.rate_factor:g}",
                f"{best.steps:,.1f}",
                short(best.tokens),
                number_or_blank(by_fit, ",.1f"),
            ]
        )
    head = ["batch, tokens", "remark", "best rate", "S", "E", "S by the fit"]
    return TitledTable(f"To {answer.target:.4f} nats", (head, rows), 2, BATCHES_NOTE)


def _why_missed(answer: TargetAnswer, batch: int) -> str:
    """Return why nothing tells when a batch reached the target: the reason of a run that missed it.

    A run that was there too early comes before those that never were.
    """
    missed = [
        each.result
        for each in answer.tries
        if each.batch == batch and isinstance(each.result, TargetMissed)
    ]
    assert missed, f"{batch} has reached the target"
    return f"target missed: {max(missed, key=lambda result: result.is_early).reason}"

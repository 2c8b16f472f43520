"""The report of a time-to study: times to the targets, beside throughput. Pure functions but one."""

from collections.abc import Sequence

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.cli.study.timed_runs import timed_runs
from pipeline.logs import counted_noun, human_seconds, short
from pipeline.planning.study.points import StudyPoint
from pipeline.planning.time_to.rank_orders import (
    RankedRecipe,
    RankOrders,
    orders_sentence,
    rank_orders,
)
from pipeline.planning.time_to.targets import Arrival, Target, arrival, refusal
from pipeline.planning.time_to.time_to_figures import time_to_figures
from pipeline.planning.time_to.timed_run import TimedRun
from pipeline.reporting.account_words import energy_in_words
from pipeline.reporting.page import Cell
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable
from pipeline.reporting.study.time_to_looks import time_to_caption, time_to_look
from pipeline.store.studies.figure_table import csv_text

TIMES_NOTE = (
    "Reached at the first validation, or scored checkpoint, at or beyond the target; nothing is "
    "interpolated, so a time may be too long by the interval since the reading before, in ( ). Time "
    "counts from the first launch of the ranks, with start-up, validations, saves, restarts and lost "
    "steps; not earlier stages, queues and time between jobs. Device-hours: ranks x time. K: ranks."
)
NO_ENERGY = " Energy is blank where the devices told none, as on CPUs."
ORDERS_NOTE = (
    "tokens/s: median over the steps, geometric mean over seeds. A recipe without a time did not reach the "
    "target with all its seeds, or was there before its first reading, and then is in no pair. A pair is not "
    "told where tokens/s overlap within the seeds and 2 %, or times since the readings before; a recipe that "
    "did not arrive may have been there any time after its last reading."
)


def report_of_time_to_study(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report of a study, read from the folders of its runs."""
    question = opened.study.question
    targets = [Target(loss) for loss in question.losses]
    targets += [Target(score, task) for task, score in question.scores.items()]
    return time_to_report(opened.file.stem, targets, points, timed_runs(opened, points), totals)


def time_to_report(
    title: str,
    targets: Sequence[Target],
    points: Sequence[StudyPoint],
    runs: Sequence[TimedRun],
    totals: StudyTotals,
) -> StudyReport:
    """Return the report; a target that no run reached is refused with the reason."""
    # When each run was at each target.
    arrivals = [[arrival(run, target) for run in runs] for target in targets]
    refusals = [refusal(own[0].target, own) for own in arrivals]
    reached = [own for own, refused in zip(arrivals, refusals, strict=True) if not refused]
    orders = [rank_orders(own) for own in reached]

    # The parts of the page.
    sentences = [
        orders_sentence(order, own[0].target.label)
        for own, order in zip(reached, orders, strict=True)
    ]
    left_out = [f"{run.name}: left out, {run.left_out}." for run in runs if run.left_out]
    counted = sum(not run.left_out for run in runs)
    labels = ", ".join(target.label for target in targets)
    return StudyReport(
        title=title,
        line=f"Time, tokens, device-hours and energy of {counted_noun(len(runs), 'run')} to {labels}.",
        tiles=[*total_tiles(totals, f"{counted} timed"), *_tiles(reached)],
        refusals=[reason for reason in refusals if reason],
        statements=[sentence for sentence in [*sentences, *left_out] if sentence],
        figures=[
            StudyFigure(table, time_to_look(table.name), time_to_caption(table))
            for table in time_to_figures(runs, arrivals)
        ],
        numbers={"times_to_targets": _times_csv(arrivals)},
        results=[
            *(_times_table(own) for own in reached),
            *(
                _orders_table(order, own[0].target)
                for own, order in zip(reached, orders, strict=True)
            ),
        ],
        runs=runs_table(points, {}, totals.not_begun),
    )


def _tiles(reached: Sequence[Sequence[Arrival]]) -> list[Tile]:
    """Return the shortest time to each target that was reached."""
    tiles: list[Tile] = []
    for own in reached:
        # One that was there before its first validation may have been faster than all.
        is_told = not any(each.is_early for each in own)
        timed = [(each.seconds, each.run.name) for each in own if each.seconds is not None]
        if timed and is_told:
            seconds, name = min(timed)
            tiles.append(Tile(human_seconds(seconds), f"to {own[0].target.label}", name))
    return tiles


def _times_table(arrivals: Sequence[Arrival]) -> TitledTable:
    """Return a row for each run, the first to arrive first; then those that did not."""
    label = arrivals[0].target.label
    head = [
        "run",
        "",
        "tokens/s",
        "K",
        "batch",
        "steps",
        "tokens",
        "time",
        "device-hours",
        "energy",
    ]
    ordered = sorted(arrivals, key=lambda each: (each.at is None, each.seconds or 0.0))
    note = TIMES_NOTE
    if any(each.at is not None and each.at.joules is None for each in arrivals):
        note += NO_ENERGY
    return TitledTable(f"Times to {label}", (head, [_times_row(each) for each in ordered]), 2, note)


def _times_row(each: Arrival) -> list[Cell]:
    run = each.run
    row: list[Cell] = [run.name, each.reason, f"{run.tokens_per_second:,.0f}", run.ranks]
    row.append(f"{run.batch_tokens:,}")
    if each.at is None:
        return [*row, *[""] * 5]
    time = ""
    hours = ""
    if each.at.seconds is not None and each.at.device_seconds is not None:
        time = human_seconds(each.at.seconds)
        hours = f"{each.at.device_seconds / 3600:.3g}"
    if each.interval_seconds is not None:
        time += f" (-{human_seconds(each.interval_seconds)})"
    energy = ""
    if each.at.joules is not None:
        energy = energy_in_words(each.at.joules)
    return [*row, f"{each.at.step:,}", short(each.at.tokens), time, hours, energy]


def _orders_table(orders: RankOrders, target: Target) -> TitledTable:
    """Return both orders of the recipes as two columns."""
    head = ["recipe", "tokens/s", "by tokens/s", "time", "by time"]
    rows: list[list[Cell]] = [
        [
            recipe.name,
            f"{recipe.tokens_per_second:,.0f}",
            recipe.throughput_rank,
            _time_of_recipe(recipe),
            "" if recipe.time_rank is None else recipe.time_rank,
        ]
        for recipe in orders.recipes
    ]
    verdict = "no pair can be compared"
    if orders.pairs:
        verdict = f"{orders.disagreeing} of {orders.pairs} pairs disagree"
    if orders.untold:
        verdict += f", {orders.untold} not told"
    return TitledTable(
        f"Throughput and time to {target.label}: {verdict}",
        (head, rows),
        1,
        ORDERS_NOTE,
    )


def _time_of_recipe(recipe: RankedRecipe) -> str:
    if recipe.is_early:
        return "before its first reading"
    if recipe.seconds is None:
        return "not reached"
    return human_seconds(recipe.seconds)


def _times_csv(arrivals: Sequence[Sequence[Arrival]]) -> str:
    """Return all runs and targets as CSV; empty fields where nothing was reached or recorded."""
    head = ["target", "run", "recipe", "ranks", "batch_tokens", "tokens_per_second", "steps"]
    head += ["tokens", "seconds", "interval_seconds", "device_seconds", "joules", "reason"]
    rows: list[list[str | float | None]] = [list(head)]
    for own in arrivals:
        for each in own:
            at = each.at
            reached: list[float | None] = [None] * 6
            if at is not None:
                reached = [at.step, at.tokens, at.seconds, each.interval_seconds]
                reached += [at.device_seconds, at.joules]
            run = each.run
            rows.append(
                [
                    *(each.target.label, run.name, run.recipe, run.ranks, run.batch_tokens),
                    *(run.tokens_per_second, *reached, each.reason),
                ]
            )
    return csv_text(rows)

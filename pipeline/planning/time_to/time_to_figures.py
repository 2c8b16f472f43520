"""The numbers of the figures on times to targets. Pure arithmetic."""

from collections.abc import Sequence

from pipeline.planning.time_to.published_times import PUBLISHED_TIMES
from pipeline.planning.time_to.targets import Arrival, Target
from pipeline.planning.time_to.timed_run import TimedRun
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

SKIPPED = 0.02
"""Share of a run's tokens before which losses are not drawn: they fall steeply there."""


def time_to_figures(
    runs: Sequence[TimedRun], arrivals: Sequence[Sequence[Arrival]]
) -> list[FigureTable]:
    """Return the tables of all figures that the runs allow; `arrivals`: of each target."""
    reached = [own for own in arrivals if any(each.seconds for each in own)]
    tables = [_loss_over_time(runs, [own[0].target for own in arrivals])]
    if reached:
        tables += [_over_throughput(reached), _over_devices(reached)]
    return [table for table in tables if table.points]


def _loss_over_time(runs: Sequence[TimedRun], targets: Sequence[Target]) -> FigureTable:
    """Return (seconds, validation loss) of all runs, and the target losses."""
    points: list[FigurePoint] = []
    for run in runs:
        if run.left_out or not run.losses:
            continue
        last = run.losses[-1].tokens
        points += [
            FigurePoint("run", run.name, reading.seconds, reading.value, name=run.name)
            for reading in run.losses
            if reading.seconds and reading.value is not None and reading.tokens >= SKIPPED * last
        ]
    if points:
        first = min(point.x for point in points)
        points += [
            FigurePoint("target", "targets", first, target.value)
            for target in targets
            if target.task is None
        ]
    return FigureTable("loss_over_time", "seconds", "validation_loss", points)


def _over_throughput(arrivals: Sequence[Sequence[Arrival]]) -> FigureTable:
    """Return (tokens/s, seconds to the target) of each run, a series for each target.

    Through the fastest run of the first target goes the line on which all runs would lie that need as
    many tokens as it: time x throughput is the same there.
    """
    points: list[FigurePoint] = []
    for own in arrivals:
        for each in own:
            if each.seconds:
                x = each.run.tokens_per_second
                points.append(
                    FigurePoint("run", each.target.label, x, each.seconds, name=each.run.name)
                )
    first = [point for point in points if point.series == points[0].series]
    fastest = min(first, key=lambda point: point.y)
    product = fastest.x * fastest.y
    speeds = [point.x for point in points]
    for speed in (min(speeds), max(speeds)):
        points.append(FigurePoint("ideal", "as many tokens as the first", speed, product / speed))
    return FigureTable("time_over_throughput", "tokens_per_second", "seconds_to_target", points)


def _over_devices(arrivals: Sequence[Sequence[Arrival]]) -> FigureTable:
    """Return (devices, seconds to the target) of each run, and of published trainings."""
    points = [
        FigurePoint("run", each.target.label, each.run.ranks, each.seconds, name=each.run.name)
        for own in arrivals
        for each in own
        if each.seconds
    ]
    points += [
        FigurePoint("published", published.name, published.devices, published.seconds)
        for published in PUBLISHED_TIMES
    ]
    return FigureTable("time_over_devices", "devices", "seconds_to_target", points)

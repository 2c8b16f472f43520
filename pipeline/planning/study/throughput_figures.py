"""The numbers of a throughput study's figures, from its steps and their fit. Pure arithmetic."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipeline.planning.laws.intervals import Interval
from pipeline.planning.throughput.published_scaling import published_scaling
from pipeline.planning.throughput.scaling_fit import FittedScaling
from pipeline.planning.throughput.scaling_refusals import MOST_TIMES_BEYOND
from pipeline.planning.throughput.step_points import (
    Scaling,
    StepPoint,
    efficiency,
    numbers_of_devices,
    of_scaling,
    reference_rate,
)
from pipeline.store.studies.figure_table import FigurePoint, FigureTable, Role, csv_text

PLACES_OF_A_CURVE = 25
SERIES = {"weak": "weak: the same work a device", "strong": "strong: the same batch"}
"""Way of scaling -> name of its curve."""
IDEAL = "ideal: K times one device"


@dataclass(frozen=True)
class WirePlan:
    """The work and the sending of a device on numbers of devices that were not measured."""

    scaling: Scaling
    """That of the fitted points: weak or strong."""
    fewest: int
    """The fewest measured devices."""
    wire_bytes: Callable[[float], float]
    """Number of devices -> bytes that each device sends in a step."""
    overlap_share: float
    devices_per_node: int | None
    """None where all ranks were on one machine."""

    @property
    def series(self) -> str:
        """Name of the fit in a legend."""
        return f"fit, {self.scaling}"

    def work(self, devices: float) -> float:
        """Return a device's tokens of a step, as a share of those on the fewest devices."""
        if self.scaling == "weak":
            return 1.0
        return self.fewest / devices

    def nodes(self, devices: float) -> int:
        """Return the machines that this many devices take."""
        if self.devices_per_node is None:
            return 1
        return math.ceil(devices / self.devices_per_node)


@dataclass(frozen=True)
class PredictedThroughput:
    """What the fit says of one number of devices."""

    devices: float
    seconds: Interval
    tokens_per_second: Interval
    efficiency: Interval


def predicted(fitted: FittedScaling, plan: WirePlan, devices: float) -> PredictedThroughput:
    """Return the throughput on a number of devices, scaled as the fitted points, with the band."""
    tokens = fitted.law.tokens_per_device * plan.work(devices)
    seconds = fitted.seconds(
        devices, plan.nodes(devices), tokens, plan.wire_bytes(devices), plan.overlap_share
    )
    rate = _inverse(tokens * devices, seconds)
    ideal = devices * reference_rate(fitted.points)
    efficiency = Interval(rate.value / ideal, rate.low / ideal, rate.high / ideal)
    return PredictedThroughput(devices, seconds, rate, efficiency)


def _inverse(amount: float, seconds: Interval) -> Interval:
    """Return an amount a second."""
    return Interval(amount / seconds.value, amount / seconds.high, amount / seconds.low)


def throughput_figures(
    points: Sequence[StepPoint], fitted: FittedScaling | None, plan: WirePlan | None
) -> list[FigureTable]:
    """Return the tables of all figures that the points, and the fit if there is one, allow."""
    if not points:
        return []
    curve: list[tuple[Role, PredictedThroughput]] = []
    if fitted is not None and plan is not None:
        curve = _curve(fitted, plan)
    series = "fit" if plan is None else plan.series
    tables = [_throughput(points, curve, series), _efficiency(points, curve, series)]
    shares = _communication(points, fitted, plan)
    if shares.points:
        tables.append(shares)
    return tables


def _curve(fitted: FittedScaling, plan: WirePlan) -> list[tuple[Role, PredictedThroughput]]:
    """Return the fit from the fewest devices to the most, and beyond them."""
    numbers = numbers_of_devices(fitted.points)
    far = MOST_TIMES_BEYOND * numbers[-1]
    parts: list[tuple[Role, float, float]] = [
        ("fit", numbers[0], numbers[-1]),
        ("beyond", numbers[-1], far),
    ]
    return [
        (role, predicted(fitted, plan, float(devices)))
        for role, low, high in parts
        for devices in np.geomspace(low, high, PLACES_OF_A_CURVE)
    ]


def _throughput(
    points: Sequence[StepPoint], curve: Sequence[tuple[Role, PredictedThroughput]], series: str
) -> FigureTable:
    """Return tau_K over K: the ideal, the runs, the fit, and what others have published."""
    reference = reference_rate(points)
    rows = _runs(points, lambda point: point.tokens_per_second)
    rows += [
        FigurePoint(
            role,
            series,
            each.devices,
            each.tokens_per_second.value,
            each.tokens_per_second.low,
            each.tokens_per_second.high,
        )
        for role, each in curve
    ]
    low, high = _reach(points)
    rows += [
        FigurePoint("ideal", IDEAL, float(devices), float(devices) * reference)
        for devices in np.geomspace(low, high, PLACES_OF_A_CURVE)
    ]
    rows += [
        FigurePoint("published", name, devices, devices * reference * share)
        for name, devices, share in _published(points)
    ]
    return FigureTable("throughput", "devices", "tokens_per_second", rows)


def _efficiency(
    points: Sequence[StepPoint], curve: Sequence[tuple[Role, PredictedThroughput]], series: str
) -> FigureTable:
    """Return tau_K / (K tau_ref) over K in percent."""
    reference = reference_rate(points)
    rows = _runs(points, lambda point: 100 * efficiency(point, reference))
    rows += [
        FigurePoint(
            role,
            series,
            each.devices,
            100 * each.efficiency.value,
            100 * each.efficiency.low,
            100 * each.efficiency.high,
        )
        for role, each in curve
    ]
    low, high = _reach(points)
    rows += [FigurePoint("ideal", IDEAL, devices, 100.0) for devices in (low, high)]
    rows += [
        FigurePoint("published", name, devices, 100 * share)
        for name, devices, share in _published(points)
    ]
    return FigureTable("efficiency", "devices", "efficiency_percent", rows)


def _communication(
    points: Sequence[StepPoint], fitted: FittedScaling | None, plan: WirePlan | None
) -> FigureTable:
    """Return the measured share of communication over K in percent, and that of the fit."""
    measured = [point for point in points if point.exposed_share is not None]
    rows = _runs(measured, lambda point: 100 * (point.exposed_share or 0.0))
    if fitted is not None and plan is not None and measured:
        for point in of_scaling(fitted.points, plan.scaling):
            step = fitted.law.step_of(point)
            share = 100 * step.communication / step.total
            rows.append(FigurePoint("fit", plan.series, point.devices, share))
    return FigureTable("communication", "devices", "communication_percent", rows)


def _runs(points: Sequence[StepPoint], value: Callable[[StepPoint], float]) -> list[FigurePoint]:
    """Return each number of devices once: the median of its runs, with their range."""
    # Where there is the reference alone, it stands for weak scaling.
    tried = {point.scaling for point in points} - {"reference"} or {"weak"}
    rows: list[FigurePoint] = []
    for scaling, series in SERIES.items():
        own = of_scaling(points, scaling)  # pyright: ignore[reportArgumentType]
        if scaling not in tried:
            continue
        for devices in numbers_of_devices(own):
            runs = [point for point in own if point.devices == devices]
            values = [value(point) for point in runs]
            name = runs[0].name if len(runs) == 1 else ""
            middle = statistics.median(values)
            rows.append(FigurePoint("run", series, devices, middle, min(values), max(values), name))
    return rows


def _reach(points: Sequence[StepPoint]) -> tuple[float, float]:
    """Return the fewest devices, and the most that are drawn."""
    numbers = numbers_of_devices(points)
    return numbers[0], MOST_TIMES_BEYOND * numbers[-1]


def _published(points: Sequence[StepPoint]) -> list[tuple[str, float, float]]:
    """Return (series, devices, efficiency) of others, their fewest devices laid on the fewest here.

    Series of which only the fewest devices are in reach say nothing, and are left out.
    """
    low, high = _reach(points)
    rows: list[tuple[str, float, float]] = []
    for series in published_scaling():
        own = [
            (series.name, low * multiple, share)
            for multiple, share in series.efficiencies()
            if low * multiple <= high
        ]
        if len(own) > 1:
            rows += own
    return rows


def steps_as_csv(points: Sequence[StepPoint]) -> str:
    """Return all measured steps as a table, with the share of communication where it was measured."""
    reference = reference_rate(points)
    head = [each.name for each in fields(StepPoint)]
    rows: list[Sequence[str | float | None]] = [[*head, "tokens_per_second", "efficiency"]]
    for point in points:
        values = [getattr(point, name) for name in head]
        rows.append([*values, point.tokens_per_second, efficiency(point, reference)])
    return csv_text(rows)

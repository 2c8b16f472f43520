"""Fit of the time of a step over the number of devices K, and predictions by it. Pure arithmetic.

    t = t_c + max(0, wire / bandwidth - overlap t_c) + g (K - 1)

as in `step_time.py`; t_c is in proportion to a device's tokens. Steps without the reduction, where
they were measured, count as t_c + g (K - 1): so what slows computing itself on more devices
(stragglers, shared memory) is told from communication.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.planning.laws.intervals import Interval, percentiles
from pipeline.planning.step_time import StepTime, step_time
from pipeline.planning.throughput.step_points import (
    StepPoint,
    numbers_of_devices,
    spread_of_repeats,
)

RESAMPLES = 200
SEED = 1
LEAST_ERROR = 0.01
"""Relative error of a median step that is assumed at least: two runs of the same settings differ by
a percent even where no others use the machine."""
OVERLAPS = tuple(np.linspace(0.0, 1.0, 21))
"""Values of the overlap that are tried where it is fitted."""
ASSUMED_OVERLAP = 2 / 3
"""Overlap where the template asks for it and the points do not tell it: the backward pass."""


@dataclass(frozen=True)
class ScalingLaw:
    """The time of a step on K devices."""

    compute_seconds: float
    """t_c of `tokens_per_device` tokens."""
    tokens_per_device: float
    link: float | None
    """Bytes a second in which a device sends to others of its node; None: not identified, so that
    its time is part of t_c."""
    network: float | None
    """The same where the ring crosses nodes."""
    overlap: float
    per_device_seconds: float
    """g."""

    def step(
        self,
        devices: float,
        nodes: int,
        tokens_per_device: float,
        wire_bytes: float,
        overlap_share: float = 1.0,
    ) -> StepTime:
        """Return the parts of a step. Arguments are those of `StepPoint`."""
        bandwidth = self.link
        if nodes > 1:
            bandwidth = self.network
        return step_time(
            self.compute_seconds * tokens_per_device / self.tokens_per_device,
            wire_bytes,
            bandwidth or math.inf,
            self.overlap * overlap_share,
            self.per_device_seconds,
            devices,
        )

    def step_of(self, point: StepPoint) -> StepTime:
        """Return the parts of the step of a measured point."""
        return self.step(
            point.devices,
            point.nodes,
            point.tokens_per_device,
            point.wire_bytes,
            point.overlap_share,
        )


@dataclass(frozen=True)
class FittedScaling:
    """A law with what it was fitted to."""

    law: ScalingLaw
    resampled: Sequence[ScalingLaw]
    """Laws of the same points with random errors: their spread is the band."""
    points: Sequence[StepPoint]
    relative_error: float
    """Standard deviation of a median step, relative: from repeated runs or from the distance to the fit,
    whichever is larger."""
    is_overlap_fitted: bool

    @property
    def largest(self) -> int:
        """The largest measured K."""
        return numbers_of_devices(self.points)[-1]

    def seconds(
        self, devices: float, nodes: int, tokens_per_device: float, wire_bytes: float, share: float
    ) -> Interval:
        """Return the seconds of a step, with the band. `share`: the `overlap_share`."""
        totals = [
            law.step(devices, nodes, tokens_per_device, wire_bytes, share).total
            for law in (self.law, *self.resampled)
        ]
        low, high = percentiles(totals[1:] or totals)
        return Interval(totals[0], low, high)


@dataclass(frozen=True)
class _Sizes:
    """Which numbers of a law the points determine."""

    tokens_per_device: float
    has_link: bool
    has_network: bool
    overlaps: Sequence[float]


def fit_scaling(
    points: Sequence[StepPoint], *, overlaps: bool, resamples: int = RESAMPLES
) -> FittedScaling:
    """Fit the law to points of at least two numbers of devices.

    `overlaps`: whether gradients are reduced during the backward pass. Deviations count in log
    seconds. A bandwidth is fitted where steps without the reduction were measured, or where the
    points have one device and two further numbers; the overlap where `overlaps`, and such steps are
    known for two numbers of devices.
    """
    # What the points determine.
    sizes = _Sizes(
        tokens_per_device=min(points, key=lambda point: point.devices).tokens_per_device,
        has_link=_is_bandwidth_known([point for point in points if point.nodes == 1]),
        has_network=_is_bandwidth_known([point for point in points if point.nodes > 1]),
        overlaps=_possible_overlaps(points, overlaps),
    )
    law = _least_squares(points, sizes)

    # The error of a point, from repeats and from what the law leaves unexplained.
    errors = [(LEAST_ERROR, math.inf), _distance(law, points, sizes)]
    repeats = spread_of_repeats(points)
    if repeats is not None:
        errors.append(repeats)
    error, freedom = max(errors)

    # The law of the same points with such errors.
    generator = np.random.default_rng(SEED)
    width = error * _stretch(freedom)
    resampled: list[ScalingLaw] = []
    for _ in range(resamples):
        factors = np.exp(generator.normal(0.0, width, len(points)))
        moved = [
            replace(point, seconds=point.seconds * factor)
            for point, factor in zip(points, factors, strict=True)
        ]
        resampled.append(_least_squares(moved, sizes))
    return FittedScaling(law, resampled, points, error, len(sizes.overlaps) > 1)


def _stretch(freedom: float) -> float:
    """Return by how much errors are drawn wider where few degrees of freedom tell their size."""
    from scipy.stats import norm, t

    if math.isinf(freedom):
        return 1.0
    return float(t.ppf(0.975, freedom) / norm.ppf(0.975))


def _is_bandwidth_known(points: Sequence[StepPoint]) -> bool:
    """Tell whether points of one kind of link tell what communication takes."""
    if any(point.exposed_share is not None and point.devices > 1 for point in points):
        return True
    numbers = numbers_of_devices(points)
    return len(numbers) >= 3 and numbers[0] == 1


def _possible_overlaps(points: Sequence[StepPoint], overlaps: bool) -> Sequence[float]:
    """Return the values of the overlap to try: 0 without it, one assumed value, or all."""
    if not overlaps:
        return (0.0,)
    measured = [point for point in points if point.exposed_share is not None and point.devices > 1]
    if len(numbers_of_devices(measured)) >= 2:
        return OVERLAPS
    return (ASSUMED_OVERLAP,)


@dataclass(frozen=True)
class _Row:
    """One equation: a step, with the reduction or without."""

    seconds: float
    scale: float
    """Tokens of a device / those of the reference."""
    wire_bytes: float
    crosses_nodes: bool
    overlap_share: float
    further_devices: int
    """K - 1."""


def _rows(points: Sequence[StepPoint], sizes: _Sizes) -> list[_Row]:
    rows: list[_Row] = []
    for point in points:
        row = _Row(
            point.seconds,
            point.tokens_per_device / sizes.tokens_per_device,
            point.wire_bytes,
            point.nodes > 1,
            point.overlap_share,
            point.devices - 1,
        )
        rows.append(row)
        if point.seconds_without is not None and point.devices > 1:
            rows.append(replace(row, seconds=point.seconds_without, wire_bytes=0.0))
    return rows


def _least_squares(points: Sequence[StepPoint], sizes: _Sizes) -> ScalingLaw:
    """Return the law with the least squared relative deviations, all its numbers at least 0.

    For a given overlap, and given which steps hide their communication, it is linear in t_c,
    1 / bandwidth and g. Of two steps, the one that sends more for its computing hides less, so there
    are only as many cases as steps.
    """
    from scipy.optimize import nnls

    rows = _rows(points, sizes)
    sent = sorted({_sent_per_computing(row) for row in rows if row.wire_bytes})
    best: ScalingLaw | None = None
    least = math.inf
    for overlap, hidden_up_to in itertools.product(sizes.overlaps, [0.0, *sent]):
        # Without overlap nothing is hidden.
        if hidden_up_to and not overlap:
            continue
        matrix = np.array([_columns(row, sizes, overlap, hidden_up_to) for row in rows])
        used = np.abs(matrix).max(axis=0) > 0
        scales = np.where(used, np.abs(matrix).max(axis=0), 1.0)
        solution, _ = nnls(matrix / scales, np.ones(len(rows)))
        law = _law_of(solution / scales, sizes, overlap)
        residual = sum(deviation**2 for deviation in _deviations(law, rows))
        if residual < least * (1 - 1e-9):
            best = law
            least = residual
    assert best is not None, "one case is always tried"
    return best


def _sent_per_computing(row: _Row) -> float:
    """Return what decides which of two steps hides less of its communication."""
    return row.wire_bytes / (row.overlap_share * row.scale)


def _columns(row: _Row, sizes: _Sizes, overlap: float, hidden_up_to: float) -> list[float]:
    """Return the coefficients of t_c, 1 / link, 1 / network and g, divided by the row's seconds."""
    compute = row.scale
    link = 0.0
    network = 0.0
    has_bandwidth = sizes.has_link
    if row.crosses_nodes:
        has_bandwidth = sizes.has_network
    if row.wire_bytes and has_bandwidth and _sent_per_computing(row) > hidden_up_to:
        compute -= overlap * row.overlap_share * row.scale
        link = row.wire_bytes * (not row.crosses_nodes)
        network = row.wire_bytes * row.crosses_nodes
    coefficients = (compute, link, network, float(row.further_devices))
    return [coefficient / row.seconds for coefficient in coefficients]


def _law_of(solution: np.ndarray, sizes: _Sizes, overlap: float) -> ScalingLaw:
    """Return the law of `(4,)` numbers: t_c, 1 / link, 1 / network, g."""
    return ScalingLaw(
        compute_seconds=float(solution[0]),
        tokens_per_device=sizes.tokens_per_device,
        link=_bandwidth(float(solution[1])) if sizes.has_link else None,
        network=_bandwidth(float(solution[2])) if sizes.has_network else None,
        overlap=overlap,
        per_device_seconds=float(solution[3]),
    )


def _bandwidth(inverse: float) -> float:
    """Return bytes a second; infinite where communication takes no time that is seen."""
    if inverse <= 0:
        return math.inf
    return 1 / inverse


def _deviations(law: ScalingLaw, rows: Sequence[_Row]) -> list[float]:
    """Return predicted / measured - 1 of each step."""
    return [
        law.step(
            row.further_devices + 1,
            1 + row.crosses_nodes,
            row.scale * law.tokens_per_device,
            row.wire_bytes,
            row.overlap_share,
        ).total
        / row.seconds
        - 1
        for row in rows
    ]


def _distance(law: ScalingLaw, points: Sequence[StepPoint], sizes: _Sizes) -> tuple[float, float]:
    """Return the standard deviation of the points around the law, and its degrees of freedom.

    0 where none is left over. A number that is at its limit, such as a linear term of 0, takes no
    degree of freedom.
    """
    deviations = _deviations(law, _rows(points, sizes))
    bandwidths = [law.link, law.network]
    free = [rate for rate in bandwidths if rate is not None and math.isfinite(rate)]
    numbers = 1 + len(free) + (law.per_device_seconds > 0)
    if free and len(sizes.overlaps) > 1:
        numbers += 1
    freedom = len(deviations) - numbers
    if freedom <= 0:
        return 0.0, math.inf
    return math.sqrt(sum(deviation**2 for deviation in deviations) / freedom), freedom

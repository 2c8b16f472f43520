"""What the runs of a throughput study say: the fit, predictions, the best variant. Pure arithmetic."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.hardware import CPU
from pipeline.errors import RequirementError
from pipeline.planning.study.measured_steps import MeasuredRun
from pipeline.planning.study.throughput_figures import (
    PredictedThroughput,
    WirePlan,
    predicted,
)
from pipeline.planning.throughput.scaling_fit import RESAMPLES, FittedScaling, fit_scaling
from pipeline.planning.throughput.scaling_refusals import (
    LEAST_NUMBERS,
    MOST_TIMES_BEYOND,
    refuse_far_prediction,
    refuse_poor_law,
    refuse_unfit_steps,
)
from pipeline.planning.throughput.step_points import (
    StepPoint,
    numbers_of_devices,
    of_scaling,
)


@dataclass(frozen=True)
class VariantRate:
    """The throughput of one variant, over its runs on the ranks where variants were tried."""

    variant: str
    """Names of the variants; empty for the first of each axis."""
    devices: int
    tokens_per_second: float
    """Median of its runs."""
    lowest: float
    highest: float
    exposed_share: float | None
    """Median share of communication; None where it was not measured."""


@dataclass(frozen=True)
class ThroughputFindings:
    """All that the runs of a throughput study say."""

    runs: Sequence[MeasuredRun]
    """Runs with enough steps, variants too."""
    reasons: Mapping[str, str]
    """Name of another run -> why it does not count."""
    points: Sequence[StepPoint]
    """Those without other variants."""
    fitted: FittedScaling | None
    plan: WirePlan | None
    predictions: Sequence[PredictedThroughput]
    variants: Sequence[VariantRate]
    """The fastest first; empty where no others were tried."""
    refusals: Sequence[str]
    """What was not fitted or predicted, and why."""

    @property
    def overloaded(self) -> int | None:
        """The fewest ranks that were more than the cores of their machines; None for none."""
        return min((run.point.devices for run in self.runs if is_crowded(run)), default=None)

    @property
    def has_unknown_places(self) -> bool:
        """Whether nothing tells on which machines some of the ranks were, and how many cores they had."""
        return any(run.point.devices > 1 and run.communication is None for run in self.runs)


def is_crowded(run: MeasuredRun) -> bool:
    """Tell whether ranks of a run on CPUs had to take turns, as more of them than cores did."""
    if run.device != CPU or run.communication is None:
        return False
    return run.point.devices / run.point.nodes > run.communication["cores"]


def throughput_findings(
    runs: Sequence[MeasuredRun],
    reasons: Mapping[str, str],
    asked: Sequence[int],
    resamples: int = RESAMPLES,
) -> ThroughputFindings:
    """Return what the runs say. `asked`: numbers of devices to predict; default: 2 and 4 times the most.

    What cannot be fitted or predicted is a refusal, and leaves the rest. Ranks that took turns on too
    few cores are no part of the fit: their time is none that the law knows.
    """
    plain = [run for run in runs if not run.variant]
    points = [run.point for run in plain]
    refusals: list[str] = []
    fitted = None
    plan = None
    chosen = _points_to_fit([run.point for run in plain if not is_crowded(run)])
    try:
        refuse_unfit_steps(chosen)
        overlaps = any(run.overlaps for run in plain)
        law = fit_scaling(chosen, overlaps=overlaps, resamples=resamples)
        refuse_poor_law(law.relative_error)
        fitted = law
        plan = wire_plan(chosen)
    except RequirementError as error:
        refusals.append(str(error))

    # Predictions, up to four times the most devices.
    predictions: list[PredictedThroughput] = []
    if fitted is not None and plan is not None:
        most = fitted.largest
        for devices in asked or (2 * most, MOST_TIMES_BEYOND * most):
            try:
                refuse_far_prediction(devices, most)
            except RequirementError as error:
                refusals.append(str(error))
                continue
            predictions.append(predicted(fitted, plan, devices))
    return ThroughputFindings(
        runs=runs,
        reasons=reasons,
        points=points,
        fitted=fitted,
        plan=plan,
        predictions=predictions,
        variants=_variants(runs),
        refusals=refusals,
    )


def _points_to_fit(points: Sequence[StepPoint]) -> list[StepPoint]:
    """Return the points of weak scaling; those of strong scaling where there are too few of them.

    Not both: with less work a device, a small batch is less efficient, which the law leaves out.
    """
    weak = of_scaling(points, "weak")
    if len(numbers_of_devices(weak)) >= LEAST_NUMBERS:
        return weak
    return of_scaling(points, "strong")


def wire_plan(points: Sequence[StepPoint]) -> WirePlan:
    """Return the work and the sending of a device on other numbers of devices.

    A ring sends (K - 1) / K of all bytes.
    """
    most = max(points, key=lambda point: point.devices)
    all_bytes = most.wire_bytes * most.devices / (most.devices - 1)
    devices_per_node = None
    if any(point.nodes > 1 for point in points):
        devices_per_node = max(point.devices // point.nodes for point in points)

    def wire_bytes(devices: float) -> float:
        return all_bytes * (devices - 1) / devices

    return WirePlan(
        scaling=most.scaling,
        fewest=min(point.devices for point in points),
        wire_bytes=wire_bytes,
        overlap_share=most.overlap_share,
        devices_per_node=devices_per_node,
    )


def _variants(runs: Sequence[MeasuredRun]) -> list[VariantRate]:
    """Return the rates of all variants, beside those of the same devices and batch without them."""
    tried = [run for run in runs if run.variant]
    if not tried:
        return []
    place = _place(tried[0])
    rates: list[VariantRate] = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run.point for run in runs if run.variant == variant and _place(run) == place]
        if not own:
            continue
        speeds = [point.tokens_per_second for point in own]
        shares = [point.exposed_share for point in own if point.exposed_share is not None]
        rates.append(
            VariantRate(
                variant,
                own[0].devices,
                statistics.median(speeds),
                min(speeds),
                max(speeds),
                statistics.median(shares) if shares else None,
            )
        )
    return sorted(rates, key=lambda rate: -rate.tokens_per_second)


def _place(run: MeasuredRun) -> tuple[int, int]:
    return run.point.devices, run.point.tokens

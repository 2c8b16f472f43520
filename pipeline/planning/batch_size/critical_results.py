"""What a critical-batch study's runs say at each target loss.

Reads metrics.jsonl of the runs; the rest is arithmetic.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.noise_average import LEAST_UPDATES, is_noise_measured
from pipeline.errors import RequirementError
from pipeline.planning.batch_size.hyperbola import FittedHyperbola, fit_hyperbola
from pipeline.planning.batch_size.target import (
    Evaluation,
    TargetMissed,
    TargetReached,
    target_reached,
)
from pipeline.planning.batch_size.tuned_rate import (
    TargetTry,
    TunedBatch,
    lowest_common_target,
    tuned_batches,
)
from pipeline.planning.laws.intervals import Interval
from pipeline.planning.laws.loss_law import critical_batch_tokens
from pipeline.planning.study.study_run import StudyRun
from pipeline.store.metrics import StepRecord, read_metrics

NEAR_TARGET = 0.75
"""The noise scale at a target is that of the steps after this share of the tokens to it."""
MOST_OPEN = 0.5
"""Largest share of batches whose best rate may be the last one tried."""


@dataclass(frozen=True)
class NoiseAt:
    """The noise scale that a run measured."""

    tokens: float
    scale: float | None
    """Tokens; None while there is no estimate."""
    updates: int
    """Measurements that the run has made so far, with `train.init_from` since it branched off."""


@dataclass(frozen=True)
class RunCurve:
    """Validation losses and noise scales of one run, over its own tokens."""

    name: str
    batch: int
    rate_factor: float
    evaluations: tuple[Evaluation, ...]
    noise: tuple[NoiseAt, ...]
    has_diverged: bool = False
    """Its rate was tried, and reached no target: what it had reached before is not what it would
    reach again."""

    @property
    def lowest_loss(self) -> float | None:
        """Lowest validation loss; None without a finite one, and for a run that diverged."""
        if self.has_diverged:
            return None
        losses = [each.loss for each in self.evaluations if each.loss is not None]
        return min(losses, default=None)


@dataclass(frozen=True)
class TargetAnswer:
    """The critical batch size at one target loss."""

    target: float
    """Nats a token."""
    tries: tuple[TargetTry, ...]
    tuned: tuple[TunedBatch, ...]
    """Batches that reached the target, each at its best rate."""
    fitted: FittedHyperbola | None
    refusal: str
    """Why there is no fit; empty with one."""
    noise: Interval | None
    """Median noise scale of `noise_batches` at their best rates, with the lowest and the highest."""
    noise_batches: tuple[int, ...]
    """Batches whose runs have made LEAST_UPDATES measurements before the target."""

    @property
    def kaplan(self) -> float:
        """Critical batch of Kaplan et al. 2020 at the target, in tokens."""
        return critical_batch_tokens(self.target)


def curve_of_run(run: StudyRun) -> RunCurve:
    """Return the curve of a run, from its metrics.

    Tokens count from the run's own first step, with `train.init_from` from the checkpoint.
    """
    records = read_metrics(run.config.paths.run_dir)
    train = run.config.train
    before = 0
    if records and train.init_from is not None and train.init_take == "everything":
        before = run.config.step_plan.tokens_after(records[0]["step"] - 1)
    return curve_of_records(
        run.name,
        run.config.batch.global_batch_tokens,
        float(run.place.values.get("learning_rate_factor", 1.0)),
        records,
        before,
    )


def curve_of_records(
    name: str, batch: int, rate_factor: float, records: Sequence[StepRecord], before: int
) -> RunCurve:
    """Return the curve of step records; `before`: tokens that do not count."""
    # One step in several is measured.
    noise: list[NoiseAt] = []
    updates = 0
    for record in records:
        updates += is_noise_measured(record["step"], micro_batches=2)
        scale = record["gradient_noise_scale_tokens"]
        noise.append(NoiseAt(record["tokens"] - before, scale, updates))
    return RunCurve(
        name=name,
        batch=batch,
        rate_factor=rate_factor,
        evaluations=tuple(
            Evaluation(record["tokens"] - before, record["validation_loss"])
            for record in records
            if "validation_loss" in record
        ),
        noise=tuple(noise),
    )


def common_target(curves: Sequence[RunCurve]) -> float | None:
    """Return the lowest loss that every batch has reached at one of its rates; None without losses."""
    losses = [(curve.batch, curve.lowest_loss) for curve in curves if curve.lowest_loss is not None]
    if not losses:
        return None
    return lowest_common_target(losses)


def answer_at(curves: Sequence[RunCurve], target: float) -> TargetAnswer:
    """Return what the runs say at a target; a fit that is refused says why."""
    tries = tuple(_try(curve, target) for curve in curves)
    tuned = tuple(tuned_batches(tries))
    fitted = None
    refusal = _refusal_of_rates(tuned)
    if not refusal:
        try:
            fitted = fit_hyperbola([result for batch in tuned for result in batch.results()])
        except RequirementError as error:
            refusal = str(error)
    scales = _noise_by_batch(curves, tuned)
    noise = None
    if scales:
        median = statistics.median(scales.values())
        noise = Interval(median, min(scales.values()), max(scales.values()))
    return TargetAnswer(target, tries, tuned, fitted, refusal, noise, tuple(scales))


def _try(curve: RunCurve, target: float) -> TargetTry:
    """Return when a run reached the target; one that diverged missed it."""
    result = target_reached(curve.evaluations, target, step_tokens=curve.batch)
    if curve.has_diverged:
        result = TargetMissed("it diverged")
    return TargetTry(curve.name, curve.batch, curve.rate_factor, result)


def _refusal_of_rates(tuned: Sequence[TunedBatch]) -> str:
    """Return why the batches are not tuned well enough; empty where they are."""
    is_open = [batch for batch in tuned if batch.open_side]
    if len(is_open) <= MOST_OPEN * len(tuned):
        return ""
    named = ", ".join(f"{each.batch:,} ({each.open_side})" for each in is_open)
    return (
        f"the best learning rate is the last one tried for {len(is_open)} of {len(tuned)} batches, so "
        f"that steps may be those of a wrong rate: {named}; add axes.learning_rate_factors there"
    )


def _noise_by_batch(curves: Sequence[RunCurve], tuned: Sequence[TunedBatch]) -> dict[int, float]:
    """Return the noise scale of each batch shortly before the target: the median of its seeds.

    Batches that took too few steps to have measured it are left out.
    """
    by_name = {curve.name: curve for curve in curves}
    scales: dict[int, float] = {}
    for batch in tuned:
        own = [_noise_before(by_name[each.name], each) for each in batch.tries]
        measured = [scale for scale in own if scale is not None]
        if measured:
            scales[batch.batch] = statistics.median(measured)
    return scales


def _noise_before(curve: RunCurve, reached: TargetTry) -> float | None:
    """Return the median noise scale of a run over the last part of its way to the target.

    None where it is not known: the run missed the target, or had made too few measurements.
    """
    if not isinstance(reached.result, TargetReached):
        return None
    last = reached.result.tokens_evaluated
    scales = [
        each.scale
        for each in curve.noise
        if each.scale is not None
        and each.updates >= LEAST_UPDATES
        and NEAR_TARGET * last <= each.tokens <= last
    ]
    if not scales:
        return None
    return statistics.median(scales)

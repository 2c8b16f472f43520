"""How well the runs of a study fit their small sample and held-out text, over width and over epochs.

Reads `metrics.jsonl` of runs with `data.small_sample`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.config.run_config import RunConfig
from pipeline.planning.double_descent.curve_shape import SeedValues
from pipeline.planning.study.points import StudyPoint
from pipeline.planning.study.study_run import StudyRun
from pipeline.store.metrics import read_metrics

WIDTH_NAMES = ("hidden_size", "n_embd", "d_model")
"""Names of the width in the configs of architectures."""


@dataclass(frozen=True)
class FitAt:
    """Fit of one run after some epochs."""

    epochs: float
    """Times that the run has read its sample."""
    sample_loss: float
    """Nats a target of the training rows, wrong ones included."""
    sample_error: float
    """Share of those targets that the model does not predict."""
    held_out_loss: float
    held_out_error: float

    @property
    def loss_gap(self) -> float:
        """The generalisation gap: held-out loss minus that of the training rows, in nats."""
        return self.held_out_loss - self.sample_loss


@dataclass(frozen=True)
class WidthRun:
    """One run of the study that counts."""

    name: str
    series: str
    """The curve that it belongs to: what runs differ in beside width and seed; empty with one curve."""
    width: int
    seed: int
    parameters: int
    targets: int
    """Targets of the training rows."""
    label_noise: float
    fits: Sequence[FitAt]
    """At each validation, the last one at the end of the run."""

    @property
    def end(self) -> FitAt:
        return self.fits[-1]


Measure: TypeAlias = Callable[[FitAt], float]


def width_runs(runs: Sequence[StudyRun], points: Sequence[StudyPoint]) -> list[WidthRun]:
    """Return the runs that count and have measured their fit, widths ascending within a series."""
    # Points that count, and what their curves are named by.
    counted = {point.name: point for point in points if not point.left_out}
    has_budgets = len({run.budget.label for run in runs}) > 1
    chosen: list[WidthRun] = []
    for run in runs:
        sample = run.config.data.small_sample
        if run.name not in counted or sample is None:
            continue
        fits = _fits_of_run(run, counted[run.name].epochs or 0.0)
        if not fits:
            continue

        # What the run's curve is named by, and how much it reads in an epoch.
        parts = [run.place.label]
        if has_budgets:
            parts.append(run.budget.label)
        epoch_tokens = run.tokens / (counted[run.name].epochs or 1.0)
        chosen.append(
            WidthRun(
                name=run.name,
                series=", ".join(part for part in parts if part),
                width=width_of(run.config),
                seed=run.seed,
                parameters=run.facts.parameters,
                targets=round(epoch_tokens),
                label_noise=sample.label_noise,
                fits=fits,
            )
        )
    return sorted(chosen, key=lambda run: (run.series, run.width, run.seed))


def width_of(config: RunConfig) -> int:
    """Return the width of a model. Raises KeyError where its config states none."""
    settings = config.model.config
    return int(next(settings[name] for name in WIDTH_NAMES if name in settings))


def series_of(runs: Sequence[WidthRun]) -> list[str]:
    """Return the curves of some runs, in their order."""
    return list(dict.fromkeys(run.series for run in runs))


def over_width(runs: Sequence[WidthRun], series: str, measure: Measure) -> dict[float, SeedValues]:
    """Return width -> seed -> a measure at the end of the runs of one series."""
    values: dict[float, dict[int, float]] = {}
    for run in runs:
        if run.series == series:
            values.setdefault(run.width, {})[run.seed] = measure(run.end)
    return dict(values)


def over_epochs(
    runs: Sequence[WidthRun], series: str, width: int, measure: Measure
) -> dict[float, SeedValues]:
    """Return epochs -> seed -> a measure of one width of a series."""
    values: dict[float, dict[int, float]] = {}
    for run in runs:
        if (run.series, run.width) != (series, width):
            continue
        for fit in run.fits:
            values.setdefault(fit.epochs, {})[run.seed] = measure(fit)
    return dict(values)


def _fits_of_run(run: StudyRun, epochs: float) -> list[FitAt]:
    """Return the fits that a run has recorded; none where one is not finite.

    `epochs`: of the whole run.
    """
    fits: list[FitAt] = []
    for record in read_metrics(run.config.paths.run_dir):
        if "sample_loss" not in record:
            continue
        sample_loss = record["sample_loss"]
        sample_error = record.get("sample_error")
        held_out_loss = record.get("validation_loss")
        held_out_error = record.get("validation_error")
        if (
            sample_loss is None
            or sample_error is None
            or held_out_loss is None
            or held_out_error is None
        ):
            return []
        read = epochs * record["tokens"] / run.tokens
        fits.append(FitAt(read, sample_loss, sample_error, held_out_loss, held_out_error))
    return fits

"""The axes of a study: what runs differ in beside size, budget and seed. Pure arithmetic.

At one place on the axes, a study is an ordinary one with other rules and another base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pipeline.config.batch_division import largest_divisor
from pipeline.config.run_config import RunConfig
from pipeline.config.study_file import Axes, StudyFile
from pipeline.config.yaml_files import merge
from pipeline.errors import nearest_multiples

AxisValue = float | str
ABBREVIATIONS = {
    "batch_tokens": "b{:g}",
    "learning_rate_factor": "x{:g}",
    "learning_rate_scaling": "{}",
    "warmup": "warm{:g}",
    "ranks": "k{:g}",
}
"""Axis -> how its value is written in the name of a run; variants are written as they are."""


@dataclass(frozen=True)
class Place:
    """A combination of values, one of each axis that the study has."""

    values: Mapping[str, AxisValue] = field(default_factory=dict)
    """Axis -> value: `batch_tokens`, `learning_rate_factor`, `learning_rate_scaling`, `warmup`,
    `ranks`, and the name of a variant for each axis of variants."""

    @property
    def label(self) -> str:
        """Part of the names of its runs, `b512-adamw`; empty without axes."""
        parts = [ABBREVIATIONS.get(axis, "{}").format(value) for axis, value in self.values.items()]
        return "-".join(parts)

    @property
    def ranks(self) -> int | None:
        """Data-parallel ranks; None where the executor decides."""
        ranks = self.values.get("ranks")
        if ranks is None:
            return None
        return int(ranks)

    def number(self, axis: str) -> float:
        """Return the value of an axis of numbers; raises KeyError for an axis that is not there."""
        return float(self.values[axis])


def combinations_of_axes(axes: Axes) -> list[Place]:
    """Return every combination of values; without axes the one place that has none."""
    values: dict[str, Sequence[AxisValue]] = {
        "batch_tokens": axes.batch_tokens,
        "learning_rate_factor": axes.learning_rate_factors,
        "learning_rate_scaling": axes.learning_rate_scaling,
        "warmup": axes.warmup,
        "ranks": axes.ranks,
    }
    values |= {axis: tuple(variants) for axis, variants in axes.variants.items()}
    given = {axis: options for axis, options in values.items() if options}
    return [Place(dict(zip(given, chosen, strict=True))) for chosen in product(*given.values())]


def study_at(study: StudyFile, place: Place, base_batch_tokens: int) -> StudyFile:
    """Return the study with the rules that hold at one place.

    `base_batch_tokens`: the base's batch, by which its learning rate was tuned unless the rules name
    another.
    """
    rules = study.rules
    changes: dict[str, Any] = {}
    if rules.reference_batch_tokens is None:
        changes["reference_batch_tokens"] = base_batch_tokens
        if rules.batch is not None:
            changes["reference_batch_tokens"] = rules.batch.tokens
    if "learning_rate_scaling" in place.values:
        changes["learning_rate"] = place.values["learning_rate_scaling"]
    if "warmup" in place.values:
        changes["warmup"] = place.values["warmup"]
    return study.model_copy(update={"rules": rules.model_copy(update=changes)})


def variant_settings(study: StudyFile, place: Place) -> dict[str, Any]:
    """Return the settings of the variants at a place, by section of the run file."""
    settings: dict[str, Any] = {}
    for axis, variants in study.axes.variants.items():
        settings = merge(settings, variants[str(place.values[axis])])
    return settings


def micro_batch_of(sequences: int, ranks: int, most: int, fewest: int) -> int:
    """Return the largest micro-batch, at most `most` sequences, that divides each rank's batch.

    `sequences`: of the whole batch. `fewest`: micro-batches of all ranks together, where the batch is
    large enough for them.
    """
    return largest_divisor(sequences // ranks, max(1, min(most, sequences // fewest)))


def settings_of_batch(tokens: int, base: RunConfig) -> dict[str, Any]:
    """Return the settings of a batch for a base whose micro-batch may be larger than it."""
    sequences = max(1, tokens // base.data.sequence_length)
    micro = micro_batch_of(sequences, 1, base.batch.micro_batch_sequences, 1)
    return {"global_batch_tokens": tokens, "micro_batch_sequences": micro, "ramp": []}


def rank_problems(place: Place, sequences: int) -> list[str]:
    """Return why a batch of `sequences` cannot be divided over the ranks of a place; empty if it can.

    A run has as many ranks as the axis says, or it would not be the run that was asked for.
    """
    if place.ranks is None or sequences % place.ranks == 0:
        return []
    return [
        f"axes.ranks: {place.ranks} ranks do not divide a batch of {sequences} sequences; give the "
        f"batch a multiple of them, such as {nearest_multiples(sequences, place.ranks)}"
    ]

"""The study `batch`: validation loss over the effective batch (Goyal et al. 2017)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.config.study_file import StudyFile
from pipeline.planning.batch_size.batch_results import BATCH, SCALING
from pipeline.planning.study.axes import Place
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun

FEWEST_BATCHES = 3
FEWEST_SEEDS = 2
MOST_DIFFERENCE = 0.01
"""Difference of the runs' tokens, as a share: each run has whole steps of its own batch."""


class BatchStudy(StudyKind):
    """Loss of one model at several batches, after the same tokens."""

    axes: ClassVar[tuple[str, ...]] = (
        "batch_tokens",
        "learning_rate_factors",
        "learning_rate_scaling",
        "warmup",
        "variants",
    )

    def places(self, study: StudyFile) -> list[Place]:
        """Return all combinations, with one rule of scaling at the reference batch: all are equal there."""
        reference = study.rules.reference_batch_tokens
        rules = study.axes.learning_rate_scaling
        return [
            place
            for place in super().places(study)
            if place.values.get(BATCH) != reference or place.values.get(SCALING) in rules[:1]
        ]

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves the comparison of batches without an answer.

        Too few batches, rules or seeds; a reference that is not among the batches; different tokens;
        nothing held out.
        """
        problems: list[str] = []
        batches = study.axes.batch_tokens
        reference = study.rules.reference_batch_tokens
        if len(batches) < FEWEST_BATCHES:
            problems.append(
                f"axes.batch_tokens: {len(batches)} batches, and a curve needs at least "
                f"{FEWEST_BATCHES}; add some"
            )
        if reference is None or reference not in batches:
            problems.append(
                f"rules.reference_batch_tokens: {reference}, which is none of axes.batch_tokens; set "
                "it to the batch for which the learning rate was tuned, and train that batch too"
            )
        if len(study.axes.learning_rate_scaling) < 2:
            problems.append(
                "axes.learning_rate_scaling: needs at least two of none, square-root, linear to "
                "compare; add some"
            )
        if len(study.seeds) < FEWEST_SEEDS:
            problems.append(
                f"seeds: {len(study.seeds)}, and the spread of a loss needs at least {FEWEST_SEEDS}; "
                "add some"
            )
        return [*problems, *unlike_trainings(runs)]


def unlike_trainings(runs: Sequence[StudyRun]) -> list[str]:
    """Return why losses of runs cannot be compared: sizes, tokens or held-out text."""
    problems: list[str] = []
    sizes = sorted({run.size for run in runs})
    if len(sizes) > 1:
        problems.append(
            f"sizes: {', '.join(sizes)}; batches are compared for one model, so keep one"
        )
    tokens = [run.tokens for run in runs]
    if max(tokens) > (1 + MOST_DIFFERENCE) * min(tokens):
        problems.append(
            f"budgets: runs have {min(tokens):,} to {max(tokens):,} tokens, and batches are compared "
            "after the same ones; give one of budgets.tokens, a multiple of every batch"
        )
    return [*problems, *_held_out_problems(runs)]


def _held_out_problems(runs: Sequence[StudyRun]) -> list[str]:
    """Return a problem where runs hold no text out: their validation loss would not exist."""
    config = runs[0].config
    fraction = config.prepare.validation_fraction
    are_given = config.prepare.validation is not None or any(
        source.kind == "megatron" or source.validation_paths or source.held_out_fraction(fraction)
        for source in config.sources.values()
    )
    if are_given:
        return []
    return [
        "prepare.validation_fraction = 0: nothing is held out, so that no run has a validation loss; "
        "raise it in the base"
    ]

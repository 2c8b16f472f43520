"""The study `critical-batch`: steps and tokens to a target loss over the batch (Shallue et al. 2019)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.config.study_file import StudyFile
from pipeline.config.values import Section
from pipeline.planning.batch_size.hyperbola import FEWEST_BATCHES
from pipeline.planning.study.batch import unlike_trainings
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun

FEWEST_RATES = 3
"""One on both sides of the best."""
FEWEST_VALIDATIONS = 10
STEADY_SCHEDULES = ("constant", "inverse-square-root")
"""Schedules whose rate does not depend on how long the training is."""


class CriticalBatchQuestion(Section):
    """At which losses the critical batch size is asked for."""

    target_losses: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Validation losses in nats a token, up to which steps and tokens are counted. Default: the lowest
    one that every batch has reached at one of its rates."""


class CriticalBatchStudy(StudyKind):
    """Steps and tokens of one model to a loss, at several batches with the rate tuned for each."""

    axes: ClassVar[tuple[str, ...]] = ("batch_tokens", "learning_rate_factors")
    fewest_micro_batches: ClassVar[int] = 2
    """A noise scale compares gradients of single micro-batches with their mean."""
    question_section: ClassVar[type[Section]] = CriticalBatchQuestion

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves the question open.

        Too few batches, rates or validations; a schedule that ends with the training; steps of a single
        micro-batch, whose noise scale is not measured; different trainings.
        """
        # Enough batches, rates and validations.
        problems: list[str] = []
        batches = len(study.axes.batch_tokens)
        if batches < FEWEST_BATCHES:
            problems.append(
                f"axes.batch_tokens: {batches} batches, and a hyperbola needs at least "
                f"{FEWEST_BATCHES}; add some"
            )
        rates = len(study.axes.learning_rate_factors)
        if rates < FEWEST_RATES:
            problems.append(
                f"axes.learning_rate_factors: {rates}, and the rate is tuned at each batch with at "
                f"least {FEWEST_RATES}, such as [0.5, 1, 2]"
            )
        if study.rules.validations < FEWEST_VALIDATIONS:
            problems.append(
                f"rules.validations = {study.rules.validations}: the target is read off between "
                f"validations; set it to {FEWEST_VALIDATIONS} or more"
            )

        # Steps that mean the same in a short and in a long training.
        schedule = runs[0].config.schedule.kind
        if schedule not in STEADY_SCHEDULES:
            problems.append(
                f"schedule.kind = {schedule}: its rate at a step depends on how long the training is, "
                "so that steps to a target do, too; set settings.schedule.kind to "
                f"{' or '.join(STEADY_SCHEDULES)}"
            )
        return [*problems, *_single_micro_batches(runs), *unlike_trainings(runs)]


def _single_micro_batches(runs: Sequence[StudyRun]) -> list[str]:
    """Return a problem where a step has one micro-batch: nothing then measures the noise scale."""
    batches = sorted(
        {
            run.config.batch.global_batch_tokens
            for run in runs
            if run.config.global_batch_sequences <= run.config.batch.micro_batch_sequences
        }
    )
    if not batches:
        return []
    named = ", ".join(f"{batch:,}" for batch in batches)
    return [
        f"axes.batch_tokens: a batch of {named} tokens is one micro-batch, and the noise "
        "scale compares at least two; leave it out of axes.batch_tokens"
    ]

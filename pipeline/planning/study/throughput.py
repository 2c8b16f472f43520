"""The study `throughput`: tokens a second over the number of devices (Cherti and Jitsev 2021)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.study_file import StudyFile
from pipeline.config.values import Section, TokenCount
from pipeline.errors import ConfigError, RequirementError
from pipeline.planning.run_figures import WARM_UP_STEPS
from pipeline.planning.study.axes import AxisValue, Place
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun
from pipeline.planning.throughput.scaling_refusals import LEAST_NUMBERS, refuse_far_prediction
from pipeline.planning.throughput.step_points import Scaling

LEAST_STEPS = 20
"""Steps after the first ones that a median needs."""
SCALING = "scaling"
"""Name of the place's value that says how the batch depends on the ranks."""


class ThroughputQuestion(Section):
    """What a study of throughput asks."""

    batch_tokens: Annotated[TokenCount, Field(ge=1)]
    """Tokens of a step at the smallest number of ranks, over all of them."""
    scaling: tuple[Literal["weak", "strong"], ...] = Field(("weak", "strong"), min_length=1)
    """`weak`: each rank has the work that it has at the smallest number of ranks. `strong`: that
    batch is divided among the ranks."""
    variant_ranks: Annotated[int, Field(ge=1)] | None = None
    """Ranks on which variants other than the first of each axis are tried, with the first way of
    scaling. Default: the largest number."""
    predict: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of devices to predict the throughput of, up to four times the largest number of ranks."""


class ThroughputStudy(StudyKind):
    """The same training on several numbers of ranks."""

    axes = ("ranks", "variants")
    question_section = ThroughputQuestion
    is_measured_alone = True

    def places(self, study: StudyFile) -> list[Place]:
        """Return each number of ranks with each way of scaling, and the variants at one number.

        Raises ConfigError without numbers of ranks, and for `variant_ranks` that is none of them.
        """
        question: ThroughputQuestion = study.question
        numbers = sorted(study.axes.ranks)
        if not numbers:
            raise ConfigError(
                ["axes.ranks: a study of throughput needs numbers of ranks, such as [1, 2, 4]"]
            )
        variant_ranks = question.variant_ranks or numbers[-1]
        if variant_ranks not in numbers:
            raise ConfigError(
                [
                    f"question.variant_ranks = {variant_ranks}: is none of axes.ranks = "
                    f"{', '.join(map(str, numbers))}; set one of them"
                ]
            )

        # The first variant of each axis on all numbers of ranks.
        first = {axis: next(iter(variants)) for axis, variants in study.axes.variants.items()}
        places = [_place(question, numbers[0], numbers[0], "reference", first)]
        for scaling in question.scaling:
            places += [_place(question, numbers[0], ranks, scaling, first) for ranks in numbers[1:]]

        # The others, one axis at a time.
        scaling: Scaling = question.scaling[0]
        if variant_ranks == numbers[0]:
            scaling = "reference"
        for axis, variants in study.axes.variants.items():
            places += [
                _place(question, numbers[0], variant_ranks, scaling, first | {axis: variant})
                for variant in variants
                if variant != first[axis]
            ]
        return places

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves no curve over ranks: one number of them, several models, few steps."""
        # One model and budget on several numbers of ranks.
        problems: list[str] = []
        numbers = study.axes.ranks
        if len(numbers) < LEAST_NUMBERS:
            problems.append(
                f"axes.ranks: {len(numbers)}, and a curve needs at least {LEAST_NUMBERS} numbers of "
                "ranks; add some"
            )
        sizes = list(dict.fromkeys(run.size for run in runs))
        budgets = list(dict.fromkeys(run.budget.label for run in runs))
        for name, labels in (("sizes", sizes), ("budgets", budgets)):
            if len(labels) > 1:
                problems.append(
                    f"{name}: {', '.join(labels)}; a study of throughput has one, as a curve compares "
                    "the same training on several numbers of ranks; keep one"
                )

        # Enough steps, measured in all respects.
        needed = WARM_UP_STEPS + LEAST_STEPS
        fewest = min(runs, key=lambda run: run.steps)
        if fewest.steps < needed:
            problems.append(
                f"budgets: {fewest.name} has {fewest.steps} steps, and {needed} are needed: the first "
                f"{WARM_UP_STEPS} do not count; make the budget larger, or question.batch_tokens "
                "smaller"
            )
        if not runs[0].config.train.communication_steps:
            problems.append(
                "train.communication_steps = 0: nothing tells what communication takes, nor on which "
                "machines the ranks were and how many cores they had; set "
                "settings.train.communication_steps, such as 10"
            )
        return problems + _far_predictions(study)


def _far_predictions(study: StudyFile) -> list[str]:
    """Return a problem for each number of devices that is too far from all that are measured."""
    problems: list[str] = []
    for devices in study.question.predict:
        try:
            refuse_far_prediction(devices, max(study.axes.ranks))
        except RequirementError as error:
            problems.append(f"question.predict: {error}")
    return problems


def _place(
    question: ThroughputQuestion,
    fewest: int,
    ranks: int,
    scaling: Scaling,
    variants: Mapping[str, str],
) -> Place:
    """Return a place; the batch is that of the fewest ranks, with `weak` as many times as ranks."""
    tokens = question.batch_tokens
    if scaling == "weak":
        tokens = tokens * ranks // fewest
    values: dict[str, AxisValue] = {"ranks": ranks, SCALING: scaling, "batch_tokens": tokens}
    return Place({**values, **variants})


def first_variants(study: StudyFile) -> str:
    """Return the first variant of each axis, in words."""
    return ", ".join(next(iter(variants)) for variants in study.axes.variants.values())


def variant_of(study: StudyFile, place: Place) -> str:
    """Return the variants at a place that are not the first of their axis; empty for none."""
    return ", ".join(
        str(place.values[axis])
        for axis, variants in study.axes.variants.items()
        if place.values[axis] != next(iter(variants))
    )

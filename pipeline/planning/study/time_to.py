"""The study `time-to`: time, tokens, device-hours and energy to targets (Ying 2018; Yamazaki 2019)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from pipeline.config.study_file import StudyFile
from pipeline.config.values import Location, Section
from pipeline.errors import first_of
from pipeline.evaluation.asked_tasks import BITS_PER_BYTE, asked_tasks
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun

FEWEST_RUNS = 2
FEWEST_CHECKPOINTS = 2
FEWEST_VALIDATIONS = 10
"""A target is told to one interval between validations."""


class TimeToQuestion(Section):
    """Up to which targets time is counted."""

    losses: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Validation losses, in nats a token."""
    scores: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    """Task -> score of a checkpoint, by the metric that `pipeline compare` takes. The runs are then
    evaluated: `settings` says which of their checkpoints (`evaluation.models`)."""
    runs: tuple[Location, ...] = ()
    """Folders of other runs, made on any number of devices, that are counted beside those of the study."""

    @model_validator(mode="after")
    def _has_a_target(self) -> "TimeToQuestion":
        if not self.losses and not self.scores:
            raise ValueError("needs a target: give losses, or scores")
        return self


class TimeToStudy(StudyKind):
    """Runs of several recipes, batches or numbers of ranks on their way to the same targets."""

    axes: ClassVar[tuple[str, ...]] = (
        "batch_tokens",
        "learning_rate_factors",
        "learning_rate_scaling",
        "warmup",
        "ranks",
        "variants",
    )
    question_section: ClassVar[type[Section]] = TimeToQuestion
    is_measured_alone: ClassVar[bool] = True

    def stages_of(self, study: StudyFile) -> tuple[str, ...]:
        """Return the stages of a run: scores need the checkpoints to be evaluated."""
        if study.question.scores:
            return ("train", "export", "evaluate")
        return ("train",)

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves the question open: a single run, few validations, branches."""
        problems: list[str] = []
        number = len(runs) + len(study.question.runs)
        if number < FEWEST_RUNS:
            problems.append(
                f"axes: {number} run, and times are compared between at least {FEWEST_RUNS}; add values "
                "to an axis, or other runs to question.runs"
            )
        if study.question.losses and study.rules.validations < FEWEST_VALIDATIONS:
            problems.append(
                f"rules.validations = {study.rules.validations}: a target is told to one interval between "
                f"validations; set it to {FEWEST_VALIDATIONS} or more"
            )
        if any(run.trunk is not None for run in runs):
            problems.append(
                "rules.cooldown = branches: a branch has no time of its own from the beginning; set it to "
                "each"
            )
        problems += [
            f"question.runs: {path}: there is no such file or folder"
            for path in study.question.runs
            if not path.exists()
        ]
        return problems + _unscored_targets(study, runs)


def _unscored_targets(study: StudyFile, runs: Sequence[StudyRun]) -> list[str]:
    """Return what leaves no times to scores: tasks that are not scored, a single checkpoint."""
    if not study.question.scores:
        return []
    config = runs[0].config
    asked = sorted(asked_tasks(config))
    # A group is asked for by its name, and scored as its tasks, whose names begin with it.
    beginnings = (BITS_PER_BYTE, *(f"{name}_" for name in asked))
    problems = [
        f"question.scores: {task}: the runs are not scored on it; their tasks are "
        f"{first_of(asked, 8)} (evaluation.tasks, evaluation.suite)"
        for task in study.question.scores
        if task not in asked and not task.startswith(beginnings)
    ]
    kept = config.checkpoint
    is_single = kept.keep_last < FEWEST_CHECKPOINTS and kept.keep_every_steps is None
    if is_single and not kept.keep_log_spaced and not kept.keep_steps:
        problems.append(
            "question.scores: the runs keep their last checkpoint alone, and a score is reached between two; "
            "set settings.checkpoint.keep_log_spaced or keep_every_steps, and settings.evaluation.models"
        )
    return problems

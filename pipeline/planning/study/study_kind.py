"""What a kind of study decides: the stages of its runs, and which grids can answer its question."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.config.kinds import STUDY_KINDS
from pipeline.config.study_file import StudyFile
from pipeline.config.values import Section
from pipeline.planning.study.axes import Place, combinations_of_axes
from pipeline.planning.study.study_run import StudyRun


class NoQuestion(Section):
    """Section `question` of a kind that has no settings of its own."""


class StudyKind(ABC):
    """A kind of study. Free of state."""

    stages: ClassVar[tuple[str, ...]] = ("train",)
    """Stages that each run goes through, in order."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Fields of the section `axes` that it reads; the others are refused."""
    question_section: ClassVar[type[Section]] = NoQuestion
    """Type of the section `question`: `study.question` is an object of it."""
    fewest_micro_batches: ClassVar[int] = 1
    """Micro-batches of a step of all ranks together, where the batch is large enough for them."""
    is_measured_alone: ClassVar[bool] = False
    """Whether no two runs may share this machine, as where speed is measured."""

    def stages_of(self, study: StudyFile) -> tuple[str, ...]:
        """Return the stages that each run of a study goes through: by default those of the kind."""
        return self.stages

    def places(self, study: StudyFile) -> list[Place]:
        """Return where on the axes the study has runs: by default at each combination."""
        return combinations_of_axes(study.axes)

    @abstractmethod
    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return why a grid of runs cannot answer the question; empty for one that can.

        `epochs`: name of a run -> how often it will repeat its most repeated source, for the runs
        whose data are known.
        """


def study_kind(study: StudyFile) -> StudyKind:
    """Return the object of the kind of a study."""
    return STUDY_KINDS[study.kind]

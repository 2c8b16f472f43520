"""What a kind of study decides: the stages of its runs, and which grids can answer its question."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pipeline.config.kinds import STUDY_KINDS
from pipeline.config.study_file import StudyFile
from pipeline.planning.study.grid import StudyRun


class StudyKind(ABC):
    """A kind of study. Free of state."""

    stages: ClassVar[tuple[str, ...]] = ("train",)
    """Stages that each run goes through, in order."""

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

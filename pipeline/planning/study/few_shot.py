"""The study `few-shot`: scores over sizes, numbers of examples and tokens (Brown et al. 2020)."""

from collections.abc import Mapping, Sequence

from pipeline.config.study_file import StudyFile
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun

FEWEST_SIZES = 3


class FewShotStudy(StudyKind):
    """Scores of several sizes on the same tasks."""

    stages = ("train", "export", "evaluate")

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves a figure without a curve: too few sizes."""
        sizes = {run.size for run in runs}
        if len(sizes) >= FEWEST_SIZES:
            return []
        return [
            f"sizes: {len(sizes)}, and a curve over sizes needs at least {FEWEST_SIZES}; add some"
        ]

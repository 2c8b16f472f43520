"""The study `width`: loss and error over width on a small sample (Belkin 2019; Nakkiran 2020)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from pipeline.config.study_file import StudyFile
from pipeline.config.values import Section
from pipeline.planning.study.study_kind import StudyKind
from pipeline.planning.study.study_run import StudyRun

LEAST_WIDTHS = 5
"""Widths without which no curve can fall, rise and fall again."""
LEAST_SEEDS = 2
"""Seeds without which there is no band."""
LEAST_EPOCHS = 10
"""Epochs without which no model can fit wrong targets."""


class WidthQuestion(Section):
    """Section `question` of a study of widths."""

    fitted_error: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Training error at or below which a width counts as fitting its rows. The interpolation threshold
    is the smallest width that does so, as all larger ones do. Not 0, as rows that begin alike may have
    different targets."""


class WidthStudy(StudyKind):
    """Fit to the training rows and to held-out text, of several widths on the same few rows.

    Variants of `data.small_sample`, such as its label noise, are curves of their own.
    """

    axes = ("variants",)
    question_section = WidthQuestion

    def grid_problems(
        self, study: StudyFile, runs: Sequence[StudyRun], epochs: Mapping[str, float]
    ) -> list[str]:
        """Return what leaves the question open: no small sample, few widths, seeds or epochs."""
        problems: list[str] = []
        if any(run.config.data.small_sample is None for run in runs):
            problems.append(
                "settings.data.small_sample: is not set, so no error is measured and no model reads "
                "its data often enough to fit them; set {train_sequences: 64, label_noise: 0.2}"
            )
        sizes = {run.size for run in runs}
        if len(sizes) < LEAST_WIDTHS:
            problems.append(
                f"sizes: {len(sizes)}, and a curve that may fall, rise and fall again needs at least "
                f"{LEAST_WIDTHS}; add some"
            )
        if len(study.seeds) < LEAST_SEEDS:
            problems.append(
                f"seeds: {len(study.seeds)}, which shows no band; add some, at least "
                f"{LEAST_SEEDS} in all"
            )
        few = min(epochs.values(), default=LEAST_EPOCHS)
        if few < LEAST_EPOCHS:
            problems.append(
                f"budgets: a run reads its sample {few:.2g} times, and wrong targets are fitted after "
                f"many epochs only, at least {LEAST_EPOCHS}; make the budget larger, or "
                "data.small_sample.train_sequences smaller"
            )
        return problems

"""Says in plain sentences what a comparison has found, and what cannot be said. Reads nothing."""

from collections.abc import Sequence

from pipeline.errors import first_of
from pipeline.evaluation.comparing.compared_scores import (
    LOWER_IS_BETTER,
    SHARE,
    ComparedMean,
    ComparedTask,
    Comparison,
)
from pipeline.evaluation.comparing.paired_tests import ALPHA
from pipeline.logs import counted_noun

TASKS_NAMED = 6
"""Maximum number of tasks that a sentence names."""
CLEAR_OF_NOISE = 2.0
"""A difference of fewer standard deviations is also seen between checkpoints of one run."""


def verdict(comparison: Comparison) -> list[str]:
    """Return the sentences about each model and the baseline, the most important one first."""
    sentences: list[str] = []
    for model in comparison.models:
        for mean in comparison.means:
            if mean.model == model:
                sentences += _mean_in_words(comparison.baseline, mean)
        rows = [row for row in comparison.tasks if row.model == model]
        sentences.append(_tasks_in_words(comparison.baseline, rows, len(comparison.tasks)))
    return sentences


def _mean_in_words(baseline: str, mean: ComparedMean) -> list[str]:
    """Return whether one of two models is better on average, and whether that can be said."""
    difference = mean.difference
    measure = mean.unit
    if mean.unit == SHARE:
        measure = f"the {SHARE}"
    if difference.p_value is None or difference.standard_error is None:
        return [
            f"By {measure}, {mean.model} and {baseline} have too few questions to tell which is "
            "better."
        ]

    # Which one it would be.
    gain = difference.mean
    if mean.unit in LOWER_IS_BETTER:
        gain = -gain
    better = mean.model
    worse = baseline
    if gain < 0:
        better = baseline
        worse = mean.model
    size = (
        f"{abs(difference.mean):.4f} ± {difference.standard_error:.4f} over "
        f"{counted_noun(difference.tasks, 'task')}, {_p_of_sentence(difference.p_value)}"
    )
    if difference.p_value >= ALPHA:
        return [
            f"By {measure}, which of {mean.model} and {baseline} is better cannot be said: they "
            f"differ by {size}.{_visible_in_words(difference.smallest_visible)}"
        ]
    sentence = f"By {measure}, {better} is better than {worse} on average ({size})."
    return [sentence, _noise_in_words(mean)]


def _visible_in_words(smallest: float | None) -> str:
    """Return which mean difference would show, as a further sentence; "" where nothing bounds it."""
    if smallest is None:
        return " These questions are too few to show any difference."
    if smallest == 0:
        return ""
    return f" A difference of {smallest:.4f} would show on these questions in 4 of 5 cases."


def _noise_in_words(mean: ComparedMean) -> str:
    """Return whether a mean difference is more than runs vary by themselves."""
    if mean.noise is None:
        return (
            "Whether it is more than checkpoints of one run differ by is not known: that takes four "
            "scored checkpoints of a run."
        )
    if abs(mean.difference.mean) < CLEAR_OF_NOISE * mean.noise:
        return (
            f"But single checkpoints of one run differ by as much: {mean.noise:.4f} (standard "
            "deviation). So it says little about how the models were trained."
        )
    return (
        f"It is also more than single checkpoints of one run differ by: {mean.noise:.4f} (standard "
        "deviation)."
    )


def _tasks_in_words(baseline: str, rows: Sequence[ComparedTask], tests: int) -> str:
    """Return the tasks on which one model is better, after the correction for many tests."""
    better: list[str] = []
    worse: list[str] = []
    for row in rows:
        if row.p_holm is None or row.p_holm >= ALPHA:
            continue
        name = f"{row.task} (k = {row.shots})"
        is_gain = (row.difference.difference > 0) is not row.is_lower_better
        if is_gain:
            better.append(name)
        else:
            worse.append(name)
    parts: list[str] = []
    if better:
        parts.append(f"{rows[0].model} is better on {first_of(better, TASKS_NAMED)}")
    if worse:
        parts.append(f"{baseline} is better on {first_of(worse, TASKS_NAMED)}")
    if not parts:
        return f"After Holm's correction for {counted_noun(tests, 'test')}, no single task shows a difference."
    return f"After Holm's correction for {counted_noun(tests, 'test')}: {'; '.join(parts)}."


def _p_of_sentence(p_value: float) -> str:
    text = p_in_words(p_value)
    if text.startswith("<"):
        return f"p {text}"
    return f"p = {text}"


def p_in_words(p_value: float | None) -> str:
    """Return a p-value with two digits, `< 0.0001` for the smallest; "" for None."""
    if p_value is None:
        return ""
    if p_value < 1e-4:
        return "< 0.0001"
    return f"{p_value:.2g}"

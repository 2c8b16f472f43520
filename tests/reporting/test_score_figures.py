"""Labels of axes are numbers for people, whatever range the models span."""

import re

import pytest
from test_score_curves import row

from pipeline.reporting.score_curves import task_curves
from pipeline.reporting.score_figures import scores_over_parameters, scores_over_tokens


def labels_of(svg: str) -> list[str]:
    """Return the texts of a figure."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


@pytest.mark.parametrize(
    ("smallest", "largest", "shown"),
    [
        (150_000, 1_100_000, {"200k", "1M"}),
        (1_000, 4_000, {"1k", "2k", "4k"}),
        (100, 10**7, {"1k"}),
    ],
)
def test_parameters_of_any_range_have_short_labels(
    smallest: int, largest: int, shown: set[str]
) -> None:
    rows = [
        row("t", 10, 0, 0.3, parameters=smallest),
        row("t", None, 0, 0.5, model="folder-1", parameters=largest),
    ]
    (curves,) = task_curves(rows)
    labels = labels_of(scores_over_parameters(curves))
    assert shown <= set(labels)
    assert not [label for label in labels if "mathdefault" in label]


@pytest.mark.parametrize("last", [30, 100])
def test_tokens_have_short_labels_on_both_kinds_of_axes(last: int) -> None:
    """100 is 10 times the first step, which makes the axis logarithmic; 30 is not."""
    (curves,) = task_curves([row("t", 10, 0, 0.3), row("t", last, 0, 0.5)])
    labels = labels_of(scores_over_tokens(curves))
    assert {"10k", f"{last}k"} <= set(labels)
    assert not [label for label in labels if "mathdefault" in label]

"""The page of `pipeline compare`: verdict, figures and tables in one HTML file.

Reads and writes nothing; asks no network and runs no script.
"""

from pipeline.evaluation.comparing.compared_scores import ComparedTask, Comparison
from pipeline.evaluation.comparing.paired_tests import ALPHA, POWER
from pipeline.evaluation.comparing.verdict import p_in_words, verdict
from pipeline.logs import number_or_blank
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_with_caption,
    html_table,
    section,
    whole_html,
)
from pipeline.reporting.score_figures import differences

CAPTION = (
    "Gain of {model} over {baseline} on the same questions, ± one standard error of the mean of "
    "differences. Grey: a true difference inside the bar is missed by these questions in more than "
    f"{1 - POWER:.0%} of all cases (significance {ALPHA}). Where lower scores are better, the sign "
    "is reversed."
)
COLUMNS = ("difference", "test", "p", "p (Holm)", "smallest visible", "noise")


def comparison_page(comparison: Comparison) -> str:
    """Return the page as HTML."""
    title = " and ".join([comparison.baseline, *comparison.models])
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(comparison))
    parts = [
        f"<header><h1>{escape(title)}</h1><p>compared on the questions that all have answered</p>"
        "</header>",
        section("What can be said", sentences),
        *(_pair(comparison, model) for model in comparison.models),
    ]
    if comparison.left_out:
        lines = "".join(f"<li>{escape(line)}</li>" for line in comparison.left_out)
        parts.append(section("Left out", f"<ul>{lines}</ul>"))
    return whole_html(f"{title}: comparison", "\n".join(parts))


def _pair(comparison: Comparison, model: str) -> str:
    """Return the figure and the table of one model beside the baseline."""
    compared = [row for row in comparison.tasks if row.model == model]
    rows = [_fields(row) for row in compared]
    caption = CAPTION.format(model=model, baseline=comparison.baseline)
    head = ["task", "metric", "k", "questions", comparison.baseline, model, *COLUMNS]
    return section(
        f"{model} beside {comparison.baseline}",
        f"<div class=column>{figure_with_caption(differences(compared), caption)}</div>",
        html_table(head, rows, text_columns=2),
    )


def _fields(row: ComparedTask) -> list[Cell]:
    """Return the row of the table about one task."""
    found = row.difference
    difference = f"{found.difference:+.4f}"
    if found.standard_error is not None:
        difference += f" ± {found.standard_error:.4f}"
    return [
        row.task,
        row.metric,
        row.shots,
        f"{found.items:,}",
        f"{row.baseline_score:.4f}",
        f"{row.score:.4f}",
        difference,
        found.test,
        p_in_words(found.p_value),
        p_in_words(row.p_holm),
        number_or_blank(found.smallest_visible, ".4f"),
        number_or_blank(row.noise, ".4f"),
    ]

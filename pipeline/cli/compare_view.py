"""What `pipeline compare` prints: a table for each model beside the first one, and a verdict.

Reads cells; writes the page, where one is asked for. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.config.suites import load_suite
from pipeline.errors import UserError
from pipeline.evaluation.comparing.compared_scores import (
    ComparedTask,
    Comparison,
    compare_models,
    count_cells,
)
from pipeline.evaluation.comparing.scored_models import find_scored_model, only_tasks
from pipeline.evaluation.comparing.verdict import p_in_words, verdict
from pipeline.evaluation.suite_scores import tasks_of_suite_entry
from pipeline.logs import console, note, number_or_blank, print_json, print_wide, progress
from pipeline.store.files import write_atomic

NUMBERS_WIDTH = 100
"""Columns of the table beside the names of tasks: a narrower terminal breaks lines."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of the models in the headings of tables."""
MOST_LEFT_OUT = 20
"""Maximum number of lines about what was left out; JSON and the page have all."""


def show_comparison(
    names: Sequence[str],
    *,
    metric: str | None,
    suite: str | None,
    last_checkpoints: int,
    as_json: bool,
    page: Path | None,
) -> None:
    """Compare models with the first one, and print what was found.

    `names`: RUN, RUN@STEP, transformers folders scored in one of these runs, or folders of cells.
    `suite`: compare its tasks alone, each by the metric that its source publishes. Raises UserError
    for fewer than two names, where one has no scores, and where they have none in common;
    ConfigError for an unknown suite.
    """
    if len(names) < 2:
        raise UserError(
            "give two models or more: RUN, RUN@STEP, a transformers folder or one of cells"
        )
    if suite is not None and metric is not None:
        raise UserError("--suite names a metric for each task; it does not go with --metric")
    metrics: dict[str, str] | None = None
    if suite is not None:
        metrics = metrics_of_suite(suite)

    # Two runs may have one name; then what the user typed tells them apart.
    models = [find_scored_model(name, names) for name in names]
    if len({model.title for model in models}) < len(models):
        models = [replace(model, title=name) for model, name in zip(models, names, strict=True)]

    # Read and compare.
    if metrics is not None:
        models = [only_tasks(model, metrics) for model in models]
    completed = 0
    with progress("compare", count_cells(models, last_checkpoints), "cells") as show_progress:

        def update(cells: int, task: str) -> None:
            nonlocal completed
            completed += cells
            show_progress(completed, task)

        comparison = compare_models(models, metrics or metric, last_checkpoints, update)

    # Show it.
    if page is not None:
        # Drawing needs matplotlib, which the tables in the terminal do not wait for.
        from pipeline.reporting.comparison_page import comparison_page

        write_atomic(page, comparison_page(comparison))
        note(f"wrote {page}")
    sentences = verdict(comparison)
    if as_json:
        print_json({**asdict(comparison), "verdict": sentences})
        return
    for number, model in enumerate(comparison.models, start=1):
        _print_table(comparison, model, LETTERS[min(number, len(LETTERS) - 1)])
    for line in comparison.left_out[:MOST_LEFT_OUT]:
        note(f"left out: {line}")
    if len(comparison.left_out) > MOST_LEFT_OUT:
        note(f"left out: {len(comparison.left_out) - MOST_LEFT_OUT:,} more; --json shows all")
    for sentence in sentences:
        console.print(sentence)


def metrics_of_suite(suite: str) -> dict[str, str]:
    """Return by task the metric that a suite's source publishes."""
    return {
        task: entry.metric
        for entry in load_suite(suite).tasks
        for task in tasks_of_suite_entry(entry)
    }


def _print_table(comparison: Comparison, model: str, letter: str) -> None:
    """Print the rows of one model, which the headings call by a letter; the baseline is A."""
    from rich.table import Table

    rows = [row for row in comparison.tasks if row.model == model]
    console.print(f"A: {comparison.baseline}   {letter}: {model}", style="bold")
    has_noise = any(row.noise is not None for row in rows)
    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("k", justify="right")
    table.add_column("metric", no_wrap=True)
    headings = ["questions", "A", letter, f"{letter} - A", "p", "p (Holm)", "visible"]
    if has_noise:
        headings.append("noise")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        fields = _fields(row)
        if has_noise:
            fields.append(number_or_blank(row.noise, ".3f"))
        table.add_row(*fields)
    print_wide(table, NUMBERS_WIDTH + max(len(row.task) for row in rows))
    console.print("")


def _fields(row: ComparedTask) -> list[str]:
    """Return the fields of a row, without the noise."""
    found = row.difference
    difference = f"{found.difference:+.3f}"
    if found.standard_error is not None:
        difference += f" ± {found.standard_error:.3f}"
    return [
        row.task,
        str(row.shots),
        row.metric,
        f"{found.items:,}",
        f"{row.baseline_score:.3f}",
        f"{row.score:.3f}",
        difference,
        p_in_words(found.p_value),
        p_in_words(row.p_holm),
        number_or_blank(found.smallest_visible, ".3f"),
    ]

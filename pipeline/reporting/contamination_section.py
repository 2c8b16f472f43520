"""The section of the page on questions that the run has read in its training documents."""

from collections.abc import Sequence

from pipeline.evaluation.clean_scores import CleanScore, Questions
from pipeline.logs import counted_noun
from pipeline.reporting.page import Cell, escape, html_table, note_below, section
from pipeline.reporting.run_data import RunData, mean_and_error

TITLE = "Questions that the run has read"
SHOWN_METRIC = "acc"
"""Metric of the table, for tasks that have it."""


def contamination_section(run: RunData) -> str:
    """Return the scores of the last checkpoint with and without questions that it has read.

    "" where documents were not searched for questions.
    """
    if not run.clean_scores:
        return ""
    step = max(score["step"] for score in run.clean_scores)
    of_step = [score for score in run.clean_scores if score["step"] == step]
    tasks = list(dict.fromkeys(score["task"] for score in of_step))
    dirty = [
        task
        for task in tasks
        if any((score["task"], score["questions"]) == (task, "dirty") for score in of_step)
    ]
    note = note_below(
        "A question is dirty if 13 of its words (all of a question of 8 to 12) follow each other in "
        "a training document, and a step up to this checkpoint has read them. Shorter questions are "
        "among all only. <code>pipeline trace RUN --item TASK/ID</code> names documents and steps."
    )
    if not dirty:
        of_tasks = counted_noun(len(tasks), "task")
        text = f"No scored question of {of_tasks} was read up to step {step:,}."
        return section(TITLE, f"<p>{escape(text)}</p>", note)

    # One metric and the fewest examples: which questions are dirty is the same for all.
    head = ["task", "metric", "k", "all", "clean", "dirty", "questions: all", "clean", "dirty"]
    rows = [_row(task, [score for score in of_step if score["task"] == task]) for task in dirty]
    text = (
        f"Questions of {len(dirty):,} of {counted_noun(len(tasks), 'task')} were read up to step "
        f"{step:,}. Scores "
        "of this checkpoint, \u00b1 one standard error:"
    )
    return section(TITLE, f"<p>{escape(text)}</p>", html_table(head, rows, text_columns=2), note)


def _row(task: str, scores: Sequence[CleanScore]) -> list[Cell]:
    """Return the row of a task, by one metric and the fewest examples."""
    shots, seed = min((score["shots"], score["seed"]) for score in scores)
    first = [score for score in scores if (score["shots"], score["seed"]) == (shots, seed)]
    metrics = {score["metric"] for score in first}
    metric = SHOWN_METRIC
    if metric not in metrics:
        metric = min(metrics)
    by_questions = {score["questions"]: score for score in first if score["metric"] == metric}
    kinds: tuple[Questions, ...] = ("all", "clean", "dirty")
    chosen = [by_questions.get(questions) for questions in kinds]
    return [
        task,
        metric,
        shots,
        *(mean_and_error(score) for score in chosen),
        *(_items(score) for score in chosen),
    ]


def _items(score: CleanScore | None) -> str:
    if score is None:
        return "0"
    return f"{score['items']:,}"

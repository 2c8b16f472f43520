"""The section of the report about few-shot scores: bars, curves and a table."""

from pipeline.reporting import figures, score_figures
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_with_caption,
    html_table,
    note_below,
    section,
)
from pipeline.reporting.published_scores import has_published
from pipeline.reporting.run_data import RunData, mean_and_error
from pipeline.reporting.score_curves import TaskCurves, suite_curves, task_curves

METRIC_NOTES = {
    "acc_mutual_info": (
        "Share of questions answered correctly, where the log-probability of each answer is "
        "compared with its log-probability without the question (GPT-3's normalisation)."
    ),
    "acc": "Share of questions answered correctly, by the log-probability of the answers alone.",
}
"""Captions of the metrics that have one; the figures show these metrics where they exist."""
MOST_TASKS = 30
"""Maximum number of tasks with curves; the table has all."""
CURVES_NOTE = (
    "Points: ± one standard error; with several seeds of the examples, the error of their mean. "
    "Dashed: guessing among the answers. Dotted: a model that gives every token the same "
    "probability, where untrained models stand. Diamonds: means of checkpoints."
)
PUBLISHED_NOTE = (
    "Grey: Pythia's published scores by size (Biderman et al. 2023; over tokens and parameters "
    "without examples) and those of GPT-2 with 1.5 B parameters, measured with an older harness."
)


def few_shot_section(run: RunData) -> str:
    """Return the section; its figures of curves need several checkpoints, k's or models."""
    if not run.score_names:
        return section(
            "Few-shot scores", "<p>No few-shot task was asked for (evaluation.tasks).</p>"
        )
    # Figures show the metrics that have a caption, or without those the first two.
    metrics = list(dict.fromkeys(metric for _, metric in run.score_names))
    drawn = [metric for metric in METRIC_NOTES if metric in metrics] or metrics[:2]
    pictures = [
        figure_with_caption(
            figures.few_shot_bars(run, metric),
            f"{METRIC_NOTES.get(metric, metric)} Bars: k solved examples before each question, ± "
            "one standard error. Dashed: chance, if it is known.",
        )
        for metric in drawn
    ]
    return section("Few-shot scores", *pictures, _curves(run), _suites(run), _table(run))


def _curves(run: RunData) -> str:
    """Return the figures over tokens, examples and parameters; nothing where each is one point."""
    pictures: list[str] = []
    suites = suite_curves(run.suite_scores, run.model_scores)
    curves = task_curves(run.model_scores, run.suite_scores)
    for of_task in [*suites, *curves[:MOST_TASKS]]:
        pictures += [f"<figure>{svg}</figure>" for svg in _figures_of(of_task)]
    if not pictures:
        return ""
    note = CURVES_NOTE
    if any(has_published(of_task.task, of_task.metric) for of_task in curves[:MOST_TASKS]):
        note = f"{note} {PUBLISHED_NOTE}"
    if len(curves) > MOST_TASKS:
        note = f"{note} Drawn are the first {MOST_TASKS} of {len(curves)} tasks."
    return f"<h3>Task by task</h3><div class=pair>{''.join(pictures)}</div>{note_below(note)}"


def _figures_of(curves: TaskCurves) -> list[str]:
    """Return the figures of one task or suite that have more than one point."""
    pictures: list[str] = []
    if len({point.tokens for point in curves.checkpoints}) > 1:
        pictures.append(score_figures.scores_over_tokens(curves))
    if len({point.shots for point in curves.last}) > 1:
        pictures.append(score_figures.scores_over_examples(curves))
    if len({point.parameters for point in [*curves.last, *curves.others]}) > 1:
        pictures.append(score_figures.scores_over_parameters(curves))
    return pictures


def _suites(run: RunData) -> str:
    """Return the table of the suite's means, a row for each model and numbers of examples."""
    if not run.suite_scores:
        return ""

    # The table.
    rows: list[list[Cell]] = []
    for score in run.suite_scores:
        mean = f"{score['mean']:.3f}"
        if score["standard_error"] is not None:
            mean += f" ± {score['standard_error']:.3f}"
        rows.append(
            [
                score["title"],
                score["suite"],
                score["shots"],
                mean,
                f"{score['centred_mean']:.3f}",
                len(score["benchmarks"]),
            ]
        )
    head = ["model", "suite", "examples", "mean", "centred", "benchmarks"]

    # What the means are, and what they leave out.
    note = (
        "Mean over the suite's benchmarks, each by the metric that the suite's source publishes. "
        "Centred: 0 for guessing, 1 for all right."
    )
    missing = dict.fromkeys(name for score in run.suite_scores for name in score["missing"])
    if missing:
        note += f" Not in the mean: {escape(', '.join(missing))}."
    return f"{html_table(head, rows, text_columns=2)}{note_below(note)}"


def _table(run: RunData) -> str:
    """Return the table of all metrics of the last model, a row for each number of examples."""
    rows: list[list[Cell]] = []
    for row in run.counts["evaluate"]["scores"]:
        rows.append(
            [
                row["task"],
                row["metric"],
                row["shots"],
                mean_and_error(row),
                _floor(row["chance"]),
                _floor(row["uniform"]),
                f"{row['items']:,}",
            ]
        )
    head = ["task", "metric", "k", "score", "chance", "uniform", "questions"]
    return html_table(head, rows, text_columns=2)


def _floor(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}"

"""Scores on the questions that a run has read, and on those that it has not.

Reads cells of the run's own checkpoints and their merges; writes
`run_dir/evaluation/contamination/`: for each task with questions in `evaluation.tasks_dir` which of
them the run reads (`contamination.py`), and `scores.jsonl`, a line for each metric, cell and set of
questions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.corpus.decontaminating.item_texts import TaskItems
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.text_search import bytes_to_search
from pipeline.errors import DataError, LeaseError, first_items
from pipeline.evaluation.cells import Cell, stored_scores
from pipeline.evaluation.contamination import (
    ItemReading,
    read_items_of_run,
    search_for_tasks,
    write_read_items,
)
from pipeline.evaluation.item_scores import item_scores, standard_error
from pipeline.evaluation.task_data.source_records import how_to_fetch
from pipeline.evaluation.task_items import read_task_items
from pipeline.logs import counted_noun, human_bytes, note
from pipeline.sampling.traced_run import open_run, read_run
from pipeline.store.contamination_files import clean_scores_path, contaminated_items_path
from pipeline.store.files import read_json_lines, write_atomic
from pipeline.store.layout import RunFolder, run_folder
from pipeline.store.scores_folder import ScoresFolder, is_own_merge, own_step
from pipeline.store.tasks_folder import TasksFolder

Questions: TypeAlias = Literal["all", "clean", "dirty"]
WORTH_A_NOTE_BYTES = 100_000_000
"""Size of the documents from which on the search is announced."""
QUESTIONS_IN_WORDS: dict[Questions, str] = {"all": "scored", "clean": "clean", "dirty": "dirty"}
MOST_LINES = 10
"""Maximum number of tasks that the stage's last lines name."""
SHOWN_METRIC = "acc"
"""Metric of the line that the stage prints, where a task has it."""


class CleanScore(TypedDict):
    """One metric of a cell on some of its questions."""

    model: str
    """Name of the folder of the model's cells."""
    step: int
    """Step of the checkpoint; of a merge, that of its newest one."""
    task: str
    shots: int
    seed: int
    metric: str
    questions: Questions
    """All questions; those that the run had read by this step; those that it had not. Questions too
    short to be searched for are among all only."""
    items: int
    """Number of these questions."""
    value: float
    standard_error: float | None


@dataclass(frozen=True)
class ContaminationReport:
    """What the check for contamination has written and found."""

    files: list[Path]
    closing: list[str]
    """Lines for the end of the stage."""


def check_contamination(
    config: RunConfig, tasks: Sequence[str], steps: Sequence[int]
) -> ContaminationReport:
    """Find which questions of tasks the run reads, and score its checkpoints with and without them.

    `tasks`, `steps`: tasks and checkpoints of this run that were scored; the closing lines speak of
    the last one. Tasks whose questions are not in `evaluation.tasks_dir` are left out; where only
    their texts are missing there, a closing line says so.
    Raises DataError where documents are missing or damaged, LeaseError where data_dir cannot be
    written.
    """
    tasks_dir = config.evaluation.tasks_dir
    if tasks_dir is None or not steps:
        return ContaminationReport([], [])
    folder = TasksFolder(tasks_dir)
    stored = [read_task_items(tasks_dir, name) for name in tasks if folder.items(name).is_file()]
    unread = [
        f"contamination: {name} is left out: {folder.items(name)} is missing. "
        f"{how_to_fetch(name, folder)}"
        for name in tasks
        if folder.source(name).exists() and not folder.items(name).is_file()
    ]
    if not stored:
        return ContaminationReport([], first_items(unread, MOST_LINES, "tasks"))

    # The run as it was trained; scores do not depend on whether its order can still be computed.
    try:
        run = read_run(open_run(config.paths.run_dir, [f"paths.data_dir={config.paths.data_dir}"]))
    except DataError as error:
        return ContaminationReport([], [f"contamination: what the run read is not known: {error}"])

    # Search the documents, and find out when the run reads what was found.
    _announce(config, stored)
    try:
        search_for_tasks(config, stored, config.executor, "pipeline evaluate")
    except LeaseError as error:
        raise LeaseError(f"{error} Or leave this out: evaluation.contamination=false") from None
    readings: dict[str, list[ItemReading]] = {}
    evaluation = run_folder(config).evaluation
    for task in stored:
        readings[task.task] = read_items_of_run(run, task)
        write_read_items(config.paths.run_dir, task.task, readings[task.task])

    # Score every cell of the run's own checkpoints and their merges again.
    scores = list(_scores_of_cells(ScoresFolder(evaluation), readings))
    lines = "".join(f"{json.dumps(score)}\n" for score in scores)
    write_atomic(clean_scores_path(evaluation), lines)
    files = [contaminated_items_path(evaluation, name) for name in readings]
    closing = closing_lines(readings, scores, max(steps))
    unsearched = [name for name in config.sources if name not in config.sources_with_text]
    if unsearched:
        closing.append(f"contamination: {', '.join(unsearched)} has no text that could be searched")
    closing += first_items(unread, MOST_LINES, "tasks")
    return ContaminationReport([*files, clean_scores_path(evaluation)], closing)


def stored_clean_scores(run_dir: Path) -> list[CleanScore]:
    """Return the lines that `check_contamination` wrote; empty where it wrote none.

    Raises DataError naming a broken line.
    """
    return read_json_lines(clean_scores_path(RunFolder(run_dir).evaluation))


def last_read_step(model: str, step: int | None) -> int | None:
    """Return the last step whose documents a model has read; None for what another run trained.

    That of a checkpoint of the run itself, or of the newest one of a merge of them. `model`: name
    of the folder of its cells.
    """
    if is_own_merge(model):
        return step
    return own_step(model, step)


def clean_scores(
    task: str, cell: Cell, items: Sequence[ItemReading], step: int
) -> list[CleanScore]:
    """Return the scores of a cell on all questions, and on those clean and dirty at a step.

    A metric that has no value for a question is left out.
    """
    # What each question of the cell is at this step; a limit may have left some out.
    states = {item.id: item.state_at(step) for item in items}
    of_questions = np.array([states.get(item["id"], "") for item in cell.items])

    # Each metric on each set of questions.
    provenance = cell.result["provenance"]
    rows: list[CleanScore] = []
    for metric, scores in item_scores(cell).items():
        chosen: dict[Questions, np.ndarray] = {
            "all": scores,
            "clean": scores[of_questions == "clean"],
            "dirty": scores[of_questions == "dirty"],
        }
        for questions, values in chosen.items():
            if len(values) and np.isfinite(values).all():
                rows.append(
                    {
                        "model": provenance["model"],
                        "step": step,
                        "task": task,
                        "shots": provenance["shots"],
                        "seed": provenance["seed"],
                        "metric": metric,
                        "questions": questions,
                        "items": len(values),
                        "value": float(values.mean()),
                        "standard_error": standard_error(values),
                    }
                )
    return rows


def closing_lines(
    readings: Mapping[str, Sequence[ItemReading]], scores: Sequence[CleanScore], step: int
) -> list[str]:
    """Return a line for each task of which questions were read by a step, and one for all."""
    # A line for each task with a question that was read, the dirtiest first.
    states = {task: [item.state_at(step) for item in items] for task, items in readings.items()}
    dirty = {task: of_task.count("dirty") for task, of_task in states.items()}
    dirtiest = sorted((task for task in states if dirty[task]), key=lambda task: -dirty[task])
    lines = [
        f"contamination: {task}: {dirty[task]:,} of "
        f"{counted_noun(len(states[task]), 'question')} were read by step "
        f"{step:,}{_scores_in_words(task, scores, step)}"
        for task in dirtiest[:MOST_LINES]
    ]
    if len(dirtiest) > MOST_LINES:
        lines.append(f"contamination: and of {len(dirtiest) - MOST_LINES:,} more tasks")

    # A line for all tasks.
    found = "no task"
    if dirtiest:
        found = counted_noun(len(dirtiest), "task")
    questions = sum(len(of_task) for of_task in states.values())
    too_short = sum(of_task.count("too short") for of_task in states.values())
    lines.append(
        f"contamination: questions of {found} of {len(readings):,} were read in training "
        f"documents by step {step:,} ({too_short:,} of {questions:,} questions are too short to tell)"
    )
    return lines


def _announce(config: RunConfig, tasks: Sequence[TaskItems]) -> None:
    """Say what is about to be searched where it takes a while."""
    texts = [task.searched for task in tasks]
    size = bytes_to_search(kept_documents(config), config.sources_with_text, texts)
    if size >= WORTH_A_NOTE_BYTES:
        note(
            f"evaluate: searching {human_bytes(size)} of documents for the questions of "
            f"{counted_noun(len(tasks), 'task')}, once (evaluation.contamination=false leaves it "
            "out)"
        )


def _scores_of_cells(
    folder: ScoresFolder, readings: Mapping[str, Sequence[ItemReading]]
) -> Iterable[CleanScore]:
    """Yield the scores of all cells of the run's checkpoints, their merges, and of these tasks."""
    for place, cell in stored_scores(folder):
        task = place.rows.parent.name
        if task not in readings:
            continue
        step = last_read_step(place.rows.parents[1].name, cell.result["provenance"]["step"])
        if step is not None:
            yield from clean_scores(task, cell, readings[task], step)


def _scores_in_words(task: str, scores: Sequence[CleanScore], step: int) -> str:
    """Return the scores of a task with the fewest examples, on all, clean and dirty questions."""
    rows = [row for row in scores if row["task"] == task and row["step"] == step]
    if not rows:
        return ""
    first = min((row["shots"], row["seed"]) for row in rows)
    rows = [row for row in rows if (row["shots"], row["seed"]) == first]
    metrics = {row["metric"] for row in rows}
    metric = SHOWN_METRIC
    if metric not in metrics:
        metric = sorted(metrics)[0]
    parts = [
        f"{row['value']:.3f} on {row['items']:,} {QUESTIONS_IN_WORDS[row['questions']]}"
        for row in rows
        if row["metric"] == metric
    ]
    return f"; {metric} at k = {first[0]}: {', '.join(parts)}"

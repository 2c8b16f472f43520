"""Scores cells on several workers: processes of this machine, one per GPU, or tasks of an srun step.

A work item is a cell, or a part of a large one; a worker keeps the model that it loaded last. Which
worker scores what, and in how many parts, changes no bit of a score. Imports no torch at first, so
that a worker can forbid the network before libraries are imported.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import Executor
from pipeline.evaluation.cells import read_result
from pipeline.evaluation.grid.cell_parts import merged_parts, remove_parts, write_part
from pipeline.evaluation.grid.offline import forbid_network
from pipeline.evaluation.models_to_score import ModelToScore
from pipeline.evaluation.results import CellResult
from pipeline.evaluation.scorer.slices import WHOLE, Part
from pipeline.logs import note
from pipeline.store.files import fingerprint
from pipeline.store.layout import task_records
from pipeline.store.rank_environment import number_on_node
from pipeline.store.records import SizedFile
from pipeline.store.scores_folder import ScoresFolder
from pipeline.work.dask_workers import in_srun_step, workers_of_step
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task, TaskResult, report_progress
from pipeline.work.workers import workers

if TYPE_CHECKING:
    from lm_eval.api.task import Task as HarnessTask

    from pipeline.evaluation.grid.asked_cells import AskedCell
    from pipeline.evaluation.grid.harness import HarnessModel

PARTS_PER_WORKER = 2
"""A cell with more than its share of the work, in so many shares for each worker, is divided. Each
part encodes all texts of its cell, so that a cell is not divided without need."""


@dataclass(frozen=True)
class TaskNames:
    """What a worker builds the tasks from, see `build_tasks`."""

    names: tuple[str, ...]
    folders: tuple[Path, ...]
    tasks_dir: Path | None


def scoring_executor(config: RunConfig) -> Executor:
    """Return who scores: the tasks of this srun step, or processes of this machine.

    `workers` is 1 where this process does it.
    """
    import torch

    if config.executor.uses_slurm and in_srun_step():
        return config.executor.model_copy(update={"workers": workers_of_step()})
    count = config.evaluation.workers
    if count == "auto":
        count = max(1, torch.cuda.device_count())
    return Executor(workers=count)


def score_on_workers(
    models: Sequence[ModelToScore],
    cells: Sequence["AskedCell"],
    tasks: Mapping[str, "HarnessTask"],
    source: TaskNames,
    folder: ScoresFolder,
    settings: Evaluation,
    executor: Executor,
) -> list[CellResult]:
    """Make the cells that are missing, model by model; return their results.

    Raises TasksFailed with the messages of all cells that could not be scored.
    """
    missing = [
        (model, cell) for model in models for cell in cells if not cell.is_held(folder, model)
    ]
    if not missing:
        return []
    sizes = {cell: _size(cell, tasks[cell.task]) for cell in cells}
    total = sum(sizes[cell] for _, cell in missing)
    worker_count = executor.workers
    assert worker_count != "auto", "`scoring_executor` has decided"
    items: list[Task] = []
    for model in models:
        of_model = [cell for owner, cell in missing if owner is model]
        for cell in sorted(of_model, key=lambda cell: -sizes[cell]):
            parts = ceil(sizes[cell] / total * worker_count * PARTS_PER_WORKER)
            is_whole = tasks[cell.task].OUTPUT_TYPE in ("generate_until", "loglikelihood_rolling")
            if is_whole or settings.scorer == "harness":
                parts = 1
            for number in range(parts):
                part = Part(number, parts)
                place = cell.place(folder, model)
                items.append(
                    Task(
                        f"{model.name}.{cell.task}.{place.rows.stem}.{number}-of-{parts}",
                        score_part,
                        {
                            "model": model,
                            "cell": cell,
                            "part": part,
                            "source": source,
                            "folder": folder,
                            "settings": settings,
                        },
                        fingerprint([cell.key(model), settings.scorer, number, parts]),
                        sizes[cell] / parts,
                    )
                )
    with workers(executor) as crew:
        run_tasks(
            items, folder.cells, crew, "evaluate", "questions and examples", largest_first=False
        )
    # The cells themselves say what is done.
    rmtree(task_records(folder.cells), ignore_errors=True)
    for model, cell in missing:
        place = cell.place(folder, model)
        if cell.is_held(folder, model):
            remove_parts(place)
    results = [read_result(cell.place(folder, model)) for model, cell in missing]
    made = [result for result in results if result is not None]
    scorers = {result["provenance"]["title"]: result["provenance"]["scorer"] for result in made}
    for title, scorer in scorers.items():
        note_other_scorer(title, scorer, settings)
    return made


def note_other_scorer(title: str, scorer: str, settings: Evaluation) -> None:
    """Say where a model is not scored as the run file asks; `scorer` says why."""
    if settings.scorer not in scorer:
        note(f"evaluate: {title}: scored by the {scorer}")


def _size(cell: "AskedCell", task: "HarnessTask") -> float:
    """Return the questions of a cell, those of the solved examples included."""
    questions = len(task.eval_docs)
    if cell.limit is not None:
        questions = min(questions, cell.limit)
    return questions * (1 + cell.shots)


def score_part(
    model: ModelToScore,
    cell: "AskedCell",
    part: Part,
    source: TaskNames,
    folder: ScoresFolder,
    settings: Evaluation,
) -> TaskResult:
    """Score a cell or a part of it, in a worker; where it was the last part, make the cell.

    The result lists the files that were written.
    """
    forbid_network()
    _choose_gpu()
    from pipeline.evaluation.grid.cell_scorer import make_cell
    from pipeline.evaluation.grid.harness import score_task

    # Another worker may have found all parts of an earlier evaluation.
    place = cell.place(folder, model)
    key = cell.key(model)
    if cell.is_held(folder, model):
        return _files([place.rows, place.result], folder)
    task = _tasks(source)[cell.task]
    harness = _loaded_model(model, settings)
    if part == WHOLE or merged_parts(place, key, harness.computes_as) is not None:
        make_cell(harness, model, cell, task, place)
        return _files([place.rows, place.result], folder)

    # The part.
    harness.part = part
    try:
        score_task(harness, cell.task, task, cell.shots, cell.seed, cell.limit)
    finally:
        harness.part = WHOLE
    write_part(place, key, part, harness.computes_as, harness.requests_of_calls, harness.calls)

    # Whoever sees all parts makes the cell, perhaps two workers the same one.
    if merged_parts(place, key, harness.computes_as) is not None and not cell.is_held(
        folder, model
    ):
        make_cell(harness, model, cell, task, place)
    return _files([place.part(part.number, part.count), place.rows, place.result], folder)


def _files(paths: Sequence[Path], folder: ScoresFolder) -> TaskResult:
    """Return the sizes of those files that exist; another worker may delete a part."""
    files: dict[str, SizedFile] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            files[str(path.relative_to(folder.cells))] = {"bytes": path.stat().st_size}
    return {"files": files}


@cache
def _tasks(source: TaskNames) -> Mapping[str, "HarnessTask"]:
    """Return all tasks, built once in each worker."""
    from pipeline.evaluation.known_tasks import build_tasks

    return build_tasks(source.names, source.folders, source.tasks_dir).single


_last_model: dict[str, "HarnessModel"] = {}
"""The model that this worker loaded last, by its identity."""


def _loaded_model(model: ModelToScore, settings: Evaluation) -> "HarnessModel":
    """Return a model, loaded unless it is the one that this worker scored before."""
    from pipeline.evaluation.grid.harness import HarnessModel

    identity = fingerprint([model.name, dict(model.identity), settings.scorer])
    if identity not in _last_model:
        _last_model.clear()
        shares = settings.scorer == "sharing"
        _last_model[identity] = HarnessModel(model.load(), settings.batch_sequences, shares)
        _last_model[identity].progress = _reported_progress
    return _last_model[identity]


@contextmanager
def _reported_progress(
    label: str, total: float, unit: str
) -> Generator[Callable[[float, str], None]]:
    """Report the progress of a call to the process that shows that of all workers."""
    yield lambda completed, detail: report_progress(completed / total)


def _choose_gpu() -> None:
    """Take the GPU of this worker's number on its machine, where there are any."""
    import torch

    if not torch.cuda.is_available():
        return
    number = 0
    if in_srun_step():
        number = number_on_node()
    else:
        from distributed import get_worker

        with suppress(ValueError):  # this process works itself
            name: Any = get_worker().name
            number = int(name)
    torch.cuda.set_device(number % torch.cuda.device_count())

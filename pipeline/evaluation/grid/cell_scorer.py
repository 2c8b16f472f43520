"""Makes the missing cells of a model: loads it once, scores task by task, writes each cell.

Imports torch and lm-eval, so it is imported only to make scores.
"""

import importlib.metadata
import time
from collections.abc import Mapping, Sequence

from lm_eval.api.task import Task

from pipeline.config.evaluation_section import Evaluation
from pipeline.evaluation.cells import Cell, write_cell
from pipeline.evaluation.grid.asked_cells import AskedCell
from pipeline.evaluation.grid.cell_parts import merged_parts, remove_parts
from pipeline.evaluation.grid.harness import HarnessModel, StalePartsError, kind_of, score_task
from pipeline.evaluation.grid.scoring_workers import note_other_scorer
from pipeline.evaluation.item_scores import chance, uniform_scores
from pipeline.evaluation.models_to_score import ModelToScore
from pipeline.evaluation.results import CellResult, Provenance
from pipeline.logs import counted_noun, human_seconds, note
from pipeline.store.artifacts import environment
from pipeline.store.scores_folder import CellPlace, ScoresFolder


def make_missing_cells(
    model: ModelToScore,
    cells: Sequence[AskedCell],
    tasks: Mapping[str, Task],
    folder: ScoresFolder,
    settings: Evaluation,
) -> list[CellResult]:
    """Score a model in the cells that are not on disk; return the new results.

    Each cell is written as soon as it is complete.
    """
    missing = [cell for cell in cells if not cell.is_held(folder, model)]
    if not missing:
        return []

    # The model is loaded once.
    started = time.monotonic()
    harness = HarnessModel(model.load(), settings.batch_sequences, settings.scorer == "sharing")
    note_other_scorer(model.title, harness.scorer, settings)

    # Each cell is complete before the next one begins.
    results: list[CellResult] = []
    for number, cell in enumerate(missing, 1):
        harness.label = (
            f"evaluate: {model.name}, {cell.task}, k = {cell.shots} ({number} of {len(missing)})"
        )
        results.append(make_cell(harness, model, cell, tasks[cell.task], cell.place(folder, model)))
    note(
        f"evaluate: {model.title}: {counted_noun(len(missing), 'cell')} in "
        f"{human_seconds(time.monotonic() - started)}"
    )
    return results


def make_cell(
    harness: HarnessModel, model: ModelToScore, asked: AskedCell, task: Task, place: CellPlace
) -> CellResult:
    """Score a cell, or take the likelihoods of its parts if all are there, and write it."""
    made: Cell | None = None
    stored = merged_parts(place, asked.key(model), harness.computes_as)
    if stored is not None:
        harness.replayed = iter(stored)
        try:
            made = _score_cell(harness, model, asked, task)
        except StalePartsError:
            pass
        finally:
            harness.replayed = None
    if made is None:
        made = _score_cell(harness, model, asked, task)
    write_cell(place, made)
    remove_parts(place)
    return made.result


def _score_cell(harness: HarnessModel, model: ModelToScore, asked: AskedCell, task: Task) -> Cell:
    """Score one task at one number of shots."""
    # Ask the questions.
    scored, items = score_task(harness, asked.task, task, asked.shots, asked.seed, asked.limit)

    # What the scores were made from, and how.
    provenance: Provenance = {
        "key": asked.key(model),
        "weights": model.identity["weights"],
        "tokenizer": model.identity["tokenizer"],
        "task": asked.identity,
        "shots": asked.shots,
        "seed": asked.seed,
        "limit": asked.limit,
        "harness": importlib.metadata.version("lm_eval"),
        "dtype": str(harness.model.dtype).removeprefix("torch."),
        "model": model.name,
        "title": model.title,
        "step": model.step,
        "tokens": model.tokens,
        "merge": {"coefficients": dict(model.coefficients)},
        "parameters": sum(parameter.numel() for parameter in harness.model.parameters()),
        "vocabulary": harness.model.get_output_embeddings().weight.shape[0],
        "context_tokens": harness.max_length,
        "items": len(items),
        "text_bytes": sum(answer["bytes"] for item in items for answer in item["answers"]),
        "scorer": harness.scorer,
        "batch_sequences": harness.batch_size,
        "device": str(harness.device),
        "requests": harness.requests,
        "cut_requests": harness.cut_requests,
        "environment": environment(),
    }
    cell = Cell(
        items,
        {**scored, "kind": kind_of(task), "chance": None, "uniform": {}, "provenance": provenance},
    )
    return _with_references(cell)


def _with_references(cell: Cell) -> Cell:
    """Return a cell with the scores of guessing and of uniform token probabilities."""
    uniform = uniform_scores(cell, cell.result["provenance"]["vocabulary"])
    return Cell(cell.items, {**cell.result, "chance": chance(cell.items), "uniform": uniform})

"""A run folder with cells of scores that are written down: one number for each question."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cells_by_hand import answer, cell, question

from pipeline.evaluation.cells import Cell, write_cell
from pipeline.store.layout import RunFolder, checkpoint_name
from pipeline.store.scores_folder import FIRST_SEED, ScoresFolder


def choice_cell(right: Sequence[int], first_hash: int = 0) -> Cell:
    """Return a cell of questions with two answers, of which the model chooses the right one or not."""
    items = []
    for number, is_right in enumerate(right):
        likelihoods = (-1.0, -2.0) if is_right else (-2.0, -1.0)
        answers = [answer(value, "text", 1) for value in likelihoods]
        items.append({**question(number, answers, [0]), "hash": f"hash-{number + first_hash}"})
    return cell(items)


def written_cell(scores: Sequence[float]) -> Cell:
    """Return a cell of written answers with a metric of their own."""
    items = [question(number, [], [], f1=score) for number, score in enumerate(scores)]
    return cell(items, kind="generate_until")


def write_scores(
    run_dir: Path,
    step: int,
    cells: Mapping[tuple[str, int], Cell],
    *,
    seed: int = FIRST_SEED,
    definition: str = "definition",
) -> Path:
    """Write (task, shots) -> cell for a checkpoint, and return the folder of its cells."""
    scores = ScoresFolder(RunFolder(run_dir).evaluation)
    for (task, shots), content in cells.items():
        provenance = content.result["provenance"]
        provenance["task"] = definition
        provenance["shots"] = shots
        provenance["seed"] = seed
        provenance["step"] = step
        provenance["tokens"] = 1000 * step
        provenance["title"] = f"{run_dir.name}@{step}"
        provenance["model"] = checkpoint_name(step)
        content.result["results"] = {task: {"acc,none": 0.5, "alias": task}}
        if content.kind == "generate_until":
            content.result["results"] = {task: {"f1,none": 0.5, "alias": task}}
        write_cell(scores.cell(checkpoint_name(step), task, shots, seed), content)
    return scores.cells / checkpoint_name(step)

"""Cells scored in parts, by several workers, after a kill: the same bytes as by one process."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import digests
from test_grid import config_with, trained

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.evaluation.evaluate import Questions, evaluate, prepare_questions
from pipeline.evaluation.grid.asked_cells import AskedCell
from pipeline.evaluation.grid.scoring_workers import score_part
from pipeline.evaluation.models_to_score import ModelToScore, models_to_score
from pipeline.evaluation.scorer import slices
from pipeline.evaluation.scorer.slices import Part
from pipeline.store.files import read_json
from pipeline.store.layout import run_folder
from pipeline.store.scores_folder import ScoresFolder

__all__ = ["trained"]

pytestmark = pytest.mark.ranks


def cells_of(config: RunConfig) -> dict[str, object]:
    """Return the digests of the rows, and the results without the command that made them."""
    folder = ScoresFolder(run_folder(config).evaluation)
    found: dict[str, object] = {**digests(folder.cells)}
    for place in folder.stored_cells():
        result = read_json(place.result)
        del result["provenance"]["environment"]["command"]
        found[str(place.result.relative_to(folder.cells))] = result
    return found


def score_parts(
    config: RunConfig,
    questions: Questions,
    model: ModelToScore,
    cell: AskedCell,
    numbers: list[int],
    count: int,
) -> None:
    folder = ScoresFolder(run_folder(config).evaluation)
    for number in numbers:
        part = Part(number, count)
        score_part(model, cell, part, questions.source, folder, config.evaluation)


@pytest.mark.parametrize("scorer", ["sharing", "harness"])
def test_parts_in_any_order_and_number_make_the_same_cell(
    trained: Path, monkeypatch: pytest.MonkeyPatch, scorer: str
) -> None:
    monkeypatch.setattr(slices, "TOKENS_PER_SLICE", 8)
    run_dir = trained.parent / f"parts_{scorer}"
    config = config_with(trained, "[4]", f"evaluation.scorer={scorer}")
    config = config.model_copy(
        update={"paths": config.paths.model_copy(update={"run_dir": run_dir})}
    )
    run_dir.mkdir()
    (run_dir / "checkpoints").symlink_to(run_folder(config_with(trained, "[4]")).checkpoints)
    evaluate(config)
    expected = cells_of(config)
    assert len(expected) == 4

    # In three parts, of which the last one to be scored makes the cell.
    questions = prepare_questions(config)
    (model,) = models_to_score(config)
    folder = ScoresFolder(run_folder(config).evaluation)
    for cell in questions.cells:
        place = cell.place(folder, model)
        place.result.unlink()
        score_parts(config, questions, model, cell, [2, 0], 3)
        assert not place.result.exists()
        sizes = [
            [len(call) for call in read_json(place.part(number, 3))["calls"]] for number in (0, 2)
        ]
        has_several_slices = scorer == "sharing"
        assert (sizes[1][0] > 0) == has_several_slices
        score_parts(config, questions, model, cell, [1], 3)
        assert not place.parts.exists()
    assert cells_of(config) == expected

    # What an earlier evaluation left of two parts is taken, and one of another key is not.
    first, second = questions.cells
    for cell in (first, second):
        cell.place(folder, model).result.unlink()
    score_parts(config, questions, model, first, [0], 2)
    path = first.place(folder, model).part(0, 2)
    path.write_text(path.read_text().replace(first.key(model), "another"))
    score_parts(config, questions, model, first, [1], 2)
    assert not first.place(folder, model).result.exists()
    score_parts(config, questions, model, first, [0], 2)
    score_parts(config, questions, model, second, [1, 0], 2)
    assert cells_of(config) == expected


def test_two_workers_after_a_kill_write_what_one_process_writes(trained: Path) -> None:
    one = config_with(trained, "[all]", "evaluation.limit=40")
    evaluate(one)
    expected = cells_of(one)
    folder = ScoresFolder(run_folder(one).evaluation)
    for place in folder.stored_cells():
        place.result.unlink()

    # The first evaluation is killed when it has written a cell.
    two = config_with(trained, "[all]", "evaluation.limit=40", "evaluation.workers=2")
    settings = trained.with_name("two.yaml")
    settings.write_text(dump(two))
    program = (
        "import sys; from pathlib import Path; from pipeline.config.run_file import load; "
        "from pipeline.evaluation.evaluate import evaluate; "
        "evaluate(load(Path(sys.argv[1]))) if __name__ == '__main__' else None"
    )
    started = subprocess.Popen([sys.executable, "-c", program, str(settings)])
    try:
        deadline = time.monotonic() + 300
        while not folder.stored_cells() and time.monotonic() < deadline:
            assert started.poll() is None
            time.sleep(0.02)
    finally:
        started.kill()
        started.wait()
    made = len(folder.stored_cells())
    assert 0 < made < len(expected) / 2

    evaluate(two)
    assert cells_of(two) == expected

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
from pipeline.evaluation.cells import read_cell
from pipeline.evaluation.evaluate import Questions, evaluate, prepare_questions
from pipeline.evaluation.grid.asked_cells import AskedCell
from pipeline.evaluation.grid.cell_parts import merged_parts, remove_parts, write_part
from pipeline.evaluation.grid.scoring_workers import score_part
from pipeline.evaluation.models_to_score import ModelToScore, models_to_score
from pipeline.evaluation.scorer import slices
from pipeline.evaluation.scorer.slices import WHOLE, Likelihood, Part
from pipeline.store.files import read_json
from pipeline.store.layout import run_folder
from pipeline.store.scores_folder import CellPlace, ScoresFolder

__all__ = ["trained"]


def cells_of(config: RunConfig) -> dict[str, object]:
    """Return the digests of the rows, and the results without the command that made them.

    Nor with the commit: each process asks for it, and the repository may go on while this test runs.
    """
    folder = ScoresFolder(run_folder(config).evaluation)
    found: dict[str, object] = {**digests(folder.cells)}
    for place in folder.stored_cells():
        result = read_json(place.result)
        del result["checksum"]
        environment = result["provenance"]["environment"]
        del environment["command"], environment["git"]
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


@pytest.mark.ranks
def test_libraries_are_imported_after_the_network_has_been_forbidden() -> None:
    program = (
        "import pipeline.evaluation.watch, sys; "
        "print({'torch', 'lm_eval', 'datasets', 'huggingface_hub'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stderr


def test_only_parts_that_belong_together_make_a_cell(tmp_path: Path) -> None:
    place = CellPlace(tmp_path / "k0.parquet")
    rows: dict[int, Likelihood] = {0: (-1.5, True), 2: (-0.1, False)}
    others: dict[int, Likelihood] = {1: (-2.25, False)}
    whole = [("3-ab", [(-1.5, True), (-2.25, False), (-0.1, False)])]

    def write(number: int, calls: dict[int, Likelihood], key: str, how: str, requests: str) -> None:
        write_part(place, key, Part(number, 2), how, [requests], [calls])

    write(0, rows, "key", "fp32", "3-ab")
    assert merged_parts(place, "key", "fp32") is None
    for key, how, requests in (
        ("old", "fp32", "3-ab"),
        ("key", "bf16", "3-ab"),
        ("key", "fp32", "3-cd"),
    ):
        write(1, others, key, how, requests)
        assert merged_parts(place, "key", "fp32") is None
    write(1, {}, "key", "fp32", "3-ab")
    assert merged_parts(place, "key", "fp32") is None
    write(1, others, "key", "fp32", "3-ab")
    place.part(0, 3).write_text("{torn")
    assert merged_parts(place, "key", "fp32") == whole
    remove_parts(place)
    remove_parts(place)
    assert not place.parts.exists()


@pytest.mark.ranks
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

    # Parts of an earlier evaluation are taken, unless they answer other requests than now.
    first, second = questions.cells
    for cell in (first, second):
        place = cell.place(folder, model)
        place.result.unlink()
        score_parts(config, questions, model, cell, [1], 2)
        part = read_json(place.part(1, 2))
        requests = list(part["requests"])
        if cell is second:
            requests = [f"{entry}0" for entry in requests]
        calls = [
            dict.fromkeys(range(int(entry.partition("-")[0])), (-1000000.0, False))
            for entry in requests
        ]
        write_part(place, cell.key(model), WHOLE, part["computes_as"], requests, calls)
    evaluate(config)
    items = read_cell(first.place(folder, model)).items
    assert {answer["log_likelihood"] for item in items for answer in item["answers"]} == {-1e6}
    for path in (second.place(folder, model).rows, first.place(folder, model).result):
        assert not path.with_suffix(".parts").exists()
    found = cells_of(config)
    for name in found:
        if f"k{second.shots}." in name:
            assert found[name] == expected[name]


@pytest.mark.ranks
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

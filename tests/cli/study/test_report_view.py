"""`pipeline study report` over run folders that no training made: from the study file to the page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.cli.study.opened_study import OpenedStudy, open_study
from pipeline.cli.study.report_view import write_report
from pipeline.errors import DataError
from pipeline.store.layout import RunFolder
from pipeline.store.scores_folder import ScoresFolder

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16, 32, 48], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [51200]}
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedStudy:
    """Return a study of which nothing is done. Its models are looked at once, in a process."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return open_study(path, [])


def end_runs(opened: OpenedStudy, count: int) -> None:
    """Leave the first runs as their last step does, with losses of 3, 4 and so on."""
    for number, run in enumerate(opened.runs[:count]):
        folder = RunFolder(run.config.paths.run_dir)
        folder.train_manifest.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "step": run.steps,
            "loss": 2.5,
            "validation_loss": 3.0 + number,
            "validation_bits_per_byte": 1.0 + number,
        }
        folder.metrics.write_text(f"{json.dumps(record)}\n")
        folder.train_manifest.write_text("{}")


def write_scores(run_dir: Path, accuracies: Sequence[float]) -> None:
    """Write a table of scores: one task, at 0, 1, ... examples."""
    table = ScoresFolder(RunFolder(run_dir).evaluation).table
    table.parent.mkdir()
    rows = [
        {
            "task": "patterns",
            "shots": shots,
            "seed": 1234,
            "metric": "acc",
            "value": accuracy,
            "standard_error": 0.01,
            "items": 200,
            "chance": 0.25,
            "uniform": 0.25,
            "model": "step_00000010",
            "title": "run@10",
            "step": 10,
            "tokens": 12800,
            "parameters": 1000,
        }
        for shots, accuracy in enumerate(accuracies)
    ]
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.ranks
def test_a_study_is_refused_before_its_runs_and_reported_during_them(
    opened: OpenedStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    # Before any run.
    with pytest.raises(DataError) as raised:
        write_report(opened)
    assert str(raised.value) == (
        f"{opened.file}: no run has begun; train them with `pipeline study run {opened.file}`"
    )
    assert not opened.folder.path.exists()

    # After two of three.
    end_runs(opened, 2)
    write_report(opened)
    printed = capsys.readouterr()
    assert "not possible: 2 points are left for a law of 5 numbers: train more runs" in printed.out
    assert "study: 2 figures in " in printed.err
    page = opened.folder.page.read_text()
    assert "2 of 3" in page
    assert page.count("not begun") == 1
    assert opened.runs[2].name in page
    numbers = opened.folder.figure_numbers("loss_over_compute").read_text().splitlines()
    assert [line.split(",")[2:5] for line in numbers[1:]] == [
        [run.name, str(run.flops), loss]
        for run, loss in zip(opened.runs, ("3.0", "4.0"), strict=False)
    ]
    assert len(opened.folder.points.read_text().splitlines()) == 3
    assert not opened.folder.fits.exists()


@pytest.mark.ranks
def test_a_few_shot_study_reads_the_scores_of_its_runs(opened: OpenedStudy) -> None:
    opened = replace(opened, study=opened.study.model_copy(update={"kind": "few-shot"}))
    end_runs(opened, 3)
    for run, accuracies in zip(opened.runs, ((0.25, 0.3), (0.3, 0.4)), strict=False):
        write_scores(run.config.paths.run_dir, accuracies)
    write_report(opened)
    page = opened.folder.page.read_text()
    assert "2 with scores" in page
    assert page.count("no scores yet") == 1
    numbers = opened.folder.figure_numbers("accuracy_over_examples").read_text().splitlines()
    assert [line.split(",")[2:5] for line in numbers[1:]] == [
        [opened.runs[0].name, "0", "0.25"],
        [opened.runs[0].name, "1", "0.3"],
        [opened.runs[1].name, "0", "0.3"],
        [opened.runs[1].name, "1", "0.4"],
        ["", "0", "0.25"],
    ]
    assert opened.folder.figure_numbers("scores").is_file()

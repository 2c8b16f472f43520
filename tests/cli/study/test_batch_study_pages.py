"""Pages of the kinds `batch` and `critical-batch`, from run folders that no training made."""

import csv
import json
import math
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.cli.study.opened_study import OpenedStudy, open_study
from pipeline.cli.study.report_view import write_report
from pipeline.planning.batch_size.hyperbola import Hyperbola
from pipeline.planning.study.study_run import StudyRun
from pipeline.store.layout import RunFolder
from pipeline.store.studies.study_folder import StudyFolder

pytestmark = pytest.mark.usefixtures("forked_checks")

BATCH = """\
kind: batch
base: run.yaml
folder: batch
budgets: {tokens: [16384]}
rules: {reference_batch_tokens: 256}
axes: {batch_tokens: [256, 512, 1024], learning_rate_scaling: [none, linear]}
seeds: [1, 2]
"""
CRITICAL = """\
kind: critical-batch
base: run.yaml
folder: critical
budgets: {tokens: [262144]}
rules: {learning_rate: square-root, reference_batch_tokens: 256, validations: 16}
axes: {batch_tokens: [128, 512, 2048, 8192], learning_rate_factors: [0.5, 1, 2]}
settings: {schedule: {kind: constant}}
question: {target_losses: [4]}
"""
TRUE = Hyperbola(20, 1024)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch_pages")
    (path / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    (path / "batch.yaml").write_text(BATCH)
    (path / "critical.yaml").write_text(CRITICAL)
    return path


def write_metrics(run: StudyRun, losses: dict[int, float]) -> None:
    """Leave a run as training leaves it: a line for each step, with `losses` at those validated."""
    folder = RunFolder(run.config.paths.run_dir)
    folder.train_manifest.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "step": step,
            "tokens": run.config.step_plan.tokens_after(step),
            "loss": 5.0,
            "gradient_noise_scale_tokens": 900.0,
            **({"validation_loss": losses[step]} if step in losses else {}),
        }
        for step in range(1, run.steps + 1)
    ]
    folder.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    folder.train_manifest.write_text("{}")


def figure_rows(folder: StudyFolder, name: str) -> list[list[str]]:
    with folder.figure_numbers(name).open() as file:
        return list(csv.reader(file))[1:]


@pytest.mark.ranks
def test_a_batch_study(folder: Path) -> None:
    opened = open_study(folder / "batch.yaml", [])
    for run in opened.runs:
        batch = run.config.batch.global_batch_tokens
        worse = batch / 1024 if run.place.values["learning_rate_scaling"] == "none" else 0.25
        write_metrics(run, {run.steps: 3 + worse + run.seed / 64})
    write_report(opened)
    rows = figure_rows(opened.folder, "best_loss_over_batch")
    assert [(float(row[3]), float(row[4])) for row in rows] == [
        (256, 3.2734375),
        (512, 3.2734375),
        (1024, 3.2734375),
    ]
    page = opened.folder.page.read_text()
    assert "K = 4" in page
    assert "learning_rate_scaling" in opened.folder.points.read_text().splitlines()[0]


def train_by_hyperbola(opened: OpenedStudy) -> None:
    """Give every run validations by which it reaches 4 nats where the hyperbola says."""
    for run in opened.runs:
        batch = run.config.batch.global_batch_tokens
        worse = 1 if run.place.number("learning_rate_factor") == 1 else 1.5
        to_target = worse * TRUE.total(batch)
        steps = [max(1, run.steps * number // 16) for number in range(1, 17)]
        tokens = {step: run.config.step_plan.tokens_after(step) for step in steps}
        write_metrics(run, {step: 4 - math.log2(seen / to_target) for step, seen in tokens.items()})


@pytest.mark.ranks
def test_a_critical_batch_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_study(folder / "critical.yaml", [])
    train_by_hyperbola(opened)
    write_report(opened)
    rows = figure_rows(opened.folder, "critical_batch_over_loss")
    fitted, noise = (row for row in rows if row[0] == "run")
    assert float(fitted[4]) == pytest.approx(1024, rel=1e-6)
    assert float(noise[4]) == 900
    page = opened.folder.page.read_text()
    assert "1.02k" in page
    assert "Not possible" not in page
    assert "not possible" not in capsys.readouterr().out


@pytest.mark.ranks
def test_batches_that_do_not_bracket_the_critical_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["axes.batch_tokens=[128, 256, 384, 512]", f"folder={folder / 'small'}"]
    opened = open_study(folder / "critical.yaml", overrides)
    train_by_hyperbola(opened)
    write_report(opened)
    printed = capsys.readouterr().out
    assert "not possible: to 4 nats: batches of 128 to 512 do not bracket" in printed
    assert "Not possible with these runs" in opened.folder.page.read_text()
    assert len(figure_rows(opened.folder, "steps_over_batch")) == 12

"""`pipeline study compare --task` over run folders that no training made, and what it refuses."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_study import score_row
from training_data import RUN_FILE, TEMPLATES
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.cli.study.laws_compared import CompareQuestion
from pipeline.cli.study.opened_study import open_study
from pipeline.cli.study.tasks_compared import (
    TaskQuestion,
    refuse_options,
    show_task_comparison,
)
from pipeline.errors import ConfigError, RequirementError
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.laws.two_step import AccuracySigmoid
from pipeline.store.layout import RunFolder
from pipeline.store.scores_folder import ScoresFolder

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: scaling
base: run.yaml
folder: NAME
sizes: {widths: [16, 24, 32, 48], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [51200, 102400, 204800]}
"""
LAW = LossLaw("known", 1.0, 30.0, 0.4, 500.0, 0.5, unit="bits-per-byte")
SIGMOID = AccuracySigmoid(floor=0.25, height=0.5, steepness=3.0, middle=2.9)


def made_study(
    folder: Path, name: str, more: Callable[[float], float], noise: float = 0.001
) -> Path:
    """Return a study whose runs have ended, with scores on LAW and SIGMOID.

    `more`: accuracy -> the accuracy of this study's procedure. The checkpoint before the last is
    sqrt(1.5) x noise off the line between its neighbours.
    """
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.replace("NAME", name))
    for run in open_study(path, []).runs:
        place = RunFolder(run.config.paths.run_dir)
        place.train_manifest.parent.mkdir(parents=True, exist_ok=True)
        record = {"step": run.steps, "loss": 2.5, "validation_loss": 3.0}
        place.metrics.write_text(f"{json.dumps(record)}\n")
        bits = LAW.loss(run.facts.parameters, run.tokens)
        accuracy = more(SIGMOID.accuracy(bits))
        last = {run.steps - 2: accuracy, run.steps - 1: accuracy + math.sqrt(1.5) * noise}
        rows = [
            score_row(step, "acc", value, task="arc")
            for step, value in {**last, run.steps: accuracy}.items()
        ]
        rows.append(score_row(run.steps, "bits_per_byte", bits, task="arc"))
        table = ScoresFolder(place.evaluation).table
        table.parent.mkdir()
        table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two studies, of which the second is .125 more accurate everywhere."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    return (
        made_study(folder, "first", lambda accuracy: accuracy),
        made_study(folder, "second", lambda accuracy: accuracy + 0.125),
    )


def question(*paths: Path) -> TaskQuestion:
    compared = CompareQuestion(paths, "bits-per-byte", "parameters_total", resamples=40, seed=0)
    return TaskQuestion(compared, "arc", None)


@pytest.mark.ranks
def test_the_more_accurate_procedure_is_better_everywhere(
    studies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = studies
    show_task_comparison(question(first, second), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "acc of arc with 0 examples, N = all parameters"
    largest = max(open_study(first, []).runs, key=lambda run: run.flops).name
    assert lines[1].startswith(f"{first}: largest run, {largest} (C = ")
    assert "by both steps of all others: 0.6" in lines[1]
    assert lines[1].endswith(("(+0.0000)", "(-0.0000)"))
    assert f"{first} and {second}" in lines
    assert "highest accuracy at a compute, second minus first:" in lines
    assert lines[-3].startswith(f"{second} is better from C = ")
    assert "on, as far as the axis goes" in lines[-3]
    assert lines[-2:] == [
        "the two curves do not cross on this axis",
        "differences up to the noise over the last checkpoints of a run, 0.0010, make neither better",
    ]


@pytest.mark.ranks
def test_a_study_against_itself_is_within_the_noise(
    studies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = studies
    with pytest.raises(RequirementError) as raised:
        show_task_comparison(question(first, first, second), as_json=True)
    refusal = (
        f"{first} and {first}: the accuracies differ by at most 0.0000 on this axis, the noise over "
        "the last checkpoints of a run is 0.0010: score more questions, or larger models"
    )
    assert str(raised.value) == f"arc: accuracies are not compared:\n  - {refusal}"
    found = json.loads(capsys.readouterr().out)
    assert found["not_compared"] == [refusal]
    assert (found["task"], found["metric"], found["shots"]) == ("arc", "acc", 0)
    assert len(found["largest_runs"]) == 3
    for comparison in found["comparisons"]:
        assert (comparison["first"], comparison["second"]) == (str(first), str(second))
        for interval in comparison["difference"]:
            assert interval["value"] == pytest.approx(0.125, abs=1e-3)


@pytest.mark.ranks
def test_models_within_the_noise_are_refused_before_any_fit(
    studies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = studies
    noisy = made_study(first.parent, "noisy", lambda accuracy: accuracy, noise=0.5)
    with pytest.raises(RequirementError) as raised:
        show_task_comparison(question(first, noisy), as_json=False)
    assert str(raised.value).startswith(
        f"{noisy}, arc: accuracy is not predicted:\n  - the models' accuracies differ by 0.3"
    )
    assert "the noise over the last checkpoints of a run is 0.5000" in str(raised.value)
    assert capsys.readouterr().out == ""


@pytest.mark.ranks
def test_a_task_that_no_run_has_is_refused(studies: tuple[Path, Path]) -> None:
    first, second = studies
    arguments = ["study", "compare", str(first), str(second), "--task", "boolq"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert len(result.exception.problems) == 2
    for path, problem in zip(studies, result.exception.problems, strict=True):
        assert problem.startswith(f"--task boolq: {path}: not scored in 12 runs (w")
        assert "tasks with scores: arc. Add it to evaluation.tasks" in problem


def test_options_that_do_not_go_together() -> None:
    studies = [Path("a.yaml"), Path("b.yaml")]
    with pytest.raises(ConfigError) as raised:
        refuse_options(studies, "nats", "arc", None)
    assert raised.value.problems == [
        "--unit nats: with --task arc the loss is bits per byte of the right answer; leave --unit out"
    ]
    with pytest.raises(ConfigError) as raised:
        refuse_options(studies, None, None, 5)
    assert raised.value.problems == [
        "--shots 5: losses are compared, which have no solved examples; name a task with --task, or "
        "leave --shots out"
    ]
    refuse_options(studies, "bits-per-byte", "arc", 5)
    refuse_options([Path("a.csv")], "nats", None, None)


def test_tables_of_points_have_no_scores() -> None:
    arguments = ["study", "compare", "a.csv", "--task", "arc", "--unit", "bits"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.problems == [
        "--unit bits: with --task arc the loss is bits per byte of the right answer; leave --unit out",
        "name two tables or more: each is compared with each",
        "a.csv: is no study file, and a table of points has no scores of tasks; with --task, name "
        "study files (.yaml)",
    ]

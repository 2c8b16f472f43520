"""Which grids of the kinds `batch` and `critical-batch` can answer their questions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import StudyFile, read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.batch import BatchStudy
from pipeline.planning.study.critical_batch import CriticalBatchQuestion, CriticalBatchStudy
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("forked_checks")

BATCH = """\
kind: batch
base: run.yaml
folder: made
budgets: {tokens: [16384]}
rules: {reference_batch_tokens: 256}
axes:
  batch_tokens: [256, 512, 1024]
  learning_rate_scaling: [none, square-root, linear]
  warmup: [0, 0.1]
seeds: [1, 2]
"""
CRITICAL = """\
kind: critical-batch
base: run.yaml
folder: made
budgets: {tokens: [16384]}
rules: {learning_rate: square-root, reference_batch_tokens: 256, validations: 16}
axes: {batch_tokens: [128, 256, 512, 1024], learning_rate_factors: [0.5, 1, 2]}
settings: {schedule: {kind: constant}}
question: {target_losses: [3.5, 3]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run file and a study of either kind."""
    path = tmp_path_factory.mktemp("batch_kinds")
    (path / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    (path / "batch.yaml").write_text(BATCH)
    (path / "critical.yaml").write_text(CRITICAL)
    return path


def planned(path: Path, *overrides: str) -> tuple[StudyFile, list[StudyRun]]:
    study = read_study(path, overrides)
    kind = BatchStudy() if study.kind == "batch" else CriticalBatchStudy()
    return study, runs_of_study(study, load(study.base), kind.places(study))


def batch_problems(path: Path, *overrides: str) -> list[str]:
    study, runs = planned(path, *overrides)
    return BatchStudy().grid_problems(study, runs, {})


def critical_problems(path: Path, *overrides: str) -> list[str]:
    study, runs = planned(path, *overrides)
    return CriticalBatchStudy().grid_problems(study, runs, {})


@pytest.mark.ranks
def test_the_reference_batch_is_trained_under_one_rule(folder: Path) -> None:
    """3 batches x 3 rules x 2 warm-ups x 2 seeds, without 2 rules of the reference."""
    study, runs = planned(folder / "batch.yaml")
    assert BatchStudy().grid_problems(study, runs, {}) == []
    assert len(runs) == (3 * 3 - 2) * 2 * 2
    at_reference = {run.place.values["learning_rate_scaling"] for run in _of_batch(runs, 256)}
    assert at_reference == {"none"}
    rates = {
        run.place.values["learning_rate_scaling"]: run.config.optimizer.peak_learning_rate
        * run.config.learning_rate_factor
        for run in _of_batch(runs, 1024)
    }
    assert rates == pytest.approx({"none": 0.01, "square-root": 0.02, "linear": 0.04})


def _of_batch(runs: Sequence[StudyRun], tokens: int) -> list[StudyRun]:
    return [run for run in runs if run.config.batch.global_batch_tokens == tokens]


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "axes.batch_tokens=[256, 512]",
            "axes.batch_tokens: 2 batches, and a curve needs at least 3",
        ),
        ("rules.reference_batch_tokens=128", "rules.reference_batch_tokens: 128, which is none of"),
        ("axes.learning_rate_scaling=[linear]", "axes.learning_rate_scaling: needs at least two"),
        ("seeds=[1]", "seeds: 1, and the spread of a loss needs at least 2; add some"),
        ("budgets.tokens=[8192, 16384]", "budgets: runs have 8,192 to 16,384 tokens, and batches"),
        (
            "settings.prepare.validation_fraction=0",
            "prepare.validation_fraction = 0: nothing is held out",
        ),
    ],
)
def test_what_a_grid_of_batches_lacks(folder: Path, override: str, problem: str) -> None:
    (found,) = batch_problems(folder / "batch.yaml", override)
    assert found.startswith(problem)


@pytest.mark.ranks
def test_a_batch_that_does_not_divide_the_tokens_is_refused(folder: Path) -> None:
    """6,144 + 12,288 tokens: 3 steps of 6,144 are 18,432, more than 16,384 by an eighth."""
    (found,) = batch_problems(folder / "batch.yaml", "axes.batch_tokens=[256, 512, 6144]")
    assert found.startswith("budgets: runs have 16,384 to 18,432 tokens")
    assert found.endswith("a multiple of every batch")


@pytest.mark.ranks
def test_a_grid_of_critical_batches(folder: Path) -> None:
    study, runs = planned(folder / "critical.yaml")
    assert CriticalBatchStudy().grid_problems(study, runs, {}) == []
    assert len(runs) == 12
    assert isinstance(study.question, CriticalBatchQuestion)
    assert study.question.target_losses == (3.5, 3)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "axes.batch_tokens=[128, 256, 512]",
            "axes.batch_tokens: 3 batches, and a hyperbola needs",
        ),
        (
            "axes.learning_rate_factors=[1, 2]",
            "axes.learning_rate_factors: 2, and the rate is tuned",
        ),
        (
            "rules.validations=9",
            "rules.validations = 9: the target is read off between validations",
        ),
        (
            "settings.schedule.kind=linear",
            "schedule.kind = linear: its rate at a step depends on how",
        ),
        (
            "axes.batch_tokens=[32, 256, 512, 1024]",
            "axes.batch_tokens: a batch of 32 tokens is one micro-batch, and the noise scale compares",
        ),
    ],
)
def test_what_a_grid_of_critical_batches_lacks(folder: Path, override: str, problem: str) -> None:
    (found,) = critical_problems(folder / "critical.yaml", override)
    assert found.startswith(problem)


@pytest.mark.ranks
def test_every_batch_has_the_largest_micro_batch_that_leaves_two(folder: Path) -> None:
    """A base of 32 sequences of 32 tokens, and batches of 4 to 32 sequences."""
    large = "settings.batch={global_batch_tokens: 1024, micro_batch_sequences: 32}"
    _, runs = planned(folder / "critical.yaml", large)
    micro = {
        run.config.global_batch_sequences: run.config.batch.micro_batch_sequences for run in runs
    }
    assert micro == {4: 2, 8: 4, 16: 8, 32: 16}
    _, runs = planned(folder / "batch.yaml", large)
    assert {run.config.batch.micro_batch_sequences for run in runs} == {8, 16, 32}


@pytest.mark.ranks
def test_several_sizes_are_refused(folder: Path) -> None:
    study, runs = planned(folder / "critical.yaml")
    runs = [*runs, replace(runs[0], size="w64")]
    (found,) = CriticalBatchStudy().grid_problems(study, runs, {})
    assert found == "sizes: base, w64; batches are compared for one model, so keep one"


def test_a_target_that_is_no_loss_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_study(folder / "critical.yaml", ["question.target_losses=[0]"])
    assert "question.target_losses.0" in raised.value.problems[0]

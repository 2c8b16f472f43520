"""Runs of several batches that branch off one checkpoint, by hand."""

from pathlib import Path

import pytest
from helpers import pretend_checkpoint
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.branched_runs import TakenOver, taken_over
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.study_kind import study_kind
from pipeline.planning.study.study_run import StudyRun
from pipeline.training.branch import check_branch

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: critical-batch
base: run.yaml
folder: made
budgets: {tokens: [20480]}
rules: {learning_rate: square-root, validations: 16}
axes: {batch_tokens: [128, 256, 512, 1024], learning_rate_factors: [0.5, 1, 2]}
settings:
  schedule: {kind: constant}
  batch: {micro_batch_sequences: 1}
  train: {init_from: trunk@16, init_take: everything}
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study beside its base and a checkpoint after 16 steps of 256 tokens."""
    folder = tmp_path_factory.mktemp("branched")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    pretend_checkpoint(folder / "trunk", 16, 4096)
    pretend_checkpoint(folder / "ramped", 16, 4128)
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def runs_of(study_file: Path, *overrides: str) -> list[StudyRun]:
    study = read_study(study_file, overrides)
    return runs_of_study(study, load(study.base), study_kind(study).places(study))


@pytest.mark.ranks
def test_every_batch_goes_on_where_the_checkpoint_ends(study_file: Path) -> None:
    """16,384 tokens are left: 128 steps of 128 tokens, 16 steps of 1,024."""
    runs = runs_of(study_file)
    assert len(runs) == 12
    for run in runs:
        batch = run.config.batch.global_batch_tokens
        plan = run.config.step_plan
        assert plan.tokens_after(16) == 4096
        assert plan.tokens(17) == batch
        assert run.steps == 16 + 16_384 // batch
        assert run.tokens == 20_480
        assert run.first_step == 17
        assert run.own_flops == pytest.approx(0.8 * run.flops)
        check_branch(run.config)
    study = read_study(study_file)
    assert study_kind(study).grid_problems(study, runs, {}) == []


@pytest.mark.ranks
def test_with_weights_alone_a_run_begins_at_its_first_step(study_file: Path) -> None:
    (run, *_) = runs_of(study_file, "settings.train.init_take=weights")
    assert run.first_step == 1
    assert run.config.batch.ramp == ()
    assert taken_over(run.config) == TakenOver()


@pytest.mark.ranks
def test_a_checkpoint_that_cannot_be_continued_is_refused(study_file: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        runs_of(study_file, f"settings.train.init_from={study_file.parent}/ramped@16")
    (problem,) = raised.value.problems
    assert problem.endswith(
        "its 16 steps took 4,128 tokens in batches of several sizes, which runs of another batch cannot "
        "continue; set train.init_take to weights"
    )
    with pytest.raises(ConfigError, match="no such checkpoint"):
        runs_of(study_file, f"settings.train.init_from={study_file.parent}/trunk@8")

"""A study whose runs branch off one checkpoint with other batches: `pipeline study run` and its curves."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.cli.study.opened_study import open_study
from pipeline.planning.batch_size.critical_results import curve_of_run
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

STUDY = """\
kind: critical-batch
base: run.yaml
folder: made
budgets: {tokens: [5120]}
rules: {learning_rate: square-root, validations: 5}
axes: {batch_tokens: [128, 512], learning_rate_factors: [1]}
settings:
  schedule: {kind: constant}
  train: {init_from: run@10, init_take: everything}
  guard: {stall_seconds: 300}
executor: {kind: local, jobs: 2}
"""


def test_each_batch_goes_on_from_the_checkpoint(make_run: Callable[..., Path]) -> None:
    """10 steps of 256 tokens, then 20 of 128 or 5 of 512."""
    base = make_run()
    run_ranks(base, 1, ["schedule.kind=constant", "train.train_tokens=2560"])
    before = read_metrics(base.parent / "run")[-1]
    study_file = base.with_name("study.yaml")
    study_file.write_text(STUDY)
    command = [sys.executable, "-m", "pipeline", "study", "run", str(study_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    # Steps, tokens and rates of their own batch; losses that go on from those of the checkpoint.
    opened = open_study(study_file, [])
    for run, steps, batch in zip(opened.runs, (20, 5), (128, 512), strict=True):
        records = read_metrics(run.config.paths.run_dir)
        assert [record["step"] for record in records] == list(range(11, 11 + steps))
        assert [record["tokens"] for record in records[:2]] == [2560 + batch, 2560 + 2 * batch]
        assert records[-1]["tokens"] == 5120
        assert records[0]["learning_rate"] == pytest.approx(1e-2 * (batch / 256) ** 0.5)
        assert records[0]["loss"] == pytest.approx(before["loss"], rel=0.15)
        curve = curve_of_run(run)
        assert curve.batch == batch
        assert curve.evaluations[-1].tokens == 2560
        assert all(0 < each.tokens <= 2560 for each in curve.evaluations)

"""Optimizer states and weights in host memory: the same losses, also after a resume. Needs
DeepSpeed's CPU optimizer."""

import shutil

import numpy as np
import pytest
from ranks import run_ranks
from test_job import STEPS, MakeRun, losses, reference_losses
from training_data import OFFLOAD, choose_template

from pipeline.config.run_file import load
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks


@pytest.mark.full
@pytest.mark.parametrize("template", list(OFFLOAD))
@pytest.mark.parametrize("ranks", [1, 2])
def test_offloading_trains_like_plain_pytorch(make_run: MakeRun, template: str, ranks: int) -> None:
    run_file, overrides = choose_template(make_run, template)
    assert run_ranks(run_file, ranks, overrides)["status"] == "done"
    expected, norms = reference_losses(load(run_file))
    records = read_metrics(load(run_file).paths.run_dir)
    np.testing.assert_allclose([r["loss"] for r in records], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose([r["grad_norm"] for r in records], norms, rtol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("template", list(OFFLOAD))
def test_offloading_in_bf16_follows_fp32(make_run: MakeRun, template: str) -> None:
    run_file, overrides = choose_template(make_run, template)
    run_ranks(run_file, 2, [*overrides, "precision.dtype=bf16"])
    expected = reference_losses(load(run_file))[0]
    assert max(abs(a - b) for a, b in zip(losses(run_file), expected, strict=True)) < 0.1


@pytest.mark.full
@pytest.mark.parametrize("template", list(OFFLOAD))
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_resuming_with_offload_equals_not_stopping(
    make_run: MakeRun, template: str, dtype: str
) -> None:
    run_file, overrides = choose_template(make_run, template)
    overrides += [f"precision.dtype={dtype}"]
    run_ranks(run_file, 2, overrides)
    whole = losses(run_file)
    shutil.rmtree(load(run_file).paths.run_dir / "checkpoints" / f"step_{STEPS:08}")
    run_ranks(run_file, 2, overrides)
    assert losses(run_file) == whole

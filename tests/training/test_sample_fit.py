"""Fit to a small sample: sums by hand, and on real ranks a run that learns its wrong targets by heart."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ranks import run_ranks

from pipeline.config.run_file import load
from pipeline.sampling.batches import IGNORED
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.training.sample_fit import sums_of_rows

MakeRun = Callable[..., Path]


def test_sums_by_hand() -> None:
    """Logits log 3 and 0: probabilities 3/4 and 1/4. Two right, one wrong, one with nothing to say."""
    log_3 = float(torch.tensor(3.0).log())
    logits = torch.tensor([[log_3, 0.0], [0.0, log_3], [log_3, 0.0], [0.0, log_3]])
    sums = sums_of_rows(logits, torch.tensor([0, 1, 1, IGNORED]))
    log_4 = float(torch.tensor(4.0).log())
    assert sums.tolist() == pytest.approx([2 * (log_4 - log_3) + log_4, 1, 3])


def fits_of(run_file: Path, ranks: int, run_dir: Path) -> list[StepRecord]:
    """Train on two rows of each source, half of their targets wrong; return validated steps."""
    settings = [
        "data.small_sample={train_sequences: 2, label_noise: 0.5}",
        "train.train_tokens=25600",
        "train.validate_every_steps=50",
        f"paths.run_dir={run_dir}",
    ]
    assert run_ranks(run_file, ranks, settings)["status"] == "done"
    return [record for record in read_metrics(run_dir) if "sample_loss" in record]


@pytest.mark.ranks
def test_wrong_targets_are_learned_by_heart_as_they_are_the_same_in_every_epoch(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run_file = make_run()
    first, last = fits_of(run_file, 1, tmp_path / "one")
    assert (first["step"], last["step"]) == (50, 100)
    for record in (first, last):
        assert record["sample_error"] is not None
        assert record["validation_error"] is not None
        assert 0 <= record["sample_error"] <= 1
    assert last["sample_error"] < 0.1
    assert last["validation_error"] > 0.5

    # Two ranks measure the same, each half of the rows.
    _, other = fits_of(run_file, 2, tmp_path / "two")
    for name in ("sample_loss", "validation_loss"):
        assert other[name] == pytest.approx(last[name], abs=1e-3)
    for name in ("sample_error", "validation_error"):
        assert other[name] == pytest.approx(last[name], abs=0.01)
    assert load(run_file).data.small_sample is None

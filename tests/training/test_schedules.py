"""Learning rates by hand."""

from pathlib import Path

import pytest

from pipeline.run_file import load
from pipeline.training.schedules import learning_rate

# The run file: 10 steps of 32 tokens, 1 step of warm-up, peak 6e-4.


def rates(run_file: Path, *overrides: str) -> list[float]:
    config = load(run_file, overrides)
    return [learning_rate(config, step) / 6e-4 for step in range(1, config.total_steps + 1)]


def test_cosine_falls_from_the_peak_to_a_tenth(run_file: Path) -> None:
    found = rates(run_file)
    assert found[0] == 1.0  # the warm-up of 32 tokens ends with step 1
    assert found[-1] == pytest.approx(0.1)
    # Step 7 is at (7 - 1) / (10 - 1) = 2/3 of the decay: cos(120 degrees) = -1/2.
    assert found[6] == pytest.approx(0.1 + 0.9 * 0.5 * (1 - 0.5))
    assert found == sorted(found, reverse=True)


def test_warm_up_is_linear_from_zero(run_file: Path) -> None:
    assert rates(run_file, "schedule.warmup_tokens=128")[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_wsd_is_level_and_then_falls_in_a_line(run_file: Path) -> None:
    found = rates(run_file, "schedule.kind=wsd", "schedule.decay_tokens=128", "schedule.final_learning_rate_fraction=0")
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_no_warm_up_and_no_decay_is_a_constant(run_file: Path) -> None:
    overrides = ["schedule.kind=wsd", "schedule.decay_tokens=0", "schedule.warmup_tokens=0"]
    assert rates(run_file, *overrides) == [1.0] * 10


def test_a_run_that_does_not_divide_is_rounded_up_to_whole_steps(run_file: Path) -> None:
    found = rates(run_file, "train.train_tokens=321")
    assert len(found) == 11
    assert found[-1] == pytest.approx(0.1)


def test_under_a_ramp_the_rate_follows_the_tokens(run_file: Path) -> None:
    """Steps end after 16, 32, 64, 96, ... 320 tokens; the warm-up takes 64, the decay the last 128."""
    ramp = "batch.ramp=[{until_tokens: 32, global_batch_tokens: 16}]"
    wsd = ("schedule.kind=wsd", "schedule.decay_tokens=128", "schedule.final_learning_rate_fraction=0")
    found = rates(run_file, ramp, "schedule.warmup_tokens=64", *wsd)
    assert found == pytest.approx([0.25, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])

"""Learning rates by hand."""

from pathlib import Path

import pytest

from pipeline.config.kinds import SCHEDULES
from pipeline.config.run_file import load
from pipeline.config.schedules import fraction_of_peak, learning_rate

# The run file: 10 steps of 32 tokens, 1 step of warm-up, peak 6e-4.

LINEAR = ("schedule.decay_shape=linear", "schedule.final_learning_rate_fraction=0")
KINDS = dict.fromkeys(SCHEDULES.paths, ()) | {"wsd": ("schedule.decay_tokens=128",)}
"""Kind -> settings without which it is refused."""


def rates(run_file: Path, *overrides: str) -> list[float]:
    config = load(run_file, overrides)
    return [learning_rate(config, step) / 6e-4 for step in range(1, config.total_steps + 1)]


def test_cosine_falls_from_the_peak_to_the_final_fraction(run_file: Path) -> None:
    found = rates(run_file, "schedule.kind=cosine", "schedule.final_learning_rate_fraction=0.1")
    assert found[0] == 1.0  # the warm-up of 32 tokens ends with step 1
    assert found[-1] == pytest.approx(0.1)
    # Step 7 is at (7 - 1) / (10 - 1) = 2/3 of the decay: cos(120 degrees) = -1/2.
    assert found[6] == pytest.approx(0.1 + 0.9 * 0.5 * (1 - 0.5))
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_is_linear_from_zero(run_file: Path, kind: str) -> None:
    overrides = (f"schedule.kind={kind}", *KINDS[kind], "schedule.warmup_tokens=128")
    assert rates(run_file, *overrides)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_wsd_is_level_and_then_falls_in_a_line(run_file: Path) -> None:
    found = rates(run_file, "schedule.kind=wsd", "schedule.decay_tokens=128", *LINEAR)
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_wsd_falls_by_the_square_root_of_the_progress(run_file: Path) -> None:
    """Of the decay's 128 tokens 1/4, 1/2, 3/4, 1 are done; 1 - sqrt(1/4) = 1/2, times 0.8 above a
    final 0.2."""
    wsd = (
        "schedule.kind=wsd",
        "schedule.decay_tokens=128",
        "schedule.final_learning_rate_fraction=0.2",
    )
    falling = [0.2 + 0.8 * (1 - root) for root in (0.5, 0.7071068, 0.8660254, 1)]
    assert rates(run_file, *wsd) == pytest.approx([1, 1, 1, 1, 1, 1, *falling])


def test_linear_falls_to_the_final_fraction_at_the_end(run_file: Path) -> None:
    """9 steps from 1 down to 0.1: a tenth each."""
    found = rates(run_file, "schedule.final_learning_rate_fraction=0.1")
    assert found == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rates(run_file) == pytest.approx([n / 9 for n in range(9, -1, -1)])


def test_inverse_square_root_of_the_tokens(run_file: Path) -> None:
    """With a warm-up of 64 tokens: sqrt(64 / 256) = 1/2 after step 8, sqrt(64 / 128) after step
    4."""
    found = rates(run_file, "schedule.kind=inverse-square-root", "schedule.warmup_tokens=64")
    assert [found[i] for i in (0, 1, 3, 7)] == pytest.approx([0.5, 1, 0.7071068, 0.5])


def test_constant_stays(run_file: Path) -> None:
    assert rates(run_file, "schedule.kind=constant", "schedule.warmup_tokens=64") == [
        0.5,
        *[1.0] * 9,
    ]


def test_no_warm_up_and_no_decay_is_a_constant(run_file: Path) -> None:
    overrides = ["schedule.kind=wsd", "schedule.decay_tokens=0", "schedule.warmup_tokens=0"]
    assert rates(run_file, *overrides) == [1.0] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_joints_are_continuous(run_file: Path, kind: str) -> None:
    """From one token to the next the rate moves by little: one in 10,000 of warm-up, and where 1 -
    sqrt begins to fall sqrt(1 / 40,000) = 1/200 of the way."""
    sizes = ("schedule.warmup_tokens=10000", "train.train_tokens=100000")
    decay = ["schedule.decay_tokens=40000"] if kind == "wsd" else []
    config = load(run_file, [f"schedule.kind={kind}", *sizes, *decay])
    for joint in (10_000, 60_000, 100_000):
        before, there = (fraction_of_peak(config, tokens, 100_000) for tokens in (joint - 1, joint))
        assert abs(there - before) <= 1.0001e-4
    assert (
        abs(fraction_of_peak(config, 60_001, 100_000) - fraction_of_peak(config, 60_000, 100_000))
        <= 1.0001 / 200
    )
    assert fraction_of_peak(config, 10_000, 100_000) == 1
    assert fraction_of_peak(config, 0, 100_000) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_ramp_of_the_batch_changes_nothing_over_tokens(run_file: Path, kind: str) -> None:
    """Steps that end after the same tokens have the same rate, whatever the steps between."""
    overrides = (f"schedule.kind={kind}", *KINDS[kind], "schedule.warmup_tokens=64")
    ramp = "batch.ramp=[{until_tokens: 96, global_batch_tokens: 16}]"
    plain, ramped = load(run_file, overrides), load(run_file, [*overrides, ramp])
    over_tokens = [
        {
            c.step_plan.tokens_after(step): learning_rate(c, step)
            for step in range(1, c.total_steps + 1)
        }
        for c in (plain, ramped)
    ]
    assert len(over_tokens[1]) == 13  # 6 steps of 16, 7 of 32
    assert {tokens: over_tokens[1][tokens] for tokens in over_tokens[0]} == over_tokens[0]


def test_a_run_that_does_not_divide_is_rounded_up_to_whole_steps(run_file: Path) -> None:
    found = rates(run_file, "train.train_tokens=321")
    assert len(found) == 11
    assert found[-1] == 0


def test_under_a_ramp_the_rate_follows_the_tokens(run_file: Path) -> None:
    """Steps end after 16, 32, 64, 96, ... 320 tokens; the warm-up takes 64, the decay the last
    128."""
    ramp = "batch.ramp=[{until_tokens: 32, global_batch_tokens: 16}]"
    wsd = ("schedule.kind=wsd", "schedule.decay_tokens=128", *LINEAR)
    found = rates(run_file, ramp, "schedule.warmup_tokens=64", *wsd)
    assert found == pytest.approx([0.25, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4), ("square-root", 2)])
def test_the_peak_follows_the_batch_by_its_rule(run_file: Path, rule: str, factor: int) -> None:
    """The batch is 32 tokens, four times the reference; the curve stays, the ramp does not
    count."""
    scaling = f"optimizer.learning_rate_scaling={{rule: {rule}, reference_batch_tokens: 8}}"
    config = load(run_file, [scaling])
    assert config.learning_rate_factor == factor
    assert rates(run_file, scaling) == pytest.approx([factor * rate for rate in rates(run_file)])
    ramp = "batch.ramp=[{until_tokens: 32, global_batch_tokens: 16}]"
    assert load(run_file, [scaling, ramp]).learning_rate_factor == factor

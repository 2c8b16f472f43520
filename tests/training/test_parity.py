"""The sentence that holds the project up: one run file gives the losses of plain PyTorch, however
it is executed.

The default tests take each way of executing against one base, and some in pairs; `--full` takes the
whole grid.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import run_ranks
from test_job import reference_losses
from training_data import OFFLOAD, choose_template

from pipeline.config.run_file import load
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
STEPS = 50
BATCH = 8
"""Sequences of a global batch."""
LENGTH = f"train.train_tokens={STEPS * BATCH * 32}"
ADAMW, MUON = "optimizer.kind=adamw", "optimizer.kind=muon"


@pytest.fixture(scope="module")
def expected() -> dict[tuple[str, ...], tuple[list[float], list[float]]]:
    """Reference losses and norms by settings, computed once."""
    return {}


def assert_trains_plainly(
    make_run: MakeRun,
    known: dict,
    zero: str,
    ranks: int,
    micro: int,
    *overrides: str,
    settings: tuple[str, ...] = (ADAMW,),
) -> dict[str, Any]:
    """Train 50 steps and compare every loss and gradient norm with plain PyTorch; returns the
    counts of the run."""
    run_file, template = choose_template(make_run, zero)
    changed = [LENGTH, "checkpoint.save_every_steps=50", "train.validate_every_steps=50", *settings]
    if settings not in known:
        known[settings] = reference_losses(load(run_file, changed), STEPS)
    changed += [*template, f"batch.micro_batch_sequences={micro}", *overrides]
    outcome = run_ranks(run_file, ranks, changed)
    assert outcome["status"] == "done", outcome
    records, (losses, norms) = read_metrics(load(run_file).paths.run_dir), known[settings]
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([r["loss"] for r in records], losses, rtol=0, atol=1e-4)
    found = [record["grad_norm"] for record in records]
    np.testing.assert_allclose(found[:20], norms[:20], rtol=1e-3)
    np.testing.assert_allclose(
        found, norms, rtol=2e-3
    )  # rounding that training has grown for 50 steps
    assert losses[0] - losses[-1] > 2, "the reference itself must learn, or equality says little"
    return outcome["counts"]


@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero2", "zero3", *OFFLOAD])
def test_every_zero_stage_and_offload(make_run: MakeRun, expected: dict, zero: str) -> None:
    assert_trains_plainly(make_run, expected, zero, ranks=1, micro=8)


@pytest.mark.parametrize(
    ("zero", "ranks", "micro"),
    [
        ("zero0", 2, 4),
        ("zero1", 2, 1),
        ("zero2", 2, 2),
        ("zero3", 2, 4),
        ("zero1", 4, 2),
        ("zero3", 4, 1),
    ],
)
def test_ranks_and_accumulation_divide_the_same_batch(
    make_run: MakeRun, expected: dict, zero: str, ranks: int, micro: int
) -> None:
    assert_trains_plainly(make_run, expected, zero, ranks, micro)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_accumulation_on_one_rank(make_run: MakeRun, expected: dict, micro: int) -> None:
    assert_trains_plainly(make_run, expected, "zero1", ranks=1, micro=micro)


@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_activation_checkpointing(make_run: MakeRun, expected: dict, zero: str) -> None:
    assert_trains_plainly(make_run, expected, zero, 1, 4, "train.activation_checkpointing=true")


def test_compiled(make_run: MakeRun, expected: dict) -> None:
    counts = assert_trains_plainly(make_run, expected, "zero1", 1, 8, "train.compile=true")
    assert counts["compiled_graphs"] > 0


@pytest.mark.parametrize(
    ("zero", "ranks", "micro"),
    [("zero0", 1, 8), ("zero1", 2, 2), ("zero2", 2, 4), ("zero3", 2, 2), ("zero1", 4, 1)],
)
def test_muon(make_run: MakeRun, expected: dict, zero: str, ranks: int, micro: int) -> None:
    assert_trains_plainly(make_run, expected, zero, ranks, micro, settings=(MUON,))


def test_z_loss(make_run: MakeRun, expected: dict) -> None:
    assert_trains_plainly(
        make_run, expected, "zero1", 2, 2, settings=(ADAMW, "optimizer.z_loss_weight=0.001")
    )


@pytest.mark.full  # compiling the kernel takes most of a minute
def test_deepspeeds_fused_adamw(make_run: MakeRun, expected: dict) -> None:
    assert_trains_plainly(make_run, expected, "zero1", 1, 8, "optimizer.adamw_kernel=deepspeed")


GRID = [
    (zero, ranks, micro, recomputed, kind)
    for zero, ranks, micro, recomputed, kind in itertools.product(
        ["zero0", "zero1", "zero2", "zero3", *OFFLOAD],
        [1, 2, 4],
        [1, 2, 4, 8],
        [False, True],
        [ADAMW, MUON],
    )
    if ranks * micro <= BATCH and not (kind == MUON and zero in OFFLOAD)
]


@pytest.mark.full
@pytest.mark.parametrize(("zero", "ranks", "micro", "recomputed", "kind"), GRID)
def test_the_whole_grid(
    make_run: MakeRun,
    expected: dict,
    zero: str,
    ranks: int,
    micro: int,
    recomputed: bool,
    kind: str,
) -> None:
    overrides = ["train.activation_checkpointing=true"] if recomputed else []
    assert_trains_plainly(make_run, expected, zero, ranks, micro, *overrides, settings=(kind,))


@pytest.mark.full
@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("recomputed", [False, True])
def test_compiled_everywhere(
    make_run: MakeRun, expected: dict, zero: str, ranks: int, recomputed: bool
) -> None:
    overrides = ["train.activation_checkpointing=true"] if recomputed else []
    counts = assert_trains_plainly(
        make_run, expected, zero, ranks, 4, "train.compile=true", *overrides
    )
    assert counts["compiled_graphs"] > 0

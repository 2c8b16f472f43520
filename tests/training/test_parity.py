"""The sentence that holds the project up: one run file gives the losses of plain PyTorch, however
it is executed.

The default tests take each way of executing against one base, and some in pairs: 50 steps of each
ZeRO stage and optimizer, 20 of each way to divide the batch; `--full` takes 50 of the whole grid.
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
SHORT_STEPS = 20
"""Of runs that divide the batch or compute in another way what runs of STEPS have shown: each step shows
it anew."""
BATCH = 8
"""Sequences of a global batch."""
LEARNS = {STEPS: 2.0, SHORT_STEPS: 1.0}
"""Steps -> nats by which the loss has fallen at least."""
ADAMW, MUON = "optimizer.kind=adamw", "optimizer.kind=muon"


@pytest.fixture(scope="module")
def expected() -> dict[tuple[int, tuple[str, ...]], tuple[list[float], list[float]]]:
    """Reference losses and norms by steps and settings, computed once."""
    return {}


def assert_trains_plainly(
    make_run: MakeRun,
    known: dict,
    zero: str,
    ranks: int,
    micro: int,
    *overrides: str,
    settings: tuple[str, ...] = (ADAMW,),
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train some steps and compare every loss and gradient norm with plain PyTorch; returns the
    counts of the run."""
    run_file, template = choose_template(make_run, zero)
    changed = [
        f"train.train_tokens={steps * BATCH * 32}",
        f"checkpoint.save_every_steps={steps}",
        f"train.validate_every_steps={steps}",
        *settings,
    ]
    asked = (steps, settings)
    if asked not in known:
        known[asked] = reference_losses(load(run_file, changed), steps)
    changed += [*template, f"batch.micro_batch_sequences={micro}", *overrides]
    outcome = run_ranks(run_file, ranks, changed)
    assert outcome["status"] == "done", outcome
    records, (losses, norms) = read_metrics(load(run_file).paths.run_dir), known[asked]
    assert [record["step"] for record in records] == list(range(1, steps + 1))
    np.testing.assert_allclose([r["loss"] for r in records], losses, rtol=0, atol=1e-4)
    found = [record["grad_norm"] for record in records]
    np.testing.assert_allclose(found[:20], norms[:20], rtol=1e-3)
    np.testing.assert_allclose(
        found, norms, rtol=2e-3
    )  # rounding that training has grown for 50 steps
    assert losses[0] - losses[-1] > LEARNS[steps], (
        "the reference itself must learn, or equality says little"
    )
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
    assert_trains_plainly(make_run, expected, zero, ranks, micro, steps=SHORT_STEPS)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_accumulation_on_one_rank(make_run: MakeRun, expected: dict, micro: int) -> None:
    assert_trains_plainly(make_run, expected, "zero1", 1, micro, steps=SHORT_STEPS)


@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_activation_checkpointing(make_run: MakeRun, expected: dict, zero: str) -> None:
    recomputed = "train.activation_checkpointing=true"
    assert_trains_plainly(make_run, expected, zero, 1, 4, recomputed, steps=SHORT_STEPS)


def test_compiled(make_run: MakeRun, expected: dict) -> None:
    compiled = "train.compile=true"
    counts = assert_trains_plainly(make_run, expected, "zero1", 1, 8, compiled, steps=SHORT_STEPS)
    assert counts["compiled_graphs"] > 0


@pytest.mark.parametrize(
    ("zero", "ranks", "micro", "steps"),
    [
        ("zero0", 1, 8, STEPS),
        ("zero1", 2, 2, SHORT_STEPS),
        ("zero2", 2, 4, SHORT_STEPS),
        ("zero3", 2, 2, SHORT_STEPS),
        ("zero1", 4, 1, SHORT_STEPS),
    ],
)
def test_muon(
    make_run: MakeRun, expected: dict, zero: str, ranks: int, micro: int, steps: int
) -> None:
    assert_trains_plainly(make_run, expected, zero, ranks, micro, settings=(MUON,), steps=steps)


def test_z_loss(make_run: MakeRun, expected: dict) -> None:
    settings = (ADAMW, "optimizer.z_loss_weight=0.001")
    assert_trains_plainly(make_run, expected, "zero1", 2, 2, settings=settings, steps=SHORT_STEPS)


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

"""Ramps of the batch and of the sequence length on real DeepSpeed engines and gloo ranks."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_training import PlainBatch, train_plainly
from ranks import run_ranks

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.sampling.dataset import open_data
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
FULL = pytest.mark.full

RAMPS = [
    "batch.ramp=[{until_tokens: 384, global_batch_tokens: 128}, {until_tokens: 1152, "
    "global_batch_tokens: 384}]",
    "data.length_ramp=[{until_tokens: 256, sequence_length: 8}, {until_tokens: 1000, "
    "sequence_length: 16}]",
    "train.train_tokens=2432",
    "checkpoint.save_every_steps=4",
]
SEQUENCES = [4, 4, 4, 12, 12, 8, 8, 8, 8, 8]
"""Of 32 tokens, in each step: 3 x 128, 2 x 384, 5 x 256 tokens. Accumulation on one rank 2, 6, 4;
on two 1, 3, 2."""
LENGTHS = [8, 8, 16, 16, 16, 32, 32, 32, 32, 32]
"""The steps begin at 0, 128, 256, 384, 768, 1152, ... tokens."""


def reference_losses(config: RunConfig) -> tuple[list[float], list[float]]:
    """Train plainly on whole batches cut here, without the plan: losses and gradient norms."""
    return train_plainly(config, batches(config))


def batches(config: RunConfig) -> Iterator[PlainBatch]:
    data, first = open_data(config), 0
    for sequences, length in zip(SEQUENCES, LENGTHS, strict=True):
        batch = data.read(np.arange(first, first + sequences))
        first += sequences
        inputs, targets = (
            torch.from_numpy(part).long().reshape(-1, length)
            for part in (batch.inputs, batch.targets)
        )
        masked = config.data.document_mask
        yield (
            inputs,
            targets,
            positions(inputs.tolist(), data.shape.end_of_document) if masked else None,
        )


def positions(rows: list[list[int]], end_of_document: int) -> torch.Tensor:
    """Count from 0 in each row, and again after each end of a document."""
    counted = []
    for row in rows:
        here = [0]
        for token in row[:-1]:
            here.append(0 if token == end_of_document else here[-1] + 1)
        counted.append(here)
    return torch.tensor(counted)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("zero", "ranks"),
    [
        ("zero0", 2),
        ("zero1", 1),
        ("zero2", 2),
        ("zero3", 2),
        *(
            pytest.param(z, r, marks=FULL)
            for z, r in (("zero0", 1), ("zero1", 2), ("zero2", 1), ("zero3", 1))
        ),
    ],
)
def test_every_zero_stage_follows_the_ramps_like_plain_pytorch(
    make_run: MakeRun, zero: str, ranks: int
) -> None:
    run_file = make_run(zero=zero)
    assert run_ranks(run_file, ranks, RAMPS)["status"] == "done"
    config = load(run_file, RAMPS)
    records = read_metrics(config.paths.run_dir)
    assert [r["tokens"] for r in records] == [32 * sum(SEQUENCES[: i + 1]) for i in range(10)]
    expected, norms = reference_losses(config)
    np.testing.assert_allclose([r["loss"] for r in records], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose([r["grad_norm"] for r in records], norms, rtol=1e-3)
    assert expected[0] - expected[-1] > 0.5, (
        "the reference itself must learn, or equality says little"
    )


@pytest.mark.ranks
def test_documents_stay_apart_in_the_shorter_rows(make_run: MakeRun) -> None:
    run_file, overrides = make_run(), [*RAMPS, "data.document_mask=true"]
    run_ranks(run_file, 2, overrides)
    config = load(run_file, overrides)
    found = [record["loss"] for record in read_metrics(config.paths.run_dir)]
    np.testing.assert_allclose(found, reference_losses(config)[0], rtol=0, atol=1e-4)
    assert (
        max(
            abs(a - b)
            for a, b in zip(found, reference_losses(load(run_file, RAMPS))[0], strict=True)
        )
        > 1e-3
    )


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("zero", "after"),
    [
        ("zero1", 1),
        ("zero3", 4),
        *(pytest.param(f"zero{z}", r, marks=FULL) for z in (0, 2) for r in (1, 2, 4)),
    ],
)
def test_a_resume_within_a_ramp_reads_on_with_any_number_of_ranks(
    make_run: MakeRun, zero: str, after: int
) -> None:
    """Lose all but step 4, the first of two large ones, and go on with micro-batches of 1."""
    run_file = make_run(zero=zero)
    run_ranks(run_file, 2, RAMPS)
    run_dir = load(run_file).paths.run_dir
    whole = read_metrics(run_dir)
    for step in (8, 10):
        shutil.rmtree(run_dir / "checkpoints" / f"step_{step:08d}")
    assert run_ranks(run_file, after, [*RAMPS, "batch.micro_batch_sequences=1"])["status"] == "done"
    resumed = read_metrics(run_dir)
    for key in ("step", "tokens", "data_checksum", "learning_rate"):
        assert [record[key] for record in resumed] == [record[key] for record in whole]
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(whole, resumed, strict=True)) < 1e-5


@pytest.mark.ranks
def test_ramps_are_fixed_and_the_run_may_grow(make_run: MakeRun) -> None:
    run_file = make_run()
    run_ranks(run_file, 1, [*RAMPS, "train.train_tokens=1024"])
    run_dir = load(run_file).paths.run_dir
    before = read_metrics(run_dir)
    assert before[-1]["tokens"] == 1152
    changed = ["batch.ramp=[]", "data.length_ramp=[{until_tokens: 256, sequence_length: 8}]"]
    outcome = run_ranks(run_file, 1, [*RAMPS, *changed])
    assert outcome["status"] == "refused"
    assert "batch.ramp: " in outcome["message"]
    assert "data.length_ramp: " in outcome["message"]
    (run_dir / "run.json").unlink()  # even then the checkpoint tells
    outcome = run_ranks(run_file, 1, [*RAMPS, "batch.ramp=[]"])
    assert (
        "batch.global_batch_tokens = 256, batch.ramp = []: step 5 ends after 1280 tokens, in "
        in outcome["message"]
    )
    assert "step_00000005 after 1152; set these back" in outcome["message"]
    assert run_ranks(run_file, 1, RAMPS)["status"] == "done"
    records = read_metrics(run_dir)
    assert records[:5] == before
    assert [record["step"] for record in records] == list(range(1, 11))


@pytest.mark.parametrize(
    "zero", [{"stage": 2, "offload_optimizer": {"device": "cpu"}}, {"stage": 3}]
)
@pytest.mark.full
@pytest.mark.ranks
def test_bf16_and_offload_follow_the_ramps_within_a_band(
    make_run: MakeRun, tmp_path: Path, zero: dict
) -> None:
    (tmp_path / "template.json").write_text(json.dumps({"zero_optimization": zero}))
    run_file, overrides = (
        make_run(),
        [*RAMPS, "precision.dtype=bf16", f"deepspeed={tmp_path / 'template.json'}"],
    )
    run_ranks(run_file, 2, overrides)
    found = [record["loss"] for record in read_metrics(load(run_file).paths.run_dir)]
    expected = reference_losses(load(run_file, RAMPS))[0]
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 0.1

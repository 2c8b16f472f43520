"""The training loss by source: sums by hand, on any ranks and accumulation, after an interruption."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks

from pipeline.config.run_file import load
from pipeline.sampling.batches import IGNORED
from pipeline.sampling.dataset import open_data
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.training.source_losses import source_figures
from pipeline.training.train_step import sums_by_group

MakeRun = Callable[..., Path]
STEPS = 80
REPEATING = [
    f"train.train_tokens={STEPS * 256}",
    "data.mixture={prose: 1, sums: 5}",
    "schedule={kind: constant, warmup_tokens: 1024}",
    "train.validate_every_steps=80",
    "checkpoint.save_every_steps=40",
]
"""Settings under which `sums` is read more than once."""


def test_sums_of_groups_become_losses_of_sources() -> None:
    """a: 8 nats in 4 new targets; b: 6 in 2 new ones and 1 in 2 repeated ones; c: nothing."""
    figures = source_figures(["a", "b", "c"], [8, 0, 6, 1, 0, 0], [4, 0, 2, 2, 0, 0])
    assert figures == {
        "loss_by_source": {"a": 2.0, "b": 1.75},
        "targets_by_source": {"a": 4, "b": 4},
        "repeated_loss_by_source": {"b": 0.5},
        "repeated_targets_by_source": {"b": 2},
    }


def test_without_repeated_text_its_fields_are_left_out() -> None:
    assert source_figures(["a"], [1.0000004, 0], [3, 0]) == {
        "loss_by_source": {"a": 0.333333},
        "targets_by_source": {"a": 3},
    }


def test_a_loss_that_is_not_finite_is_left_out_and_its_targets_count() -> None:
    figures = source_figures(["a", "b"], [float("nan"), 0, 3, float("inf")], [1, 0, 1, 1])
    assert figures == {
        "loss_by_source": {},
        "targets_by_source": {"a": 1, "b": 2},
        "repeated_loss_by_source": {},
        "repeated_targets_by_source": {"b": 1},
    }


def test_rows_are_added_up_by_group() -> None:
    rows = torch.tensor([[1.0, 2.0, float("nan"), 8.0], [4, 3, 2, 1]], dtype=torch.float64)
    groups = torch.tensor([2, 0, 1, 2])
    sums = sums_by_group(rows, groups, 4)
    assert sums.dtype == torch.float64
    assert torch.equal(sums[1], torch.tensor([3, 2, 5, 0], dtype=torch.float64))
    # A row that is not finite spoils its own group only.
    assert sums[0, [0, 2, 3]].tolist() == [2, 9, 0]
    assert sums[0, 1].isnan()


def train(make_run: MakeRun, name: str, ranks: int, *overrides: str) -> list[StepRecord]:
    run_file = make_run(name)
    outcome = run_ranks(run_file, ranks, [*REPEATING, *overrides])
    assert outcome["status"] == "done", outcome
    return read_metrics(load(run_file).paths.run_dir)


@pytest.mark.ranks
def test_losses_by_source_on_ranks_and_after_a_resume(make_run: MakeRun) -> None:
    records = train(make_run, "two", 2, "batch.micro_batch_sequences=2")

    # The targets of each row count where the order has it.
    data = open_data(load(make_run("two"), REPEATING))
    assert any(record.get("repeated_targets_by_source") for record in records)
    for record in records:
        positions = np.arange(8 * (record["step"] - 1), 8 * record["step"])
        places = data.order.locate(positions)
        counts = (data.read(positions).targets != IGNORED).sum(1)
        for index, name in enumerate(data.order.names):
            of_source = places.source == index
            repeated = of_source & (places.epoch > 0)
            assert record.get("targets_by_source", {}).get(name, 0) == counts[of_source].sum()
            found = record.get("repeated_targets_by_source", {}).get(name, 0)
            assert found == counts[repeated].sum()

    # Weighted by their targets, the losses of the sources are the loss of the step.
    for record in records:
        losses = record.get("loss_by_source", {})
        targets = record.get("targets_by_source", {})
        total = sum(losses[name] * targets[name] for name in losses) / sum(targets.values())
        assert total == pytest.approx(record["loss"], abs=1e-6)

    # One rank, and one with accumulation, add up the same: until rounding has grown by training.
    for name, micro in (("one", 8), ("accumulated", 1)):
        others = train(make_run, name, 1, f"batch.micro_batch_sequences={micro}")
        for record, other in zip(records, others, strict=True):
            assert other.get("targets_by_source") == record.get("targets_by_source")
            if record["step"] <= 20:
                assert other.get("loss_by_source") == pytest.approx(
                    record.get("loss_by_source"), abs=1e-4
                )

    # A run that went on from its half has the lines of one that was not interrupted.
    train(make_run, "resumed", 2, "batch.micro_batch_sequences=2", f"train.train_tokens={40 * 256}")
    resumed = train(make_run, "resumed", 2, "batch.micro_batch_sequences=2")
    assert [by_source(record) for record in resumed] == [by_source(record) for record in records]


def by_source(record: StepRecord) -> list[object]:
    names = ("step", "loss", "loss_by_source", "targets_by_source", "repeated_loss_by_source")
    return [record.get(name) for name in names]

"""What the run file says of the data, on real DeepSpeed engines and gloo ranks: read as said, by any division."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_training import PlainBatch, train_plainly
from ranks import run_ranks

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.run_file import load
from pipeline.sampling.dataset import open_data
from pipeline.sampling.outlook import look_ahead
from pipeline.training import resume
from pipeline.training.metrics import read_metrics

MakeRun = Callable[..., Path]
FULL = pytest.mark.full
PADDED = [
    "data.packing=best-fit",
    "data.document_mask=true",
    "data.sequence_length=64",
    "batch.global_batch_tokens=512",
]
MASKED = ["data.document_mask=true", "data.loss_after_end_of_document=false"]
FEATURES = {
    "block": ["data.shuffle=block"],
    "stages": ["data.stages=[{from_progress: 0.5, mixture: {prose: 0, sums: 1}}]"],
    "epochs": ["data.mixture=null", "data.epochs={prose: 1, sums: 3}"],
}


def checksums(config: RunConfig) -> list[str]:
    """Return the checksum of each step's samples, read here."""
    data, plan = open_data(config), config.step_plan
    steps = range(1, plan.total_steps + 1)
    positions = [range(plan.first_position(step), plan.first_position(step + 1)) for step in steps]
    return [f"{data.read(step).checksum:016x}" for step in positions]


def logged(config: RunConfig, name: str = "data_checksum") -> list:
    return [record[name] for record in read_metrics(config.paths.run_dir)]


def whole_batches(config: RunConfig) -> Iterator[PlainBatch]:
    data, plan = open_data(config), config.step_plan
    for step in range(1, plan.total_steps + 1):
        batch = data.read(range(plan.first_position(step), plan.first_position(step + 1)))
        positions = None if batch.positions is None else torch.from_numpy(batch.positions).long()
        yield torch.from_numpy(batch.inputs).long(), torch.from_numpy(batch.targets).long(), positions


@pytest.mark.parametrize(
    ("overrides", "zero", "ranks", "micro"),
    [
        (PADDED, "zero2", 2, 1),
        (MASKED, "zero0", 2, 4),
        (MASKED, "zero3", 1, 8),
        *(
            pytest.param(o, z, r, m, marks=FULL)
            for o in (PADDED, MASKED)
            for z in ("zero0", "zero1", "zero2", "zero3")
            for r, m in ((1, 8), (2, 4), (2, 1))
        ),
    ],
    ids=str,
)
def test_padding_and_ignored_targets_weigh_the_same_in_any_division(
    make_run: MakeRun, overrides: list[str], zero: str, ranks: int, micro: int
) -> None:
    overrides = [*overrides, f"batch.micro_batch_sequences={micro}"]
    run_file = make_run(zero=zero)
    config = load(run_file, overrides)
    outlook = look_ahead(config)["sources"]
    assert "data.packing=best-fit" not in overrides or outlook["sums"]["padding"] > 0.1
    run_ranks(run_file, ranks, overrides)
    losses, norms = train_plainly(config, whole_batches(config))
    np.testing.assert_allclose(logged(config, "loss"), losses, rtol=0, atol=1e-4)
    np.testing.assert_allclose(logged(config, "grad_norm"), norms, rtol=1e-3)
    assert losses[0] - losses[-1] > 1


def test_recomputed_activations_know_the_documents_too(make_run: MakeRun) -> None:
    run_file = make_run()
    run_ranks(run_file, 1, MASKED)
    plain = logged(load(run_file), "loss")
    again = make_run("recomputed")
    run_ranks(again, 1, [*MASKED, "train.activation_checkpointing=true"])
    np.testing.assert_allclose(logged(load(again), "loss"), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("overrides", FEATURES.values(), ids=FEATURES.keys())
def test_each_step_reads_what_the_run_file_says(make_run: MakeRun, overrides: list[str]) -> None:
    run_file = make_run()
    config = load(run_file, overrides)
    run_ranks(run_file, 2, overrides)
    assert logged(config) == checksums(config)
    plain = make_run("plain")
    run_ranks(plain, 2)
    assert logged(load(plain)) != logged(config)


def test_two_ranks_resumed_on_one_and_on_four_read_the_same_samples(make_run: MakeRun) -> None:
    run_file = make_run()
    run_ranks(run_file, 2)
    config = load(run_file)
    whole, losses = logged(config), logged(config, "loss")
    assert whole == checksums(config)
    for ranks in (1, 4):
        shutil.rmtree(config.paths.run_dir / "checkpoints" / "step_00000020")
        run_ranks(run_file, ranks)
        assert logged(config) == whole
        np.testing.assert_allclose(logged(config, "loss"), losses, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "override",
    [
        "data.packing=best-fit",
        "data.shuffle=block",
        "data.document_mask=true",
        "data.loss_after_end_of_document=false",
        "data.mixture={prose: 1, sums: 1}",
        "data.stages=[{from_progress: 0.75, mixture: {prose: 0, sums: 1}}]",
    ],
)
def test_a_run_goes_on_only_with_the_data_it_began_with(make_run: MakeRun, override: str) -> None:
    run_file = make_run()
    run_ranks(run_file, 1, ["train.train_tokens=2560"])
    resume.check(load(run_file))
    with pytest.raises(
        ConfigError, match=rf"{override.partition('=')[0]}.*set it back, or choose another paths\.run_dir"
    ):
        resume.check(load(run_file, [override]))


def test_a_run_with_stages_does_not_grow(make_run: MakeRun) -> None:
    """The stages' places are fractions of its length: another one would change what was read before."""
    run_file = make_run()
    run_ranks(run_file, 1, [*FEATURES["stages"], "train.train_tokens=2560"])
    resume.check(load(run_file, [*FEATURES["stages"], "train.train_tokens=2560"]))
    with pytest.raises(ConfigError, match=r"train\.train_tokens = 5120: data\.stages stand at fractions of 2560"):
        resume.check(load(run_file, FEATURES["stages"]))

"""What is said of a run's checkpoints on the disk, against real ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ranks import run_ranks

from pipeline.checkpoint.disk import disk_space_needed
from pipeline.config.run_file import load
from pipeline.engine.memory import checkpoint_bytes
from pipeline.store.files import read_json
from pipeline.store.layout import MANIFEST

MakeRun = Callable[..., Path]
WIDER = [
    "model.config.hidden_size=256",
    "model.config.intermediate_size=512",
    "train.train_tokens=2048",
    "batch.micro_batch_sequences=4",
]
"""1.4 million parameters, so that names and random states are small beside them."""


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("zero", "dtype", "kind"),
    [
        ("zero0", "fp32", "adamw"),
        ("zero1", "fp32", "adamw"),
        ("zero1", "bf16", "muon"),
        ("zero2", "bf16", "adamw"),
        ("zero3", "bf16", "adamw"),
        ("zero3", "fp32", "adamw"),
    ],
)
def test_the_bytes_of_a_checkpoint(make_run: MakeRun, zero: str, dtype: str, kind: str) -> None:
    run_file = make_run(zero=zero)
    outcome = run_ranks(run_file, 2, [*WIDER, f"precision.dtype={dtype}", f"optimizer.kind={kind}"])
    manifest = read_json(load(run_file).paths.run_dir / "checkpoints" / "step_00000008" / MANIFEST)
    assert manifest is not None
    found = sum(record["bytes"] for record in manifest["files"].values())
    counts = outcome["counts"]
    muons = counts["non_embedding_parameters"] / counts["parameters"] if kind == "muon" else 0
    predicted = checkpoint_bytes(counts["parameters"], dtype, int(zero[-1]), 8 - 4 * muons)
    assert found == pytest.approx(predicted, rel=0.06)


def test_a_disk_with_too_little_free_is_refused(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file, ["checkpoint.keep_last=2", "checkpoint.save_every_steps=1"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**30))
    told, problems = disk_space_needed(config, 1.0 * 2**30)
    assert told == "up to 3 checkpoints of 1.0 GiB at a time, 3.0 GiB free on the disk"
    assert problems == []
    _, problems = disk_space_needed(config, 1.1 * 2**30)
    assert len(problems) == 1
    assert (
        "has 3.0 GiB free, and 3 checkpoints of 1.1 GiB (0 of them there) need 3.3 GiB more"
        in problems[0]
    )
    (config.paths.run_dir / "checkpoints" / ".partial" / "killed").mkdir(parents=True)
    with (config.paths.run_dir / "checkpoints" / ".partial" / "killed" / "shard").open(
        "wb"
    ) as file:
        file.truncate(2**30)
    assert disk_space_needed(config, 1.1 * 2**30)[1] == [], (
        "what a killed save has left is removed at the start"
    )

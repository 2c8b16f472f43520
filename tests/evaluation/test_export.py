"""Every kind of checkpoint becomes a transformers folder with the engine's logits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.artifacts import write_json
from pipeline.errors import DataError
from pipeline.evaluation.export import export
from pipeline.run_file import load

MakeRun = Callable[..., Path]


def trained(run_file: Path, *overrides: str) -> None:
    """Train on 2 ranks and write the manifest as the command line would."""
    outcome = run_ranks(run_file, 2, overrides)
    write_json(load(run_file).paths.run_dir / "checkpoints" / "manifest.json", {"counts": outcome["counts"]})


@pytest.mark.parametrize(
    ("zero", "dtype"),
    [
        ("zero1", "fp32"),
        ("zero1", "bf16"),
        ("zero3", "fp32"),
        ("zero3", "bf16"),
        *(
            pytest.param(zero, dtype, marks=pytest.mark.full)
            for zero in ("zero0", "zero2")
            for dtype in ("fp32", "bf16")
        ),
    ],
)
def test_the_export_has_the_engines_logits(make_run: MakeRun, zero: str, dtype: str) -> None:
    run_file, overrides = make_run(zero=zero), [f"precision.dtype={dtype}", "train.train_tokens=2560"]
    trained(run_file, *overrides)
    config = load(run_file, overrides)
    counts = export(config).counts
    folder = config.paths.run_dir / "export" / counts["folder"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    probe = np.load(config.paths.run_dir / "checkpoints" / counts["folder"] / "probe.npz")
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(probe["input_ids"])).logits.float().numpy()
    assert (
        np.abs(logits - probe["logits"]).max() == counts["max_logit_difference"] < (1e-4 if dtype == "fp32" else 0.02)
    )
    assert model.num_parameters() == counts["parameters"]
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|endoftext|>"
    assert not list((config.paths.run_dir / "export").glob(".*")), "nothing half-written is left"


def test_other_weights_than_the_engines_are_refused(make_run: MakeRun) -> None:
    run_file = make_run()
    trained(run_file, "train.train_tokens=2560")
    config = load(run_file, ["train.train_tokens=2560"])
    probe = config.paths.run_dir / "checkpoints" / "step_00000010" / "probe.npz"
    arrays = dict(np.load(probe))
    np.savez(probe, **(arrays | {"logits": arrays["logits"] + 0.001}))  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"logits differ from the engine's by 0\.001, more than 0\.0001 for fp32"):
        export(config)
    assert not (config.paths.run_dir / "export" / "step_00000010").exists()


def test_a_checkpoint_that_is_gone_is_named(make_run: MakeRun) -> None:
    config = load(make_run())
    write_json(config.paths.run_dir / "checkpoints" / "manifest.json", {"counts": {"checkpoint": "step_00000020"}})
    with pytest.raises(DataError, match="step_00000020: the trained checkpoint is gone"):
        export(config)

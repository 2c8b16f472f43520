"""The benchmark of training runs through at small sizes; its arithmetic by hand."""

import json
from pathlib import Path

import pytest

from pipeline.benchmarks.train import (
    GPU_PRESETS,
    StepSettings,
    TrainSizes,
    benchmark_train,
    llama_section,
    settings_of_preset,
    settings_of_run_file,
)
from pipeline.benchmarks.train_results import MatrixProduct, gpu_speed, show_gpu_speeds
from pipeline.config.run_file import load


def test_a_run_file_gives_its_model_and_batch(run_file: Path) -> None:
    settings = settings_of_run_file(load(run_file, ["precision.dtype=fp32"]))
    assert settings.model["config"]["vocab_size"] == 384  # 270 ids, rounded up to 128
    assert (
        settings.sequence_length,
        settings.micro_batch_sequences,
        settings.global_batch_tokens,
    ) == (
        8,
        2,
        32,
    )


@pytest.mark.parametrize(
    ("name", "width", "layers"), list(zip(GPU_PRESETS, (768, 2048), (12, 24), strict=True))
)
def test_presets_come_with_what_their_base_says(
    name: str, width: int, layers: int, tmp_path: Path
) -> None:
    settings = settings_of_preset(name)
    assert settings.model["architecture"] == "llama"
    assert (
        settings.model["config"]["hidden_size"],
        settings.model["config"]["num_hidden_layers"],
    ) == (
        width,
        layers,
    )
    assert settings.config(tmp_path, "zero1").precision.dtype == "bf16"


@pytest.mark.ranks
def test_it_runs_and_writes_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = StepSettings(llama_section(64, 1, 384, 32), 32, 2, 128)
    sizes = TrainSizes(
        settings, settings, templates=("zero1",), blocks=2, block_steps=1, scaling_steps=1
    )
    benchmark_train(None, 1, tmp_path / "found.json", gpus=0, sizes=sizes)
    found = json.loads((tmp_path / "found.json").read_text())
    turn = found["turns"]["zero1"]
    assert turn["lowest_ratio"] <= turn["ratio"] <= turn["highest_ratio"]
    assert set(found["limits"]) == {"zero1 of plain PyTorch", "2 ranks of twice 1 rank"}
    ours = found["shares"]["zero1"]["ours"]
    assert all(seconds > 0 for seconds in ours.values())
    assert "Where the time of a step goes" in capsys.readouterr().out


def test_a_gpus_speed_is_compared_with_its_peak_and_its_product(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = {
        "tokens_per_second": 100_000.0,
        "flops_per_token": 3e9,
        "parameters": 5e8,
        "build_seconds": 1.0,
        "first_step_seconds": 12.0,
        "peak_gib": 30.0,
    }
    product: MatrixProduct = {"size": 8192, "flops": 600e12, "peak_flops": 1000e12}
    ours = gpu_speed(figures, product)
    assert (ours["flops"], ours["mfu"]) == (3e14, 0.3)
    unknown = gpu_speed(figures | {"tokens_per_second": 50_000.0}, product | {"peak_flops": None})
    assert unknown["mfu"] is None
    show_gpu_speeds("a model", {"zero1": ours, "plain": unknown}, product)
    printed = capsys.readouterr().out
    ours_line, plain_line = printed.strip().splitlines()[-2:]
    assert ours_line.split() == ["zero1", "100,000", "30.0%", "50.0%", "2.000", "30.0", "12"]
    assert plain_line.split() == [
        *("plain", "50,000", "unknown", "peak", "25.0%", "1.000", "30.0", "12")
    ]

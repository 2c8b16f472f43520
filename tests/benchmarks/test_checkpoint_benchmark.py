"""The benchmark of saves runs through at a small size."""

import json
from pathlib import Path

import pytest

from pipeline.benchmarks.checkpoint import benchmark_checkpoint
from pipeline.benchmarks.training.step_settings import StepSettings, llama_section


@pytest.mark.ranks
def test_it_runs_and_counts_all_that_training_loses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark_checkpoint(
        1, tmp_path, tmp_path / "found.json", StepSettings(llama_section(64, 1, 384, 32), 32, 2, 64)
    )
    found = json.loads((tmp_path / "found.json").read_text())
    ours = found["ours"]
    assert ours["lost"] == pytest.approx(ours["stall"] + ours["slowdown"] + ours["publish"])
    assert found["deepspeed"]["lost"] > 0
    assert found["bytes"] > 64 * 384 * 16
    assert "Seconds that training loses" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]

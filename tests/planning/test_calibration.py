"""Calibration by hand, refusals, and a plan that predicts another run."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plans import HARDWARE, facts_of
from test_plan import SETTINGS, rates

from pipeline.cli.commands import run_one
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError
from pipeline.planning.calibration import (
    RunFigures,
    calibrated_rates,
    computing_seconds,
    fitted_share,
    refuse_other_runs,
    run_figures,
)
from pipeline.planning.planner import allocation_of, plan_run
from pipeline.planning.run_setting import setting_on_devices
from pipeline.store.layout import DataFolder, RunFolder, manifest_path
from pipeline.store.stages import STAGES


def test_computing_from_a_step() -> None:
    assert computing_seconds(12, wire=5, overlap=0.5, growth=1.2) == 10  # 5 of 10 s hide 5
    # 1.2 x 10 + (8 - 5) = 15
    assert computing_seconds(15, wire=8, overlap=0.5, growth=1.2) == pytest.approx(10)


@pytest.fixture
def figures(run_file: Path) -> RunFigures:
    """Return a run on 4 devices, which took what its plan says: 0.5 of the peak."""
    config = load(run_file, SETTINGS)
    facts = facts_of()
    setting = setting_on_devices(config, facts, 4, on_gpu=True)
    return RunFigures(
        path=Path("/runs/a"),
        config=config,
        facts=facts,
        setting=setting,
        device="Round",
        step_seconds=256 * (6e6 + 19_200) / 1e12 + 2 * 0.75 * 2e6 / 10e9,
        peak_bytes=0,
        validation_seconds=None,
        start_up_seconds=7.0,
        save_seconds=2.0,
        save_bytes=15e6,
        export_bytes=3e6,
        noise_scale_tokens=None,
        data=None,
    )


def test_rates_of_a_run_by_hand(figures: RunFigures) -> None:
    found = calibrated_rates(rates(), [replace(figures, peak_bytes=200_000_000)], HARDWARE)
    assert found.mfu.value == pytest.approx(0.5)
    assert (found.mfu.kind, found.mfu.source) == ("calibrated", "/runs/a")
    assert found.start_up_seconds.value == 7
    assert found.save_bytes_per_second.value == 7.5e6
    assert found.checkpoint_extra_bytes.value == 1e6
    assert found.export_extra_bytes.value == 1e6
    assert found.per_device_share.kind == "assumed"
    assert found.validation_factor.kind == "assumed"


def test_validations_are_calibrated_beside_their_flops(figures: RunFigures) -> None:
    """64 sequences of 8 tokens of one source, a quarter on each device, forward only."""
    expected = 64 * 8 / 4 * (6e6 + 19_200) / 3 / 1e12
    slow = replace(figures, peak_bytes=1, validation_seconds=3 * expected)
    found = calibrated_rates(rates(), [slow], HARDWARE)
    assert found.validation_factor.value == pytest.approx(3)


def test_several_numbers_of_devices_tell_the_linear_term(figures: RunFigures) -> None:
    """Each device has as many tokens: 1 s on one, 1.06 s on four."""
    on_one = replace(figures, setting=replace(figures.setting, ranks=1), step_seconds=4.0)
    on_four = replace(figures, step_seconds=1.06)
    assert fitted_share([on_one, on_four]) == pytest.approx(0.02)
    assert fitted_share([on_four, on_four]) is None
    assert fitted_share([replace(on_one, step_seconds=9.0), on_four]) == 0.0


def test_runs_that_tell_nothing_are_refused_at_once(figures: RunFigures) -> None:
    on_h200 = replace(figures, device="NVIDIA H200")
    refuse_other_runs([on_h200], "h200", "bf16", 4_000_000)
    with pytest.raises(ConfigError) as raised:
        refuse_other_runs([on_h200], "a100-80gb", "fp32", 4_000_001)
    device, dtype, size = raised.value.problems
    assert "ran on NVIDIA H200, and the plan is for --hardware a100-80gb; plan for h200" in device
    assert "computed in bf16, and the plan is for precision.dtype = fp32" in dtype
    assert "4 times as many; rates hold for 1/4 to 4 times" in size


def test_a_folder_without_steps_is_refused(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        run_figures(tmp_path)
    run_dir = RunFolder(tmp_path / "run")
    run_dir.path.mkdir()
    run_dir.config.write_text(run_file.read_text())
    with pytest.raises(DataError, match="no run has begun there"):
        run_figures(run_dir.path)


@pytest.mark.ranks
def test_a_run_predicts_another_with_twice_the_layers_and_half_the_micro_batch(
    make_run: Callable[..., Path],
) -> None:
    """Peak memory within 10 %, disk within 5 %, of what the other run then takes."""
    first = make_run("first")
    train_and_export(first)
    second = make_run("second")
    layers = 2 * int(load(first).model.config["num_hidden_layers"])
    overrides = [f"model.config.num_hidden_layers={layers}", "batch.micro_batch_sequences=1"]
    config = load(second, [*overrides, "launch.ranks=2"])
    plan = plan_run(config, allocation_of(config, "cpu", None, 24), [first.parent / "first"])
    train_and_export(second, *overrides)

    measured = run_figures(second.parent / "second")
    predicted = plan.memory.own.device_bytes + plan.memory.own.host_bytes
    print(f"peak: {measured.peak_bytes:,} bytes, predicted {predicted:,.0f}")
    assert predicted == pytest.approx(measured.peak_bytes, rel=0.1)

    run = RunFolder(second.parent / "second")
    on_disk = sum(size_of(folder) for folder in (run.checkpoints, run.export))
    print(f"disk: {on_disk:,} bytes, predicted {plan.disk.run_at_the_end:,.0f}")
    assert plan.disk.run_at_the_end == pytest.approx(on_disk, rel=0.05)
    data = DataFolder(second.parent / "data")
    assert plan.disk.data.token_bytes == pytest.approx(size_of(data.tokens), rel=0.05)
    assert plan.disk.data.document_bytes == pytest.approx(size_of(data.documents), rel=0.05)


def train_and_export(run_file: Path, *overrides: str) -> None:
    command = [sys.executable, "-m", "pipeline", "train", str(run_file), *overrides]
    ended = subprocess.run(
        [*command, "launch.ranks=2"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (export,) = (stage for stage in STAGES if stage.name == "export")
    run_one(STAGES, export, run_file, [*overrides, "launch.ranks=2"])


def size_of(folder: Path) -> int:
    """Return the bytes of a stage's files, without its manifest and its notes on finished work."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".tasks" not in path.parts]
    return sum(path.stat().st_size for path in files if path != manifest_path(folder))

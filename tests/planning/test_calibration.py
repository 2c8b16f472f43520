"""Calibration by hand, refusals, and a plan that predicts another run."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plans import HARDWARE, facts_of
from test_plan import SETTINGS, rates

from pipeline.cli.commands import run_one
from pipeline.config.hardware import read_hardware
from pipeline.config.run_file import load
from pipeline.engine.memory import logits_at_once, memory_parts
from pipeline.errors import ConfigError, DataError
from pipeline.planning.calibration import calibrated_rates, computing_seconds, fitted_share
from pipeline.planning.comparable_runs import refuse_other_runs
from pipeline.planning.planner import allocation_of, plan_run
from pipeline.planning.run_figures import RunFigures, run_figures
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


def test_a_run_at_zero_3_shows_the_longest_time_of_its_hooks(figures: RunFigures) -> None:
    """Four micro-batches of two layers: an eighth of the step's computing at most."""
    computing = 256 * (6e6 + 19_200) / 1e12
    wire = 3 * 4 * 0.75 * 2e6 / 10e9
    at_3 = replace(
        figures,
        setting=replace(figures.setting, zero_stage=3),
        peak_bytes=1,
        step_seconds=computing + wire,
    )
    found = calibrated_rates(rates(), [at_3], HARDWARE)
    assert found.mfu.value == pytest.approx(0.5)
    assert found.zero_3_host_seconds.value == pytest.approx(computing / 8)
    assert found.zero_3_host_seconds.kind == "calibrated"
    slow = calibrated_rates(rates(zero_3_host_seconds=computing / 10), [at_3], HARDWARE)
    assert slow.zero_3_host_seconds.kind == "assumed"


def test_validations_are_calibrated_beside_their_flops(figures: RunFigures) -> None:
    """64 sequences of 8 tokens of one source, a quarter on each device, forward only."""
    expected = 64 * 8 / 4 * (6e6 + 19_200) / 3 / 1e12
    slow = replace(figures, peak_bytes=1, validation_seconds=3 * expected)
    found = calibrated_rates(rates(), [slow], HARDWARE)
    assert found.validation_factor.value == pytest.approx(3)


def run_on(figures: RunFigures, devices: int, growth: float, **setting: float) -> RunFigures:
    """Return a run whose steps take computing x growth and the wire that nothing hides."""
    computing = 1024 / devices * (6e6 + 19_200) / 1e12
    wire = 2 * (devices - 1) / devices * 2e6 / 10e9
    return replace(
        figures,
        path=Path(f"/runs/on_{devices}"),
        setting=replace(figures.setting, ranks=devices, **setting),
        step_seconds=computing * growth + wire,
    )


def test_several_numbers_of_devices_tell_the_linear_term(figures: RunFigures) -> None:
    """Computing grows by 2 % for each device beyond the first; the wire is no part of that."""
    one = run_on(figures, 1, 1.0)
    two = run_on(figures, 2, 1.02)
    four = run_on(figures, 4, 1.06)
    assert fitted_share([one, four], 0.0, HARDWARE) == pytest.approx(0.02)
    assert fitted_share([one, two, four], 0.0, HARDWARE) == pytest.approx(0.02)
    assert fitted_share([four, four], 0.0, HARDWARE) is None
    assert fitted_share([one, run_on(figures, 4, 0.9)], 0.0, HARDWARE) == 0.0


def test_perfect_scaling_has_no_linear_term_whatever_the_batch(figures: RunFigures) -> None:
    """Four times the devices with four times the batch take as long, but for the wire."""
    one = run_on(figures, 1, 1.0)
    batch = one.config.batch.model_copy(update={"global_batch_tokens": 4096})
    four = run_on(figures, 4, 4.0)
    four = replace(four, config=four.config.model_copy(update={"batch": batch}))
    assert fitted_share([one, four], 0.0, HARDWARE) == pytest.approx(0, abs=1e-9)


def test_steps_that_grow_with_the_devices_tell_nothing(figures: RunFigures) -> None:
    """Four devices take 4.3 times as long for a device's work: above 1 for each of three."""
    slow = [run_on(figures, 1, 1.0), run_on(figures, 4, 4.3)]
    message = r"--from /runs/on_1 \(1\), /runs/on_4 \(4\): .* makes a step longer by more than"
    with pytest.raises(ConfigError, match=message):
        fitted_share(slow, 0.0, HARDWARE)


def test_runs_on_several_numbers_of_devices_differ_in_nothing_else(figures: RunFigures) -> None:
    on_two = replace(figures, setting=replace(figures.setting, ranks=2), path=Path("/runs/b"))
    refuse_other_runs([figures, on_two], "round.yaml", HARDWARE, figures.setting, 1_000_000)
    longer = replace(
        on_two,
        facts=facts_of(2_000_000),
        setting=replace(on_two.setting, sequence_length=16, activation_checkpointing=True),
    )
    # On as many devices, runs may differ: the last one's rates count.
    alike = replace(longer, setting=replace(longer.setting, ranks=4))
    refuse_other_runs([figures, alike], "round.yaml", HARDWARE, figures.setting, 1_000_000)
    with pytest.raises(ConfigError) as raised:
        refuse_other_runs([figures, longer], "round.yaml", HARDWARE, figures.setting, 1_000_000)
    (problem,) = raised.value.problems
    assert problem == (
        "--from /runs/b: differs from /runs/a in parameters = 2,000,000, not 1,000,000, "
        "data.sequence_length = 16, not 8, train.activation_checkpointing = true, not false; runs "
        "on several numbers of devices must differ in that number only, so give such runs, or one "
        "run"
    )


def test_runs_that_tell_nothing_are_refused_at_once(figures: RunFigures) -> None:
    on_h200 = replace(figures, device="NVIDIA H200")
    refuse_other_runs([on_h200], "h200", read_hardware("h200"), figures.setting, 4_000_000)
    planned = replace(figures.setting, dtype="fp32", offloads_optimizer=True)
    with pytest.raises(ConfigError) as raised:
        refuse_other_runs([on_h200], "a100-80gb", read_hardware("a100-80gb"), planned, 4_000_001)
    device, dtype, offload, size = raised.value.problems
    assert (
        "ran on NVIDIA H200, and the plan is for a100-80gb (devices whose names have A100); plan "
        "for h200, or plan without this run"
    ) in device
    assert "computed in bf16, and the plan is for precision.dtype = fp32" in dtype
    assert "has no states in host memory, and the planned run optimizer states;" in offload
    assert "4 times as many; rates hold for 1/4 to 4 times" in size


def test_hardware_of_a_file_is_compared_by_its_devices(figures: RunFigures) -> None:
    """A run on a device that no shipped file knows, and one on CPUs, each beside its own file."""
    refuse_other_runs([figures], "hw/round.yaml", HARDWARE, figures.setting, 1_000_000)
    cpu = HARDWARE.model_copy(update={"device_names": ()})
    on_cpu = replace(figures, device="CPU")
    refuse_other_runs([on_cpu], "hw/cpu.yaml", cpu, figures.setting, 1_000_000)
    with pytest.raises(
        ConfigError, match=r"ran on Round, .* hw/cpu.yaml \(CPUs\); plan for a hard"
    ):
        refuse_other_runs([figures], "hw/cpu.yaml", cpu, figures.setting, 1_000_000)
    with pytest.raises(ConfigError, match=r"names have Round\); plan for cpu, or for a file with"):
        refuse_other_runs([on_cpu], "hw/round.yaml", HARDWARE, figures.setting, 1_000_000)


@pytest.mark.parametrize("copies_saves", [False, True])
def test_a_run_that_peaks_as_predicted_is_predicted_again(
    figures: RunFigures, copies_saves: bool
) -> None:
    """On a GPU the peak is the device's part; on CPUs the process holds the host's copy, too."""
    setting = replace(figures.setting, copies_saves=copies_saves)
    shape = figures.facts.shape
    parts = memory_parts(shape, setting, logits_at_once(shape, setting))
    device = sum(part.device for part in parts)
    host = sum(part.host for part in parts)
    assert host == (14e6 / 4 if copies_saves else 0)
    on_gpu = replace(figures, setting=setting, peak_bytes=int(device))
    assert device == int(device)
    assert calibrated_rates(rates(), [on_gpu], HARDWARE).memory_factor.value == 1
    larger = replace(on_gpu, peak_bytes=int(1.5 * device))
    assert calibrated_rates(rates(), [larger], HARDWARE).memory_factor.value == 1.5

    cpu = HARDWARE.model_copy(update={"device_names": ()})
    on_cpu = replace(on_gpu, peak_bytes=int(device + host), device="CPU")
    assert calibrated_rates(rates(), [on_cpu], cpu).memory_offset_bytes.value == 0
    with_libraries = replace(on_cpu, peak_bytes=int(device + host) + 1000)
    assert calibrated_rates(rates(), [with_libraries], cpu).memory_offset_bytes.value == 1000


def test_runs_that_say_too_little_are_refused(run_file: Path, tmp_path: Path) -> None:
    """More than ten steps of the whole batch are needed; the device is in the start or the manifest."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(run_file.read_text())
    start = {"event": "start", "step": 0, "ranks": 2}
    run.events.write_text(json.dumps(start) + "\n")
    step = {"tokens_per_second": 1.0, "peak_memory_bytes": 1}
    lines = [json.dumps({"step": number, **step}) for number in range(1, 12)]
    run.metrics.write_text("\n".join(lines[:10]) + "\n")
    with pytest.raises(DataError, match=r"made no more than 10 steps .* too few to tell its rate"):
        run_figures(run.path)
    run.metrics.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"does not say on which device it runs; finish it first"):
        run_figures(run.path)


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

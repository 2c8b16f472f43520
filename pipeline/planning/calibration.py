"""Rates of a plan, from runs that were made: metrics, events and sizes on disk.

Reads run folders and the data folders that they name.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.hardware import Hardware, hardware_of_device
from pipeline.config.run_config import RunConfig
from pipeline.engine.memory import (
    WIDTH,
    MemorySetting,
    checkpoint_bytes,
    logits_at_once,
    memory_parts,
)
from pipeline.errors import ConfigError, DataError
from pipeline.model.model_facts import ModelFacts, model_facts
from pipeline.planning.disk_use import DataSize
from pipeline.planning.plan import (
    BACKWARD_AND_FORWARD,
    flops_per_token,
    validation_seconds,
    validation_tokens,
)
from pipeline.planning.rates import PlanRates, Rate
from pipeline.planning.run_setting import measured_data, setting_on_devices
from pipeline.planning.step_time import communication
from pipeline.store.artifacts import read_manifest
from pipeline.store.events import FIRST_STEP, FirstStepEvent, SaveEvent, StartEvent, read_events
from pipeline.store.layout import RunFolder, data_folder
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.store.recorded_run import recorded_config
from pipeline.store.records import Manifest
from pipeline.tokens.indexed_dataset import token_dtype

WARM_UP_STEPS = 10
"""First steps after a start that do not count: compilation, caches."""
MOST_TIMES_LARGER = 4.0
"""The planned model has at most as many times the run's parameters, and at least one fourth."""
LAST_PART = 0.2
"""Share of the steps over which the last gradient noise scale is taken."""
CPU = "CPU"
"""Name under which runs record a device that is no GPU."""


@dataclass(frozen=True)
class RunFigures:
    """What a run tells of its hardware."""

    path: Path
    config: RunConfig
    facts: ModelFacts
    setting: MemorySetting
    device: str
    step_seconds: float
    """Median of a step after the ramp of the batch."""
    peak_bytes: int
    """Peak memory of a device; of a process, where ranks run on CPUs."""
    validation_seconds: float | None
    """Median of a validation; None before the first."""
    start_up_seconds: float | None
    save_seconds: float | None
    save_bytes: float | None
    export_bytes: float | None
    noise_scale_tokens: float | None
    """Median over the last steps: an estimate of the critical batch."""
    data: DataSize | None


def run_figures(path: Path) -> RunFigures:
    """Read what a run tells of its hardware.

    Raises DataError where no run has made enough steps there, or none says on which device.
    """
    # The run's last start, and the steps after it.
    config = recorded_config(path, [])
    folder = RunFolder(config.paths.run_dir)
    starts: list[StartEvent] = read_events(folder.path, "start")
    records = _steady_records(read_metrics(folder.path), config, starts, folder.path)
    facts = model_facts(config)
    ranks = starts[-1]["ranks"]
    device = _device(folder, starts)

    # Start-ups, saves and what they left on disk.
    saves: list[SaveEvent] = read_events(folder.path, "save")
    first_steps: list[FirstStepEvent] = read_events(folder.path, FIRST_STEP)
    batch = config.batch.global_batch_tokens
    exported: Manifest[Any] | None = read_manifest(folder.export_manifest)
    return RunFigures(
        path=folder.path,
        config=config,
        facts=facts,
        setting=setting_on_devices(config, facts, ranks, on_gpu=device != CPU),
        device=device,
        step_seconds=statistics.median(batch / record["tokens_per_second"] for record in records),
        peak_bytes=max(record["peak_memory_bytes"] for record in records),
        validation_seconds=_validation(records),
        start_up_seconds=_start_up(first_steps),
        save_seconds=max((save["seconds"] for save in saves), default=None),
        save_bytes=_newest_size(saves),
        export_bytes=_size_of_export(exported),
        noise_scale_tokens=_noise_scale(records),
        data=measured_data(data_folder(config)),
    )


def _steady_records(
    records: Sequence[StepRecord], config: RunConfig, starts: Sequence[StartEvent], path: Path
) -> list[StepRecord]:
    """Return the steps of the last start, after warm-up, that have the whole batch."""
    if not starts:
        raise DataError(f"{path}: no run has begun there; plan from one that has made steps")
    first = starts[-1]["step"] + WARM_UP_STEPS
    batch = config.batch.global_batch_tokens
    steady = [
        record
        for record in records
        if record["step"] > first and config.step_plan.tokens(record["step"]) == batch
    ]
    if not steady:
        raise DataError(
            f"{path}: its last start has made no more than {WARM_UP_STEPS} steps of the whole "
            "batch, which are too few to tell its rate; train further, or plan without it"
        )
    return steady


def _device(folder: RunFolder, starts: Sequence[StartEvent]) -> str:
    """Return the name of the run's device. Raises DataError where none is recorded."""
    named = starts[-1].get("device")
    if named is not None:
        return named
    # Runs that began before starts named the device name it when they have finished.
    manifest: Manifest[Any] | None = read_manifest(folder.train_manifest)
    if manifest is None:
        raise DataError(f"{folder.path}: does not say on which device it runs; finish it first")
    return manifest["counts"]["device"]


def _start_up(first_steps: Sequence[FirstStepEvent]) -> float | None:
    """Return the seconds from the last start of `train` to its first step."""
    if not first_steps:
        return None
    last = first_steps[-1]
    return last["seconds"] - last["phases"].get("before_train", 0.0)


def _validation(records: Sequence[StepRecord]) -> float | None:
    seconds = [record["validation_seconds"] for record in records if "validation_seconds" in record]
    if not seconds:
        return None
    return statistics.median(seconds)


def _newest_size(saves: Sequence[SaveEvent]) -> float | None:
    if not saves:
        return None
    return float(saves[-1]["bytes"])


def _size_of_export(manifest: Manifest[Any] | None) -> float | None:
    if manifest is None:
        return None
    return float(sum(record["bytes"] for record in manifest["files"].values()))


def _noise_scale(records: Sequence[StepRecord]) -> float | None:
    """Return the median of the last estimates of the critical batch, in tokens."""
    last = records[-max(1, int(LAST_PART * len(records))) :]
    scales = [record["gradient_noise_scale_tokens"] for record in last]
    valid = [scale for scale in scales if scale is not None]
    if not valid:
        return None
    return statistics.median(valid)


def refuse_other_runs(
    runs: Sequence[RunFigures], hardware_name: str, dtype: str, parameters: int
) -> None:
    """Raise ConfigError where a run tells nothing about the planned one.

    Causes: another device, another number format, a model more than four times as large or as
    small.
    """
    problems: list[str] = []
    for run in runs:
        where = f"--from {run.path}"
        device = "cpu" if run.device == CPU else hardware_of_device(run.device)
        if device != hardware_name:
            problems.append(
                f"{where}: ran on {run.device}, and the plan is for --hardware {hardware_name}; "
                f"plan for {device or 'a file that describes it'}, or without this run"
            )
        if run.config.precision.dtype != dtype:
            problems.append(
                f"{where}: computed in {run.config.precision.dtype}, and the plan is for "
                f"precision.dtype = {dtype}; rates of one do not hold for the other"
            )
        ratio = parameters / run.facts.parameters
        if not 1 / MOST_TIMES_LARGER <= ratio <= MOST_TIMES_LARGER:
            problems.append(
                f"{where}: has {run.facts.parameters:,} parameters and the planned model "
                f"{parameters:,}, {ratio:.2g} times as many; rates hold for 1/4 to 4 times, so "
                "plan from a run of a similar size"
            )
    if problems:
        raise ConfigError(problems)


def calibrated_rates(
    assumed: PlanRates, runs: Sequence[RunFigures], hardware: Hardware
) -> PlanRates:
    """Return the rates with all that the runs tell, the last run's where several tell one."""
    last = runs[-1]

    def calibrated(value: float) -> Rate:
        return Rate(value, "calibrated", str(last.path))

    # How steps take longer with more devices, where several numbers of devices were run.
    share = assumed.per_device_share
    fitted = fitted_share(runs)
    if fitted is not None:
        share = calibrated(fitted)
    rates = replace(assumed, per_device_share=share)
    rates = replace(rates, mfu=calibrated(_mfu(last, rates, hardware)))

    # Validations.
    if last.validation_seconds is not None:
        peak = hardware.peak_flops(last.setting.dtype)
        assert peak is not None, "training in this format was possible"
        tokens = validation_tokens(last.config) / last.setting.ranks
        flops = flops_per_token(last.facts, last.setting.sequence_length) * tokens
        expected = validation_seconds(flops, peak * rates.mfu.value)
        factor = last.validation_seconds / expected
        rates = replace(rates, validation_factor=calibrated(factor))

    # Memory: a device's own grows with what is predicted; a process on CPUs also holds libraries.
    parts = memory_parts(
        last.facts.shape, last.setting, logits_at_once(last.facts.shape, last.setting)
    )
    predicted = sum(part.device + part.host for part in parts)
    if hardware.is_cpu:
        rates = replace(rates, memory_offset_bytes=calibrated(last.peak_bytes - predicted))
    else:
        rates = replace(rates, memory_factor=calibrated(last.peak_bytes / predicted))

    if last.start_up_seconds is not None:
        rates = replace(rates, start_up_seconds=calibrated(last.start_up_seconds))
    if last.save_seconds and last.save_bytes:
        nodes = -(-last.setting.ranks // hardware.devices_per_node)
        rate = last.save_bytes / last.save_seconds / nodes
        rates = replace(rates, save_bytes_per_second=calibrated(rate))
    if last.save_bytes is not None:
        tensors = checkpoint_bytes(
            last.facts.parameters,
            last.setting.dtype,
            last.setting.zero_stage,
            last.setting.moment_bytes,
        )
        rates = replace(rates, checkpoint_extra_bytes=calibrated(last.save_bytes - tensors))
    if last.export_bytes is not None:
        weights = last.facts.parameters * WIDTH[last.setting.dtype]
        rates = replace(rates, export_extra_bytes=calibrated(last.export_bytes - weights))
    if last.data is not None and last.data.text_bytes:
        rates = _with_data(rates, last.data, last.facts.shape.vocabulary, calibrated)
    return rates


def fitted_share(runs: Sequence[RunFigures]) -> float | None:
    """Return what each further device adds to a step, as a share of its computing.

    Least squares of step seconds for each token of a device over K - 1: t = c (1 + share (K - 1)).
    At least 0; None where all runs have as many devices.
    """
    further = [run.setting.ranks - 1.0 for run in runs]
    if len(set(further)) < 2:
        return None
    seconds = [
        run.step_seconds * run.setting.ranks / run.config.batch.global_batch_tokens for run in runs
    ]
    line = statistics.linear_regression(further, seconds)
    return max(0.0, line.slope / line.intercept)


def _mfu(run: RunFigures, rates: PlanRates, hardware: Hardware) -> float:
    """Return the share of the peak in the computing part of the run's steps."""
    # What a device sends in a step.
    setting = run.setting
    peak = hardware.peak_flops(setting.dtype)
    assert peak is not None, "training in this format was possible"
    devices = setting.ranks
    nodes = -(-devices // hardware.devices_per_node)
    tokens = run.config.batch.global_batch_tokens
    sent = communication(
        run.facts.parameters, setting, tokens, hardware, nodes, rates.overlap.value
    )

    # What is left of the step is computing.
    growth = 1 + rates.per_device_share.value * (devices - 1)
    computing = computing_seconds(
        run.step_seconds, sent.wire_bytes / sent.bandwidth, sent.overlap, growth
    )
    per_token = flops_per_token(run.facts, setting.sequence_length)
    if setting.activation_checkpointing:
        per_token *= 1 + 1 / BACKWARD_AND_FORWARD
    flops = per_token * tokens / devices
    return flops / computing / peak


def computing_seconds(step: float, wire: float, overlap: float, growth: float) -> float:
    """Return t_c of step = t_c growth + max(0, wire - overlap t_c), all in seconds."""
    hidden = step / growth
    if wire <= overlap * hidden:
        return hidden
    return (step - wire) / (growth - overlap)


def _with_data(
    rates: PlanRates, data: DataSize, vocabulary: int, calibrated: Callable[[float], Rate]
) -> PlanRates:
    """Return the rates with the sizes of a corpus that was made."""
    ids = data.tokens * token_dtype(vocabulary).itemsize
    return replace(
        rates,
        text_bytes_per_token=calibrated(data.text_bytes / data.tokens),
        document_bytes_per_text_byte=calibrated(data.document_bytes / data.text_bytes),
        token_extra_share=calibrated(data.token_bytes / ids - 1),
    )

"""What a run tells of its hardware: rates, sizes and its device, from its metrics, events and folders."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.hardware import CPU
from pipeline.config.run_config import RunConfig
from pipeline.engine.memory import MemorySetting
from pipeline.engine.noise_average import EVERY_STEPS, LEAST_UPDATES
from pipeline.errors import DataError
from pipeline.model.model_facts import ModelFacts, model_facts
from pipeline.planning.disk_use import DataSize
from pipeline.planning.run_setting import measured_data, setting_on_devices
from pipeline.store.artifacts import read_manifest
from pipeline.store.events import FIRST_STEP, FirstStepEvent, SaveEvent, StartEvent, read_events
from pipeline.store.layout import RunFolder, data_folder
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.store.recorded_run import recorded_config
from pipeline.store.records import Manifest

WARM_UP_STEPS = 10
"""First steps after a start that do not count: compilation, caches."""
LAST_PART = 0.2
"""Share of the steps over which the last gradient noise scale is taken."""


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
    records = steady_records(read_metrics(folder.path), config, starts, folder.path)
    ranks = starts[-1]["ranks"]
    device = _device(folder, starts)
    facts = model_facts(config)

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
        noise_scale_tokens=last_noise_scale(records),
        data=measured_data(data_folder(config)),
    )


def steady_records(
    records: Sequence[StepRecord], config: RunConfig, starts: Sequence[StartEvent], path: Path
) -> list[StepRecord]:
    """Return the steps of the last start, after warm-up, that have the whole batch.

    Raises DataError where there are none.
    """
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


def last_noise_scale(records: Sequence[StepRecord]) -> float | None:
    """Return the median of the last estimates of the critical batch, in tokens.

    None for a run of too few steps: its average is still one over all of its way.
    """
    if records[-1]["step"] < LEAST_UPDATES * EVERY_STEPS:
        return None
    last = records[-max(1, int(LAST_PART * len(records))) :]
    scales = [record["gradient_noise_scale_tokens"] for record in last]
    valid = [scale for scale in scales if scale is not None]
    if not valid:
        return None
    return statistics.median(valid)

"""The steps of a throughput study's runs, read from their folders."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.hardware import CPU
from pipeline.config.study_file import StudyFile
from pipeline.engine.memory import WIDTH
from pipeline.errors import DataError
from pipeline.planning.run_figures import WARM_UP_STEPS, steady_records
from pipeline.planning.run_setting import overlaps_communication, setting_on_devices
from pipeline.planning.step_time import micro_batches, ring_bytes
from pipeline.planning.study.study_run import StudyRun
from pipeline.planning.study.throughput import LEAST_STEPS, SCALING, variant_of
from pipeline.planning.throughput.step_points import Scaling, StepPoint
from pipeline.store.events import COMMUNICATION, CommunicationEvent, StartEvent, read_events
from pipeline.store.metrics import read_metrics


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a throughput study."""

    point: StepPoint
    variant: str
    """Variants that are not the first of their axis; empty for none."""
    device: str
    overlaps: bool
    """Whether its template has gradients reduced during the backward pass."""
    communication: CommunicationEvent | None
    """What was measured after its last step; None on one rank, or where it was not asked for."""


def measured_runs(
    study: StudyFile, runs: Sequence[StudyRun]
) -> tuple[list[MeasuredRun], dict[str, str]]:
    """Return the runs that have made enough steps; and name -> why not of the others."""
    measured: list[MeasuredRun] = []
    reasons: dict[str, str] = {}
    for run in runs:
        try:
            measured.append(_measured_run(study, run))
        except DataError:
            reasons[run.name] = (
                f"fewer than {LEAST_STEPS} steps after the first {WARM_UP_STEPS} of its last start"
            )
    return measured, reasons


def _measured_run(study: StudyFile, run: StudyRun) -> MeasuredRun:
    """Return what a run has measured. Raises DataError where it has made too few steps."""
    config = run.config
    path = config.paths.run_dir

    # Its steps.
    starts: list[StartEvent] = read_events(path, "start")
    records = steady_records(read_metrics(path), config, starts, path)
    if len(records) < LEAST_STEPS:
        raise DataError(f"{path}: {len(records)} steps after the first ones are too few")
    steps = [record["step_seconds"] for record in records]
    waits = [record["data_wait_seconds"] for record in records]

    # What a rank sends, and beside which part of its computing.
    ranks = starts[-1]["ranks"]
    device = starts[-1].get("device", CPU)
    setting = setting_on_devices(config, run.facts, ranks, on_gpu=device != CPU)
    tokens = config.batch.global_batch_tokens
    accumulation = micro_batches(setting, tokens)
    overlap_share = 1.0
    if setting.zero_stage <= 1:
        overlap_share = 1 / accumulation
    wire = ring_bytes(
        run.facts.parameters, WIDTH[setting.dtype], setting.zero_stage, ranks, accumulation
    )

    # What was measured after its last step.
    events: list[CommunicationEvent] = read_events(path, COMMUNICATION)
    communication = None
    if events:
        communication = events[-1]
    scaling: Scaling = run.place.values[SCALING]  # pyright: ignore[reportAssignmentType]
    point = StepPoint(
        name=run.name,
        scaling=scaling,
        devices=ranks,
        nodes=1 if communication is None else communication["nodes"],
        tokens=tokens,
        seconds=statistics.median(steps),
        wire_bytes=wire,
        overlap_share=overlap_share,
        exposed_share=exposed_share(communication),
        data_wait_share=sum(waits) / sum(steps),
    )
    return MeasuredRun(
        point, variant_of(study, run.place), device, overlaps_communication(config), communication
    )


def exposed_share(event: CommunicationEvent | None) -> float | None:
    """Return 1 - (median step without reduction / median step with it), at least 0.

    None where no steps without it were made.
    """
    if event is None or not event["seconds_without"]:
        return None
    without = statistics.median(event["seconds_without"])
    return max(0.0, 1 - without / statistics.median(event["seconds_with"]))

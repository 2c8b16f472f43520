"""Milestone training runs that others have published, with their FLOPs, hours and sources.

Reads `published_runs.csv` beside this module; README.md of this folder says what its columns hold.
"""

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.config.hardware import read_hardware

TABLE = Path(__file__).with_name("published_runs.csv")
COUNT_6ND = "6 N D"
"""FLOPs of N parameters and D tokens, forward and backward, without attention."""
COUNT_MULTIPLY_ADDS = "6 x multiply-adds"
"""FLOPs of a vision model: multiply-adds of a forward pass x 2 x 3 for the backward pass x samples."""
COUNTED_HERE = (COUNT_6ND, COUNT_MULTIPLY_ADDS)
PF_DAY = 1e15 * 86_400
"""FLOPs of a PF-day."""
RECOMPUTED_FLOPS = 8
"""FLOPs of a parameter and token where activations are recomputed: 2 forward, twice, and 4 backward."""


@dataclass(frozen=True)
class PublishedRun:
    """One training run; None or "" where a figure is not published or was not found."""

    name: str
    published: str
    """Year and month, `2023-02`, or the year alone."""
    kind: str
    """language, vision or games."""
    parameters: float | None
    """N; the active ones of a mixture of experts."""
    tokens: float | None
    """D, repeated ones counted each time."""
    samples: float | None
    """Images or pairs that a vision model was trained on, repeated ones counted each time."""
    multiply_adds_per_sample: float | None
    """Multiply-adds of a forward pass of a vision model, for one sample."""
    hardware: str
    """Device, as the source names it."""
    preset: str
    """Its shipped hardware, such as `a100-40gb`; "" where none is shipped."""
    devices: int | None
    hours: float | None
    """Wall time."""
    gpu_hours: float | None
    gpu_hours_from: str
    """printed, devices x hours, or samples / rate x devices."""
    printed_flops: float | None
    printed_flops_from: str
    """Who printed them: the authors, a later paper, or an estimate by others."""
    tflops_per_device: float | None
    """As printed."""
    mfu_percent: float | None
    """As printed."""
    rate_count: str
    """FLOP count behind the two figures above."""
    hours_contain: str
    """What the GPU-hours hold beside steps."""
    note: str
    source: str
    seen: str
    """How the source was seen: opened, excerpt or quoted."""

    @property
    def year(self) -> int:
        return int(self.published[:4])

    @property
    def time(self) -> float:
        """Years, with the middle of the month; the middle of the year where no month is known."""
        month = self.published[5:]
        if not month:
            return self.year + 0.5
        return self.year + (int(month) - 0.5) / 12

    @property
    def flops_count(self) -> str:
        """How `flops` are counted: one of `COUNTED_HERE`, `printed_flops_from`, or ""."""
        if self.parameters is not None and self.tokens is not None:
            return COUNT_6ND
        if self.samples is not None and self.multiply_adds_per_sample is not None:
            return COUNT_MULTIPLY_ADDS
        return self.printed_flops_from

    @property
    def is_counted(self) -> bool:
        """Whether `flops` are counted here, not printed or estimated by others."""
        return self.flops_count in COUNTED_HERE

    @property
    def flops(self) -> float | None:
        """FLOPs of the run: counted here where the counts are known, else those printed."""
        if self.parameters is not None and self.tokens is not None:
            return 6 * self.parameters * self.tokens
        if self.samples is not None and self.multiply_adds_per_sample is not None:
            return 6 * self.multiply_adds_per_sample * self.samples
        return self.printed_flops


@dataclass(frozen=True)
class PlannedPoint:
    """A run that is still to come, to stand among the published ones."""

    name: str
    flops: float
    year: float
    gpu_hours: float | None


@cache
def published_runs() -> tuple[PublishedRun, ...]:
    """Return all runs by year, then FLOPs; runs of unknown FLOPs come last in their year."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        runs = [_run(row) for row in csv.DictReader(file)]
    return tuple(sorted(runs, key=lambda run: (run.year, run.flops or math.inf, run.name)))


def _run(row: dict[str, str]) -> PublishedRun:
    """Return the run of one line of the table."""
    return PublishedRun(
        name=row["name"],
        published=row["published"],
        kind=row["kind"],
        parameters=_number(row["parameters"]),
        tokens=_number(row["tokens"]),
        samples=_number(row["samples"]),
        multiply_adds_per_sample=_number(row["multiply_adds_per_sample"]),
        hardware=row["hardware"],
        preset=row["preset"],
        devices=_count(row["devices"]),
        hours=_number(row["hours"]),
        gpu_hours=_number(row["gpu_hours"]),
        gpu_hours_from=row["gpu_hours_from"],
        printed_flops=_number(row["printed_flops"]),
        printed_flops_from=row["printed_flops_from"],
        tflops_per_device=_number(row["tflops_per_device"]),
        mfu_percent=_number(row["mfu_percent"]),
        rate_count=row["rate_count"],
        hours_contain=row["hours_contain"],
        note=row["note"],
        source=row["source"],
        seen=row["seen"],
    )


def _number(text: str) -> float | None:
    if not text:
        return None
    return float(text)


def _count(text: str) -> int | None:
    if not text:
        return None
    return int(text)


def peak_of_run(run: PublishedRun) -> float | None:
    """Return the peak FLOP/s of a run's device, bf16 or else fp16; None for hardware not shipped."""
    if not run.preset:
        return None
    hardware = read_hardware(run.preset)
    return hardware.peak_flops("bf16") or hardware.peak_flops("fp16")


def implied_mfu(run: PublishedRun, peak: float | None) -> float | None:
    """Return FLOPs / (GPU-hours x 3,600 x `peak`), from FLOPs that are counted here.

    The count is `run.flops_count`. None where FLOPs, hours or peak are not known, and for printed
    FLOPs: estimates are often the hours times an assumed MFU.
    """
    if run.flops is None or run.gpu_hours is None or peak is None or not run.is_counted:
        return None
    return run.flops / (run.gpu_hours * 3600 * peak)


def pf_days(flops: float) -> float:
    """Return FLOPs in PF-days."""
    return flops / PF_DAY


def end_to_end_days(
    parameters: float, tokens: float, devices: int, flops_per_second_per_device: float
) -> float:
    """Return the days of a training with recomputed activations, 8 T P / (n X).

    `flops_per_second_per_device`: X, reached with the recomputation counted.
    Source: Narayanan et al. 2021, arXiv:2104.04473, equation 4.
    """
    flops = RECOMPUTED_FLOPS * tokens * parameters
    return flops / (devices * flops_per_second_per_device) / 86_400

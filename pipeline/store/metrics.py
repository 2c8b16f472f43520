"""metrics.jsonl: every completed step exactly once."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from pipeline.store.files import read_json_lines, write_atomic
from pipeline.store.layout import RunFolder

LAST_BYTES = 1 << 16
"""No record of a step is longer."""


class StepFacts(TypedDict):
    """What the ranks have agreed on about one step."""

    step: int
    """Number of the step, from 1."""
    tokens: int
    """Tokens trained on, this step's included."""
    loss: float | None
    """Mean over the targets of the global batch, in nats; None where it was not finite."""
    grad_norm: float | None
    """Norm of the gradient before clipping; None where it was not finite."""
    learning_rate: float
    data_checksum: str
    """Sum of the checksums of all ranks' batches, modulo 2^64, in hexadecimal."""
    peak_memory_bytes: int
    """Memory of the rank that needed most."""
    loss_scale: float | None
    """Factor of fp16's losses after the step; None in other formats."""
    gradient_noise_scale_tokens: float | None
    """Estimate of the critical batch size; None as long as it makes no sense."""


class StepSpeed(TypedDict):
    """How well one step has used the devices."""

    tokens_per_second: float
    """Of all ranks together."""
    tflops: float
    """10^12 floating-point operations per second and device."""
    mfu: float | None
    """Model FLOPs utilisation, a fraction of the device's peak; None where that is not known."""
    hfu: float | None
    """The same with the recomputed operations; None without activation checkpointing."""


class ValidationFigures(TypedDict, total=False):
    """Held-out losses, in the lines of those steps that a validation has followed."""

    validation_loss: float | None
    """Nats per token over all sources; None where nothing is held out."""
    validation_loss_by_source: dict[str, float]
    """Nats per token."""
    validation_bits_per_byte: float | None
    """Bits per byte of text over all sources; None where nobody knows the bytes."""
    validation_bits_per_byte_by_source: dict[str, float]
    validation_seconds: float


class StepRecord(StepFacts, StepSpeed, ValidationFigures):
    """One line of metrics.jsonl: a completed optimizer step."""

    step_seconds: float
    """Time since the step before was logged."""
    data_wait_seconds: float
    """Part of it that the rank waited for its batch."""


class MetricsFile:
    """Appends step records; opened by one process."""

    def __init__(self, run_dir: Path, completed_steps: int) -> None:
        """Open for steps after `completed_steps`; later lines, and a torn last one, move to a side
        file."""
        run = RunFolder(run_dir)
        _drop_after(run.metrics, run.abandoned_metrics, completed_steps)
        self._file = run.metrics.open("a", encoding="utf-8")

    def write(self, record: StepRecord) -> None:
        """Append one step, visible to readers at once."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Bring what is written to the disk; from any thread."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _drop_after(path: Path, side: Path, completed_steps: int) -> None:
    if not path.exists():
        return
    keep: list[str] = []
    drop: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError):
            step = None  # torn by a crash
        (keep if step is not None and step <= completed_steps else drop).append(line)
    if drop:
        with side.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in drop)
        write_atomic(path, "".join(line + "\n" for line in keep))


def read_metrics(run_dir: Path) -> list[StepRecord]:
    """Return all step records, oldest first."""
    return read_json_lines(RunFolder(run_dir).metrics)


def last_step_record(run_dir: Path) -> StepRecord | None:
    """Return the record of the last completed step, None before the first; training may be writing
    the next one."""
    path = RunFolder(run_dir).metrics
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    return json.loads(lines[-1]) if lines else None


def step_record(run_dir: Path, step: int) -> StepRecord | None:
    """Return the record of a step, None where there is none; of the other lines, which may be
    millions, only the beginning is looked at."""
    path = RunFolder(run_dir).metrics
    begins = f'{{"step": {step},'.encode()
    if not path.exists():
        return None
    with path.open("rb") as file:
        return next((json.loads(line) for line in file if line.startswith(begins)), None)


def sampled_records(run_dir: Path, most: int) -> Iterator[StepRecord]:
    """Yield the records that stand at so many places of the file, spread evenly: it may be long."""
    path = RunFolder(run_dir).metrics
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return
    with path.open("rb") as file:
        for place in range(most):
            file.seek(size * place // most)
            if place:
                file.readline()  # the rest of a line
            try:
                record = json.loads(file.readline())
            except ValueError:  # past the last line, or torn by a crash
                continue
            yield record

"""Reads and writes metrics.jsonl: every completed optimizer step exactly once."""

import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import orjson

from pipeline.store.files import broken_line, read_json_lines, write_atomic
from pipeline.store.layout import RunFolder

LAST_BYTES = 1 << 16
"""Maximum size of one line, with room to spare."""


class StepFacts(TypedDict):
    """Values of one step that are the same on all ranks."""

    step: int
    """Number of the step, from 1."""
    tokens: int
    """Tokens trained on, including this step."""
    loss: float | None
    """Mean over the targets of the global batch, in nats; None where it was not finite."""
    grad_norm: float | None
    """Norm of the gradient before clipping; None where it was not finite."""
    learning_rate: float
    data_checksum: str
    """Sum of the checksums of all ranks' batches, modulo 2^64, in hexadecimal."""
    peak_memory_bytes: int
    """Peak memory of the device of one rank; the largest over all ranks."""
    loss_scale: float | None
    """Loss scale of fp16 after the step; None in other formats."""
    gradient_noise_scale_tokens: float | None
    """Estimate of the critical batch size in tokens; None while there is no valid estimate."""


class StepSpeed(TypedDict):
    """Speed of one step and use of the devices."""

    tokens_per_second: float
    """Tokens that all ranks together trained on in a second."""
    tflops: float
    """10^12 floating-point operations per second and device."""
    mfu: float | None
    """Model FLOPs utilisation, a fraction of the device's peak; None where that is not known."""
    hfu: float | None
    """Hardware FLOPs utilisation, with the recomputed operations; None without activation
    checkpointing."""


class SourceFigures(TypedDict, total=False):
    """Training loss of a step by source; older runs have none.

    Losses are rounded to six digits after the point. Weighted by their targets, their mean is the
    step's loss.
    """

    loss_by_source: dict[str, float]
    """Nats per token; without sources that have no target in the step, or whose loss was not finite."""
    targets_by_source: dict[str, int]
    """Targets in the step; without sources that have none."""
    repeated_loss_by_source: dict[str, float]
    """Nats per token of the targets that the run has seen in an earlier epoch of their source."""
    repeated_targets_by_source: dict[str, int]
    """Number of these targets. Both fields are left out of steps without any."""


class ValidationFigures(TypedDict, total=False):
    """Held-out losses, in the lines of steps that were followed by a validation."""

    validation_loss: float | None
    """Nats per token over all sources; None where nothing is held out or it was not finite."""
    validation_loss_by_source: dict[str, float]
    """Nats per token; without sources whose loss was not finite."""
    validation_bits_per_byte: float | None
    """Bits per byte of text over all sources; None if the bytes of the tokens are unknown."""
    validation_bits_per_byte_by_source: dict[str, float]
    """Bits per byte of text."""
    validation_seconds: float
    """Time that the validation took."""


class SampleFigures(TypedDict, total=False):
    """Fit of a run with `data.small_sample`, in the lines of steps that were followed by a validation.

    All are None where the loss was not finite."""

    sample_loss: float | None
    """Nats per token over the training sequences, with their wrong targets."""
    sample_error: float | None
    """Share of those targets that are not the id with the highest logit."""
    validation_error: float | None
    """The same for the targets of the held-out text."""


class StepRecord(StepFacts, StepSpeed, SourceFigures, ValidationFigures, SampleFigures):
    """One line of metrics.jsonl: a completed optimizer step."""

    step_seconds: float
    """Time since the step before was logged."""
    data_wait_seconds: float
    """Part of `step_seconds` in which the rank waited for its batch."""
    unix_time: NotRequired[float]
    """When the step ended, in seconds of the epoch; older runs have none."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The times in one line of metrics.jsonl, in seconds."""

    step: int
    seconds: float
    """From the end of the step before, or of its validation and save, to the end of this one."""
    data_wait: float
    """Part of `seconds`."""
    validation: float
    """Time of the validation after the step."""
    unix_time: float | None
    """When the step ended, in seconds of the epoch; None in lines of older runs."""


class StepTimesTable:
    """The times of many steps as columns: 40 bytes a step."""

    def __init__(self, steps: Iterable[StepTimes] = ()) -> None:
        self._steps = array("q")
        self._times = array("d")
        for times in steps:
            self.append(times)

    def append(self, times: StepTimes) -> None:
        """Add one step."""
        ended = math.nan
        if times.unix_time is not None:
            ended = times.unix_time
        self._steps.append(times.step)
        self._times.extend((times.seconds, times.data_wait, times.validation, ended))

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[StepTimes]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> StepTimes:
        seconds, data_wait, validation, ended = self._times[4 * place : 4 * place + 4]
        unix_time = None
        if not math.isnan(ended):
            unix_time = ended
        return StepTimes(self._steps[place], seconds, data_wait, validation, unix_time)

    @property
    def steps(self) -> np.ndarray:
        """Numbers of the steps, `(steps,) int64`."""
        return np.frombuffer(self._steps, np.int64)


class MetricsFile:
    """Appends step records; only one process opens it."""

    def __init__(self, run_dir: Path, completed_steps: int) -> None:
        """Open the file for the steps after `completed_steps`.

        Lines of later steps, and a torn last line, move to `RunFolder.abandoned_metrics`.
        """
        run = RunFolder(run_dir)
        self.abandoned_steps = _move_later_lines(
            run.metrics, run.abandoned_metrics, completed_steps
        )
        """Steps whose lines were moved."""
        self._file = run.metrics.open("a", encoding="utf-8")

    def write(self, record: StepRecord) -> None:
        """Append one step; readers see it at once."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Write the file through to the disk; may be called from any thread."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _move_later_lines(path: Path, abandoned: Path, completed_steps: int) -> int:
    """Move the lines of steps after `completed_steps`, and torn lines, to another file.

    Returns the number of steps whose lines were moved.
    """
    if not path.exists():
        return 0
    kept: list[str] = []
    moved: list[str] = []
    abandoned_steps = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        # A crash may have torn a line.
        try:
            is_kept = json.loads(line)["step"] <= completed_steps
        except (ValueError, KeyError):
            moved.append(line)
            continue
        if is_kept:
            kept.append(line)
        else:
            moved.append(line)
            abandoned_steps += 1
    if moved:
        with abandoned.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in moved)
        write_atomic(path, "".join(line + "\n" for line in kept))
    return abandoned_steps


def read_step_times(path: Path) -> StepTimesTable:
    """Return the times of all steps in a file of step records, in the order of its lines.

    Leaves out torn lines. Empty where there is no such file.
    """
    times = StepTimesTable()
    if not path.exists():
        return times
    with path.open("rb") as file:
        for line in file:
            # A run may have millions of lines, of which orjson parses the most per second.
            try:
                record: StepRecord = orjson.loads(line)
                step = record["step"]
            except (ValueError, KeyError, TypeError):
                continue
            times.append(
                StepTimes(
                    step,
                    record.get("step_seconds", 0.0),
                    record.get("data_wait_seconds", 0.0),
                    record.get("validation_seconds", 0.0),
                    record.get("unix_time"),
                )
            )
    return times


def read_metrics(run_dir: Path) -> list[StepRecord]:
    """Return all step records, oldest first; without a last line that training is writing now."""
    return read_json_lines(RunFolder(run_dir).metrics, grows=True)


def iterate_metrics(run_dir: Path) -> Iterator[StepRecord]:
    """Yield all step records, oldest first, as `read_metrics` returns them, one at a time.

    Raises DataError naming a broken line.
    """
    path = RunFolder(run_dir).metrics
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                # The last line may be one that training is writing now, or that a crash has torn.
                if not line.endswith(b"\n"):
                    return
                raise broken_line(f"{path}, line {number}") from None


def last_step_record(run_dir: Path) -> StepRecord | None:
    """Return the record of the last completed step, None before the first.

    The end of the file may be a line that training is writing now, or one that a crash has torn.
    """
    path = RunFolder(run_dir).metrics
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        lines = file.read().splitlines()
    records = (_parsed(line) for line in reversed(lines))
    return next((record for record in records if record is not None), None)


def step_record(run_dir: Path, step: int) -> StepRecord | None:
    """Return the record of a step, None where there is none.

    Parses only the line of that step: there may be millions of others.
    """
    path = RunFolder(run_dir).metrics
    beginning = f'{{"step": {step},'.encode()
    if not path.exists():
        return None
    with path.open("rb") as file:
        records = (_parsed(line) for line in file if line.startswith(beginning))
        return next((record for record in records if record is not None), None)


def _parsed(line: bytes) -> StepRecord | None:
    """Return the record in a line, None where the line is torn."""
    try:
        record: StepRecord = json.loads(line)
        record["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return record


def sampled_records(run_dir: Path, limit: int) -> Iterator[StepRecord]:
    """Yield at most `limit` records, spread evenly over the file, which may be long."""
    path = RunFolder(run_dir).metrics
    if not path.exists():
        return
    size = path.stat().st_size
    if size == 0:
        return
    with path.open("rb") as file:
        for place in range(limit):
            file.seek(size * place // limit)
            # Within a line, the next one is taken.
            if place > 0:
                file.readline()
            # Past the last line there is nothing; a crash may have torn a line.
            try:
                record: StepRecord = json.loads(file.readline())
            except ValueError:
                continue
            yield record

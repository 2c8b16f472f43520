"""One run as a comparison of runs needs it: losses with what they took, settings, totals.

Reads the run folder (metrics, events, recorded settings) and the manifests of its data.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.reporting.many_runs.recorded_facts import recorded_facts
from pipeline.reporting.run_account import RunAccount, account_of_run
from pipeline.sampling.held_out import data_are_as_read, held_out_text, held_out_tokens
from pipeline.store.events import BRANCH, BranchEvent, StartEvent, read_events
from pipeline.store.files import read_json
from pipeline.store.layout import run_folder
from pipeline.store.manifests.recorded_settings import SettingValue
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.store.recorded_run import recorded_config

TOKENIZER_RECORD = "output of tokenizer"
"""Key of the settings that a run records at its start: the content of its tokenizer."""


@dataclass(frozen=True)
class StepPoint:
    """A step of a run: its losses, and what the run had taken by then."""

    tokens: int
    flops: float
    """Model FLOPs, 6 N + 6 L d T a token, of the run's own steps."""
    seconds: float | None
    """From the first launch of the ranks; None where no event tells it."""
    loss: float | None
    """Training loss, nats a token."""
    validation_loss: float | None
    """Nats a token; None at steps without validation."""
    bits_per_byte: float | None
    """The same in bits per byte of text."""


@dataclass(frozen=True)
class ComparedRun:
    """A run among others."""

    name: str
    path: Path
    config: RunConfig
    points: Sequence[StepPoint]
    """All steps, oldest first; never empty."""
    tokenizer: str
    """Identifies the tokenizer; empty where nothing tells it."""
    held_out: str
    """Identifies the tokens that are validated; empty where nothing tells them."""
    held_out_text: str
    """Identifies the documents that these tokens are of, empty likewise."""
    steps: int
    parameters: int | None
    tokens_per_second: float
    """Median over the steps."""
    account: RunAccount | None
    branches_off: bool
    """Whether it began from another run's checkpoint: its time and FLOPs are its own alone."""
    are_data_as_read: bool
    """Whether the data folder still holds what the run has read; else only its record tells that."""
    facts: Mapping[str, SettingValue]
    """What it recorded of what it read and ran with, beside its settings."""

    @property
    def last(self) -> StepPoint:
        """The last step."""
        return self.points[-1]

    @property
    def last_validated(self) -> StepPoint | None:
        """The last step with a validation loss; None without one."""
        validated = [point for point in self.points if point.validation_loss is not None]
        if not validated:
            return None
        return validated[-1]


def read_compared_run(path: Path) -> ComparedRun:
    """Read a run by its folder or run file.

    Raises DataError where no run has begun there, or it has made no step.
    """
    # What has been recorded.
    config = recorded_config(path, [])
    folder = run_folder(config)
    records = read_metrics(folder.path)
    if not records:
        raise DataError(f"{folder.path}: the run has made no step yet; compare it later")
    starts: list[StartEvent] = read_events(folder.path, "start")
    branches: list[BranchEvent] = read_events(folder.path, BRANCH)
    recorded: Mapping[str, Any] = read_json(folder.settings) or {}
    account = account_of_run(folder.path, with_moments=True)

    # Its curves and totals.
    seconds: dict[int, float] = {}
    if account is not None:
        seconds = {moment.step: moment.seconds for moment in account.moments}
    details: Mapping[str, Any] = starts[-1] if starts else {}
    return ComparedRun(
        name=folder.name,
        path=folder.path,
        config=config,
        points=step_points(records, starts, seconds),
        tokenizer=str(recorded.get(TOKENIZER_RECORD, "")),
        held_out=held_out_tokens(config),
        held_out_text=held_out_text(config),
        steps=records[-1]["step"],
        parameters=details.get("parameters"),
        tokens_per_second=statistics.median(record["tokens_per_second"] for record in records),
        account=account,
        branches_off=bool(branches),
        are_data_as_read=data_are_as_read(config),
        facts=recorded_facts(folder, recorded, starts),
    )


def step_points(
    records: Sequence[StepRecord], starts: Sequence[StartEvent], seconds: Mapping[int, float]
) -> list[StepPoint]:
    """Return the steps of a run with what it had taken by each; `seconds`: step -> time."""
    points: list[StepPoint] = []
    flops = 0.0
    tokens_before = records[0]["tokens"] - _tokens_of_first(records)
    for record in records:
        tokens = record["tokens"] - tokens_before
        tokens_before = record["tokens"]
        # The record has the FLOP/s of each device, which the loop computed from the same FLOPs.
        per_token = record["tflops"] * 1e12 / record["tokens_per_second"]
        flops += tokens * per_token * _ranks_at(record["step"], starts)
        points.append(
            StepPoint(
                tokens=record["tokens"],
                flops=flops,
                seconds=seconds.get(record["step"]),
                loss=record["loss"],
                validation_loss=record.get("validation_loss"),
                bits_per_byte=record.get("validation_bits_per_byte"),
            )
        )
    return points


def _tokens_of_first(records: Sequence[StepRecord]) -> int:
    """Return the tokens of the first step: those of a branch follow its trunk's."""
    first = records[0]
    if first["step"] == 1:
        return first["tokens"]
    return round(first["tokens_per_second"] * first["step_seconds"])


def _ranks_at(step: int, starts: Sequence[StartEvent]) -> int:
    """Return the number of ranks that made a step that was kept: those of the last start before it."""
    before = [start["ranks"] for start in starts if start["step"] < step]
    if not before:
        return 1
    return before[-1]


def named_apart(runs: Sequence[ComparedRun], typed: Sequence[str]) -> list[str]:
    """Return a name for each run; where two have one name, what the user typed tells them apart."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        return list(typed)
    return names

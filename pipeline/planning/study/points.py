"""The points of a study: what each run has reached, read from its folder, as a table.

A run that must not count is in the table all the same, with the reason (`left_out`).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from pipeline.logs import counted_noun
from pipeline.planning.study.axes import AxisValue
from pipeline.planning.study.study_run import StudyRun
from pipeline.sampling.held_out import held_out_text, held_out_tokens
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import DataOutlook
from pipeline.store.events import ROLLBACK, RollbackEvent, read_events
from pipeline.store.files import read_json, write_atomic
from pipeline.store.layout import RunFolder, data_folder
from pipeline.store.metrics import StepRecord, last_step_record
from pipeline.store.studies.study_folder import StudyFolder

ROLLED_BACK = "rolled back"
"""How `left_out` begins for a run that went back to an earlier checkpoint and skipped samples."""
NOT_FINITE = "its validation loss is not finite"


@dataclass(frozen=True)
class StudyPoint:
    """One line of `points.csv`: a run that has begun."""

    name: str
    size: str
    budget: str
    seed: int
    parameters_total: int
    parameters_non_embedding: int
    parameters_multiplying: int
    """Those that a token goes through."""
    tokens: int
    """D of the whole training."""
    flops: float
    """C of the whole training, 6 N + 12 L d T a token."""
    loss: float | None
    """Validation loss at the end, in nats a token."""
    bits_per_byte: float | None
    """The same loss in bits per byte of text."""
    steps: int
    epochs: float | None
    """How often the source that is repeated most is read."""
    batch_tokens: int
    peak_learning_rate: float
    """With its scaling by the batch; muP's factors are not in it."""
    tokenizer: str
    """Fingerprint."""
    held_out: str
    """Fingerprint of the tokens that the loss is of."""
    held_out_text: str
    """Fingerprint of the documents that they are of: the same under two tokenizers."""
    run: str
    """Its run folder, below the study's."""
    left_out: str
    """Why fits leave it out, empty for a run that counts."""
    place: Mapping[str, AxisValue] = field(default_factory=dict)
    """Axis -> value. A column each, but for axes that have one above."""

    @property
    def has_diverged(self) -> bool:
        """Whether the training was unstable: it rolled back, or ended with a loss that is not finite."""
        return self.left_out.startswith((ROLLED_BACK, NOT_FINITE))


COLUMNS = tuple(each.name for each in fields(StudyPoint) if each.name != "place")
"""Columns of `points.csv` that every study has; those of its axes follow."""


def points_of_study(folder: StudyFolder, runs: Sequence[StudyRun]) -> list[StudyPoint]:
    """Return the points of all runs that have begun, in the order of the runs."""
    points: list[StudyPoint] = []
    for run in runs:
        record = last_step_record(run.config.paths.run_dir)
        if record is not None:
            points.append(_point(folder, runs, run, record))
    return points


def write_points(folder: StudyFolder, points: Sequence[StudyPoint]) -> None:
    """Write the table of points."""
    text = io.StringIO()
    axes = list(dict.fromkeys(axis for point in points for axis in point.place))
    own_axes = [axis for axis in axes if axis not in COLUMNS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *own_axes])
    for point in points:
        cells = [_cell(getattr(point, name)) for name in COLUMNS]
        writer.writerow([*cells, *(_cell(point.place.get(axis)) for axis in own_axes)])
    write_atomic(folder.points, text.getvalue())


def _cell(value: float | str | None) -> str:
    """Return a value as text that reads back as the same value."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return str(value)


def _point(
    folder: StudyFolder, runs: Sequence[StudyRun], run: StudyRun, record: StepRecord
) -> StudyPoint:
    # Its losses, once it has ended.
    is_at_end = record["step"] >= run.steps
    loss = record.get("validation_loss") if is_at_end else None

    # The line of the table.
    facts = run.facts
    config = run.config
    return StudyPoint(
        name=run.name,
        size=run.size,
        budget=run.budget.label,
        seed=run.seed,
        parameters_total=facts.parameters,
        parameters_non_embedding=facts.parameters - facts.embedding_parameters,
        parameters_multiplying=facts.active_parameters,
        tokens=run.tokens,
        flops=run.flops,
        loss=loss,
        bits_per_byte=record.get("validation_bits_per_byte") if is_at_end else None,
        steps=run.steps,
        epochs=epochs_of_run(config.paths.run_dir),
        batch_tokens=config.batch.global_batch_tokens,
        peak_learning_rate=config.optimizer.peak_learning_rate * config.learning_rate_factor,
        tokenizer=_tokenizer(run),
        held_out=held_out_tokens(config),
        held_out_text=held_out_text(config),
        run=str(config.paths.run_dir.relative_to(folder.path)),
        left_out=_why_left_out(runs, run, record, loss),
        place=run.place.values,
    )


def epochs_of_run(run_dir: Path) -> float | None:
    """Return how often a run repeats the source that it repeats most; None where nothing tells."""
    outlook: DataOutlook | None = read_json(RunFolder(run_dir).data_outlook)
    if outlook is None:
        return None
    return max(source["epochs"] for source in outlook["sources"].values())


def _tokenizer(run: StudyRun) -> str:
    manifest = read_manifest(data_folder(run.config).tokenizer_manifest)
    if manifest is None:
        return ""
    return manifest["fingerprint"]


def _why_left_out(
    runs: Sequence[StudyRun], run: StudyRun, record: StepRecord, loss: float | None
) -> str:
    """Return why a run does not count; empty where it does."""
    # A rollback skips samples: the run is another one from there on, and so are its branches.
    rollbacks: list[RollbackEvent] = read_events(run.config.paths.run_dir, ROLLBACK)
    if run.trunk is not None:
        trunk = next(other for other in runs if other.name == run.trunk)
        begin = run.config.step_plan.first_position(run.first_step)
        rollbacks += [
            event
            for event in read_events(trunk.config.paths.run_dir, ROLLBACK)
            if event["samples"][0] < begin
        ]
    if rollbacks:
        return f"{ROLLED_BACK} {counted_noun(len(rollbacks), 'time')}"
    if record["step"] < run.steps:
        return f"at step {record['step']:,} of {run.steps:,}"
    if loss is not None:
        return ""
    if "validation_loss" in record:
        return NOT_FINITE
    return "nothing is held out, or it was not validated at its end"

"""Training against held-out loss by source, from the lines of metrics.jsonl. Pure arithmetic.

Between two validations the training loss of a source is the mean over all its targets there. It is that
of models on their way, half an interval older on average: so it stands in the middle of the interval,
and is compared with the held-out loss between the two validations around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.store.metrics import StepRecord


@dataclass(frozen=True)
class LossPoint:
    """A loss of a source, in nats per token, with the tokens that the run had been trained on."""

    tokens: float
    loss: float


@dataclass(frozen=True)
class SourceCurves:
    """The losses of one source over a run."""

    name: str
    training: Sequence[LossPoint]
    """All training text, an interval a point."""
    held_out: Sequence[LossPoint]
    """Each validation."""
    unseen: Sequence[LossPoint]
    """Text that the run reads for the first time; only where it also repeats text of the source."""
    repeated: Sequence[LossPoint]
    """Text that the run has read in an earlier epoch."""

    @property
    def gaps(self) -> list[LossPoint]:
        """Held-out minus training loss at the middle of each interval between two validations."""
        gaps: list[LossPoint] = []
        for point in self.training:
            held_out = _between(self.held_out, point.tokens)
            if held_out is not None:
                gaps.append(LossPoint(point.tokens, held_out - point.loss))
        return gaps


@dataclass(frozen=True)
class _Interval:
    """The steps from one validation to the next."""

    records: Sequence[StepRecord]
    began: int
    """Tokens before the first of them."""

    @property
    def middle(self) -> float:
        return (self.began + self.records[-1]["tokens"]) / 2


def curves_by_source(records: Sequence[StepRecord]) -> list[SourceCurves]:
    """Return the curves of all sources of which the training loss is recorded, in their order.

    Empty for runs of older versions, which recorded none. `records`: all steps, oldest first.
    """
    names = dict.fromkeys(
        name for record in records for name in record.get("targets_by_source", {})
    )
    intervals = _intervals(records)
    return [_curves(name, records, intervals) for name in names]


def _intervals(records: Sequence[StepRecord]) -> list[_Interval]:
    """Divide the steps at those with a validation.

    A last interval of less than half the steps of the one before is a part of that one.
    """
    # A branch's first step follows its trunk's.
    intervals: list[_Interval] = []
    began = 0
    if records[0]["step"] > 1:
        began = records[0]["tokens"]
    part: list[StepRecord] = []
    for record in records:
        part.append(record)
        if "validation_loss" in record:
            intervals.append(_Interval(part, began))
            began = record["tokens"]
            part = []
    if part:
        intervals.append(_Interval(part, began))

    # A short rest at the end would be a mean of a few rows only.
    if len(intervals) > 1 and 2 * len(intervals[-1].records) < len(intervals[-2].records):
        rest = intervals.pop()
        before = intervals.pop()
        intervals.append(_Interval([*before.records, *rest.records], before.began))
    return intervals


def _curves(
    name: str, records: Sequence[StepRecord], intervals: Sequence[_Interval]
) -> SourceCurves:
    training: list[LossPoint] = []
    unseen: list[LossPoint] = []
    repeated: list[LossPoint] = []
    for interval in intervals:
        nats, targets = _sums(name, interval.records)
        repeated_nats, repeated_targets = _repeated_sums(name, interval.records)
        _add_mean(training, interval, nats, targets)
        _add_mean(unseen, interval, nats - repeated_nats, targets - repeated_targets)
        _add_mean(repeated, interval, repeated_nats, repeated_targets)
    held_out: list[LossPoint] = []
    for record in records:
        loss = record.get("validation_loss_by_source", {}).get(name)
        if loss is not None:
            held_out.append(LossPoint(record["tokens"], loss))
    if not repeated:
        unseen = []
    return SourceCurves(name, training, held_out, unseen, repeated)


def _add_mean(points: list[LossPoint], interval: _Interval, nats: float, targets: int) -> None:
    if targets:
        points.append(LossPoint(interval.middle, nats / targets))


def _sums(name: str, records: Sequence[StepRecord]) -> tuple[float, int]:
    """Return nats and targets of a source over some steps, without steps whose loss was not finite."""
    nats = 0.0
    targets = 0
    for record in records:
        loss = record.get("loss_by_source", {}).get(name)
        if loss is not None:
            count = record.get("targets_by_source", {})[name]
            nats += loss * count
            targets += count
    return nats, targets


def _repeated_sums(name: str, records: Sequence[StepRecord]) -> tuple[float, int]:
    """Return the same of the text that the run repeats."""
    nats = 0.0
    targets = 0
    for record in records:
        loss = record.get("repeated_loss_by_source", {}).get(name)
        if loss is not None and name in record.get("loss_by_source", {}):
            count = record.get("repeated_targets_by_source", {})[name]
            nats += loss * count
            targets += count
    return nats, targets


def _between(points: Sequence[LossPoint], tokens: float) -> float | None:
    """Return the loss at a number of tokens, on the straight line between its neighbours."""
    for before, after in pairwise(points):
        if before.tokens <= tokens <= after.tokens:
            share = (tokens - before.tokens) / (after.tokens - before.tokens)
            return before.loss + share * (after.loss - before.loss)
    return None

"""Training against held-out loss by source, from the lines of metrics.jsonl. Pure arithmetic.

Between two validations the training loss of a source is the mean over all its targets there. It is that
of models on their way, half an interval older on average: so it stands in the middle of the interval,
and is compared with the held-out loss between the two validations around it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass
class _Sums:
    """Nats and targets of one source over some steps, without steps whose loss was not finite."""

    nats: float = 0.0
    targets: int = 0
    repeated_nats: float = 0.0
    """Those of the text that the run repeats."""
    repeated_targets: int = 0

    def add(self, name: str, record: StepRecord) -> None:
        """Add one step."""
        loss = record.get("loss_by_source", {}).get(name)
        if loss is None:
            return
        count = record.get("targets_by_source", {})[name]
        self.nats += loss * count
        self.targets += count
        repeated = record.get("repeated_loss_by_source", {}).get(name)
        if repeated is not None:
            count = record.get("repeated_targets_by_source", {})[name]
            self.repeated_nats += repeated * count
            self.repeated_targets += count


@dataclass
class _Interval:
    """The steps from one validation to the next."""

    began: int
    """Tokens before the first of them."""
    ended: int = 0
    """Tokens after the last of them."""
    steps: int = 0
    sums: dict[str, _Sums] = field(default_factory=dict[str, _Sums])

    @property
    def middle(self) -> float:
        return (self.began + self.ended) / 2

    def add(self, record: StepRecord) -> None:
        """Add one step."""
        self.ended = record["tokens"]
        self.steps += 1
        for name in record.get("loss_by_source", {}):
            self.sums.setdefault(name, _Sums()).add(name, record)

    def copy(self) -> "_Interval":
        """Return an interval of the same steps, to which others can be added."""
        sums = {name: replace(sums) for name, sums in self.sums.items()}
        return replace(self, sums=sums)


class TrainingSums:
    """Adds up the losses of all steps by source and interval, one step after another."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._intervals: list[_Interval] = []
        self._part: _Interval | None = None
        # The last complete interval with all steps since, and the one before it with its own.
        self._extended: _Interval | None = None
        self._joined: _Interval | None = None
        self._held_out: dict[str, list[LossPoint]] = {}

    def add(self, record: StepRecord) -> None:
        """Add the next step."""
        self._names |= dict.fromkeys(record.get("targets_by_source", {}))
        if self._part is None:
            self._part = _Interval(self._tokens_before(record))
        self._part.add(record)
        if self._extended is not None:
            self._extended.add(record)
        for name, loss in record.get("validation_loss_by_source", {}).items():
            self._held_out.setdefault(name, []).append(LossPoint(record["tokens"], loss))
        if "validation_loss" in record:
            self._intervals.append(self._part)
            self._joined = self._extended
            self._extended = self._part.copy()
            self._part = None

    def _tokens_before(self, record: StepRecord) -> int:
        """Return the tokens before the first step of an interval."""
        if self._intervals:
            return self._intervals[-1].ended
        # A branch's first step follows its trunk's.
        if record["step"] > 1:
            return record["tokens"]
        return 0

    def curves(self) -> list[SourceCurves]:
        """Return the curves of all sources of which the training loss is recorded, in their order.

        A last interval of less than half the steps of the one before is a part of that one: it
        would be a mean of a few rows only.
        """
        intervals = list(self._intervals)
        joined = self._joined
        if self._part is not None:
            intervals.append(self._part)
            joined = self._extended
        if joined is not None and 2 * intervals[-1].steps < intervals[-2].steps:
            intervals[-2:] = [joined]
        return [self._curves(name, intervals) for name in self._names]

    def _curves(self, name: str, intervals: Sequence[_Interval]) -> SourceCurves:
        training: list[LossPoint] = []
        unseen: list[LossPoint] = []
        repeated: list[LossPoint] = []
        for interval in intervals:
            sums = interval.sums.get(name, _Sums())
            nats = sums.nats - sums.repeated_nats
            targets = sums.targets - sums.repeated_targets
            _add_mean(training, interval, sums.nats, sums.targets)
            _add_mean(unseen, interval, nats, targets)
            _add_mean(repeated, interval, sums.repeated_nats, sums.repeated_targets)
        if not repeated:
            unseen = []
        return SourceCurves(name, training, self._held_out.get(name, []), unseen, repeated)


def curves_by_source(records: Iterable[StepRecord]) -> list[SourceCurves]:
    """Return the curves of all sources of which the training loss is recorded, in their order.

    Empty for runs of older versions, which recorded none. `records`: all steps, oldest first.
    """
    sums = TrainingSums()
    for record in records:
        sums.add(record)
    return sums.curves()


def _add_mean(points: list[LossPoint], interval: _Interval, nats: float, targets: int) -> None:
    if targets:
        points.append(LossPoint(interval.middle, nats / targets))


def _between(points: Sequence[LossPoint], tokens: float) -> float | None:
    """Return the loss at a number of tokens, on the straight line between its neighbours."""
    for before, after in pairwise(points):
        if before.tokens <= tokens <= after.tokens:
            share = (tokens - before.tokens) / (after.tokens - before.tokens)
            return before.loss + share * (after.loss - before.loss)
    return None

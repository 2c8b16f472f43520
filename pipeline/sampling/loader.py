"""Batches for one rank, read in the background.

The global batch of step s (from 1) is the run's positions [(s - 1) x batch, s x batch), or as
`batch.ramp` sets it, in the same global order on any number of data ranks; micro-batch a of data
rank r holds `micro` rows of the global batch, from row (a x data ranks + r) x micro on.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

from pipeline.config.groups import RankGroups
from pipeline.config.step_plan import StepPlan
from pipeline.sampling.batches import Batch, RowShape, TokenSource, cut_rows, read_batch
from pipeline.sampling.order import Order, Places
from pipeline.sampling.readers import Readers

T = TypeVar("T")
PREFETCHED_STEPS = 4
READING_THREADS = 16
"""Reads that a slow file system answers at the same time. The threads start only when reads are slow."""
ROWS_AT_ONCE = 64
"""Rows that a thread reads together, to share numpy's cost per call, and then divides into
micro-batches. Where reads are slow a thread reads one micro-batch, so that more reads wait at the
same time."""
LOCATED_AT_ONCE = 2048
"""Samples whose places are computed together, which makes numpy's cost per call negligible."""


@dataclass(frozen=True)
class RankShare:
    """One data rank's part of every global batch, in sequences."""

    groups: RankGroups
    micro_batch: int
    plan: StepPlan

    def accumulation(self, step: int) -> int:
        """Return the number of micro-batches of this rank in a step."""
        return self.plan.accumulation(step, self.micro_batch, self.groups.sizes)

    def positions(self, step: int, micro: int) -> range:
        """Return the run's positions of one micro-batch (from 0) of a step (from 1)."""
        micro_batches_before = micro * self.groups.sizes.data + self.groups.data_rank
        first = self.plan.first_position(step) + micro_batches_before * self.micro_batch
        return range(first, first + self.micro_batch)


@dataclass(frozen=True)
class TrainingData:
    """The training data of a run: its order, its sources and the shape of its rows."""

    order: Order
    sources: Sequence[TokenSource]
    """The sources, in the order of `order.names`."""
    shape: RowShape

    def read(self, positions: Sequence[int] | np.ndarray) -> Batch:
        """Read the samples at positions `(n,)` of the run into one batch."""
        return read_batch(self.sources, self.order.locate(np.asarray(positions)), self.shape)


class Loader(Generic[T]):
    """Iterates over steps, each a list of this rank's micro-batches; threads read ahead.

    Use as a context manager, which ends the threads. The iteration raises what a thread raises.
    """

    def __init__(
        self, data: TrainingData, share: RankShare, steps: range, convert: Callable[[Batch], T]
    ) -> None:
        """Start no thread yet. The reading threads call `convert` for each micro-batch."""
        self._data = data
        self._share = share
        self._steps = steps
        self._convert = convert
        self._queue: queue.Queue[list[Future[list[T]]] | BaseException | None] = queue.Queue(
            PREFETCHED_STEPS
        )
        self._stop = threading.Event()
        self._readers = Readers(READING_THREADS)
        self._planner = threading.Thread(target=self._plan_ahead, daemon=True)

    @property
    def data(self) -> TrainingData:
        """The data that is read."""
        return self._data

    def __enter__(self) -> "Loader[T]":
        self._planner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._planner.join()
        self._readers.close()

    def __iter__(self) -> Iterator[list[T]]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            # Wait for the last task first: so this thread wakes once a step, not once a task.
            item[-1].exception()
            yield [micro_batch for future in item for micro_batch in future.result()]

    def _plan_ahead(self) -> None:
        """Submit the reads of all steps in order, at most PREFETCHED_STEPS ahead."""
        try:
            ahead = self._steps
            while ahead:
                rows = self._share.accumulation(ahead[0]) * self._share.micro_batch
                together = max(1, LOCATED_AT_ONCE // rows)
                for step, places in self._located(ahead[:together]):
                    length = self._share.plan.sequence_length(step)
                    reads = [
                        self._readers.submit(self._read, part, length)
                        for part in self._tasks(places)
                    ]
                    if not self._put(reads):
                        return
                ahead = ahead[together:]
            self._put(None)
        except BaseException as error:  # handed to the iterating thread
            self._put(error)

    def _located(self, steps: range) -> Iterator[tuple[int, Places]]:
        """Yield each step with the places of this rank's samples, located in one call."""
        share = self._share
        first = 0
        positions = [
            share.positions(step, micro)
            for step in steps
            for micro in range(share.accumulation(step))
        ]
        places = self._data.order.locate(
            np.concatenate([np.arange(p.start, p.stop) for p in positions])
        )
        for step in steps:
            end = first + share.accumulation(step) * share.micro_batch
            yield step, places.take(slice(first, end))
            first = end

    def _tasks(self, places: Places) -> Iterator[Places]:
        """Divide a step's places into the parts that a thread reads at once: whole micro-batches."""
        micro = self._share.micro_batch
        rows = micro
        if self._readers.need_not_wait:
            rows = max(1, ROWS_AT_ONCE // micro) * micro
        return (
            places.take(slice(first, first + rows)) for first in range(0, len(places.row), rows)
        )

    def _read(self, places: Places, length: int) -> list[T]:
        """Read whole micro-batches, cut into rows of `length` and converted."""
        batch = read_batch(self._data.sources, places, self._data.shape)
        micro = self._share.micro_batch
        parts = (
            batch.take(slice(first, first + micro)) for first in range(0, len(places.row), micro)
        )
        return [self._convert(cut_rows(part, length)) for part in parts]

    def _put(self, item: list[Future[list[T]]] | BaseException | None) -> bool:
        """Hand an item to the iterating thread; False where the iteration has ended."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

"""Batches for one rank, read in the background.

The global batch of step s (from 1) is samples [(s - 1) x batch, s x batch), in the same global order on any number of
ranks; rank r's micro-batch a holds the rows from (a x ranks + r) x micro of it.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

from pipeline.sampling.order import Order, read_sequence
from pipeline.sampling.stream import TokenStream

T = TypeVar("T")
PREFETCHED_STEPS = 4


@dataclass(frozen=True)
class Share:
    """One rank's part of every global batch, in sequences."""

    rank: int
    ranks: int
    micro_batch: int
    global_batch: int

    @property
    def accumulation(self) -> int:
        """Micro-batches per step."""
        return self.global_batch // (self.ranks * self.micro_batch)

    def samples(self, step: int, micro: int) -> range:
        """Return the sample numbers of one micro-batch of a step (steps count from 1, micro-batches from 0)."""
        first = (step - 1) * self.global_batch + (micro * self.ranks + self.rank) * self.micro_batch
        return range(first, first + self.micro_batch)


def read_batch(order: Order, streams: Mapping[str, TokenStream], samples: range) -> np.ndarray:
    """Return the samples' tokens, `(samples, sequence_length + 1) int64`."""
    places = [order.locate(i) for i in samples]
    return np.stack([read_sequence(streams, p.source, p.sequence, order.sequence_length) for p in places])


class Loader(Generic[T]):
    """Iterate over steps, each a list of this rank's micro-batches; a thread reads ahead.

    Use as a context manager, which ends the thread. What goes wrong in the thread is raised by the iteration.
    """

    def __init__(
        self,
        order: Order,
        streams: Mapping[str, TokenStream],
        share: Share,
        steps: range,
        convert: Callable[[np.ndarray], T],
    ) -> None:
        self._order, self._streams, self._share, self._steps, self._convert = order, streams, share, steps, convert
        self._queue: queue.Queue[list[T] | BaseException | None] = queue.Queue(PREFETCHED_STEPS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_ahead, daemon=True)

    def __enter__(self) -> "Loader[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[list[T]]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def _read_ahead(self) -> None:
        try:
            for step in self._steps:
                micro_batches = []
                for micro in range(self._share.accumulation):
                    ids = read_batch(self._order, self._streams, self._share.samples(step, micro))
                    micro_batches.append(self._convert(ids))
                if not self._put(micro_batches):
                    return
            self._put(None)
        except BaseException as error:  # handed to the iterating thread
            self._put(error)

    def _put(self, item: list[T] | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

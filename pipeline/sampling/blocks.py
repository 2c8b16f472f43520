"""Blocks of neighbouring rows, read once and cached.

For `data.shuffle: block`, whose order stays within a window of blocks at a time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from pipeline.sampling.rows import Rows
from pipeline.sampling.shuffle import WINDOW_BLOCKS
from pipeline.sampling.stream import TokenStream

KEPT_BLOCKS = 2 * WINDOW_BLOCKS
"""Blocks cached for each source: the window being consumed, and the window being read ahead."""

BlockOfIds = tuple[int, np.ndarray]
"""The block's first token in the stream, and the block's ids."""


class BlockReader:
    """Reads each block of a source once; threads that need the same block wait for one read."""

    def __init__(self, stream: TokenStream, rows: Rows) -> None:
        self._stream = stream
        self._rows = rows
        self._kept: OrderedDict[int, Future[BlockOfIds]] = OrderedDict()
        self._lock = threading.Lock()

    def read_pieces(self, rows: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the ids of pieces `[start, start + count)`, one after another.

        `rows`, `starts`, `counts`: `(pieces,) int64`; each piece lies in the block of its row.
        """
        out = np.empty(int(counts.sum()), self._stream.dtype)
        blocks = (rows // self._rows.block).tolist()
        held = {block: self._block(block) for block in dict.fromkeys(blocks)}
        filled = 0
        for block, start, count in zip(blocks, starts.tolist(), counts.tolist(), strict=True):
            first, ids = held[block]
            out[filled : filled + count] = ids[start - first : start - first + count]
            filled += count
        return out

    def _block(self, block: int) -> BlockOfIds:
        """Return a block, read by whichever thread asks for it first."""
        with self._lock:
            future = self._kept.get(block)
            is_first = future is None
            if future is None:
                future = self._kept[block] = Future()
                if len(self._kept) > KEPT_BLOCKS:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(block)
        if is_first:
            _settle(future, lambda: self._read(block))
        return future.result()

    def _read(self, block: int) -> BlockOfIds:
        rows = np.arange(
            block * self._rows.block, min((block + 1) * self._rows.block, self._rows.count)
        )
        pieces = self._rows.pieces(rows)
        first = int(pieces.start.min())
        end = int((pieces.start + pieces.length).max()) + 1
        return first, self._stream.read_pieces(np.array([first]), np.array([end - first]))


def _settle(future: Future[BlockOfIds], work: Callable[[], BlockOfIds]) -> None:
    """Give a future the result of `work`, or what it raises."""
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)

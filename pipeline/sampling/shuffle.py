"""Shuffles of the rows of one source within an epoch: permutations computed both ways.

`full` permutes all rows. `block` permutes blocks of neighbouring rows, takes a window of blocks at
a time, and permutes the rows of each window: a reader in this order reads each block once, and
holds one window in memory.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.sampling.permutation import Key, derive_key, invert, permute

WINDOW_BLOCKS = 16
"""Blocks whose rows are mixed with each other: 16 MB per source at 1 MB per block."""


class Shuffle(Protocol):
    """A permutation of the rows of one source."""

    def rows(self, positions: np.ndarray, key: Key) -> np.ndarray:
        """Return the rows `(n,) int64` at positions `(n,)` of an epoch."""
        ...

    def positions(self, rows: np.ndarray, key: Key) -> np.ndarray:
        """Return the positions `(n,) int64` of rows `(n,)` in an epoch."""
        ...


@dataclass(frozen=True)
class FullShuffle:
    """A permutation in which any row may come anywhere."""

    size: int
    """Number of rows."""

    def rows(self, positions: np.ndarray, key: Key) -> np.ndarray:
        return permute(positions, self.size, key)

    def positions(self, rows: np.ndarray, key: Key) -> np.ndarray:
        return invert(rows, self.size, key)


@dataclass(frozen=True)
class BlockShuffle:
    """A permutation in which the rows of a window of blocks come together.

    The last block of the source may be shorter than the others; it may come anywhere in the order.
    """

    size: int
    """Number of rows."""
    block: int
    """Number of rows in a block."""

    @property
    def blocks(self) -> int:
        """Number of blocks, the shorter last one included."""
        return -(-self.size // self.block)

    @property
    def _missing(self) -> int:
        """How many rows fewer the last block has than the others."""
        return self.blocks * self.block - self.size

    def rows(self, positions: np.ndarray, key: Key) -> np.ndarray:
        positions = np.asarray(positions, np.int64)
        out = np.empty_like(positions)
        window_rows = WINDOW_BLOCKS * self.block
        short = self._place_of_short(key)
        windows = (
            positions
            + self._missing * (positions >= self._first(short // WINDOW_BLOCKS + 1, short))
        ) // window_rows
        for window in np.unique(windows).tolist():
            here = windows == window
            first = self._first(window, short)
            size = self._first(window + 1, short) - first
            slots = permute(positions[here] - first, size, derive_key(*key, window))
            in_short_window = window == short // WINDOW_BLOCKS
            behind = (short % WINDOW_BLOCKS) * self.block + self.block - self._missing
            slots += np.where(in_short_window & (slots >= behind), self._missing, 0)
            places = window * WINDOW_BLOCKS + slots // self.block
            out[here] = permute(places, self.blocks, key) * self.block + slots % self.block
        return out

    def positions(self, rows: np.ndarray, key: Key) -> np.ndarray:
        rows = np.asarray(rows, np.int64)
        out = np.empty_like(rows)
        short = self._place_of_short(key)
        places = invert(rows // self.block, self.blocks, key)
        windows = places // WINDOW_BLOCKS
        for window in np.unique(windows).tolist():
            here = windows == window
            first = self._first(window, short)
            size = self._first(window + 1, short) - first
            inside = places[here] - window * WINDOW_BLOCKS
            slots = inside * self.block + rows[here] % self.block
            behind_short = (window == short // WINDOW_BLOCKS) & (inside > short % WINDOW_BLOCKS)
            slots -= np.where(behind_short, self._missing, 0)
            out[here] = first + invert(slots, size, derive_key(*key, window))
        return out

    def _place_of_short(self, key: Key) -> int:
        """Return the place of the last, shorter block in the order of blocks."""
        return int(invert(np.array([self.blocks - 1]), self.blocks, key)[0])

    def _first(self, window: int, short: int) -> int:
        """Return the first position of a window; for the window after the last, the number of rows.

        `short`: place of the shorter block in the order of blocks.
        """
        blocks = min(window * WINDOW_BLOCKS, self.blocks)
        first = blocks * self.block
        if blocks > short:
            first -= self._missing
        return first

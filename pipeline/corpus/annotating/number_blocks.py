"""Array work in blocks, so that numpy's temporary copies stay small beside the arrays.

numpy makes a copy of 64 bits of whatever indexes an array or is counted. Reads and writes no file.
"""

import numpy as np

BLOCK_NUMBERS = 2**20
"""Numbers that are worked on at once."""


def looked_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return `table[numbers]`. `table`: one-dimensional; `numbers`: `(n,)` integers."""
    if len(numbers) <= BLOCK_NUMBERS:
        return table[numbers]
    result = np.empty(len(numbers), table.dtype)
    for start in range(0, len(numbers), BLOCK_NUMBERS):
        block = slice(start, start + BLOCK_NUMBERS)
        result[block] = table[numbers[block]]
    return result


def places_of(marks: np.ndarray) -> np.ndarray:
    """Return where marks are, `(n,) int32`. `marks`: `(places,) bool`."""
    places = [
        (np.flatnonzero(marks[start : start + BLOCK_NUMBERS]) + start).astype(np.int32)
        for start in range(0, len(marks), BLOCK_NUMBERS)
    ]
    if len(places) == 1:
        return places[0]
    return np.concatenate([np.zeros(0, np.int32), *places])


def counts_of(numbers: np.ndarray, size: int) -> np.ndarray:
    """Return how often each number from 0 to `size` - 1 occurs, `(size,) int64`."""
    if len(numbers) <= BLOCK_NUMBERS:
        return np.bincount(numbers, minlength=size)
    # Blocks of at least the size of the result, which each of them is added to.
    block = max(BLOCK_NUMBERS, size)
    counts = np.zeros(size, np.int64)
    for start in range(0, len(numbers), block):
        counts += np.bincount(numbers[start : start + block], minlength=size)
    return counts


def sums_before(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the sum of the values before each place, `(ends,) int64`.

    `values`: `(n,)` integers; `ends`: `(ends,) int64`, ascending, from 0 to n.
    """
    sums = np.zeros(len(ends), np.int64)
    total = 0
    first = int(np.searchsorted(ends, 0, "right"))
    for start in range(0, len(values), BLOCK_NUMBERS):
        block = np.cumsum(values[start : start + BLOCK_NUMBERS], dtype=np.int64)
        last = int(np.searchsorted(ends, start + len(block), "right"))
        sums[first:last] = total + block[ends[first:last] - start - 1]
        total += int(block[-1])
        first = last
    return sums

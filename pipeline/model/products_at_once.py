"""How many chunks of logits are multiplied at once on this machine, and the sum of their products.

A product of few rows reads the whole head from memory for little arithmetic. With a large vocabulary
and a small model chunks have as few as 16 rows, so several chunks are multiplied at once. The results
are the same bit by bit: `chunks_together` compares them on the machine, with the first micro-batch,
before it allows more than one.
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

CLEAR_GAIN = 0.8
"""A smaller number of chunks is preferred where a row takes at most this fraction of its time.

Where memory is slow for seconds at a time, the same products took up to 1.6 times as long.
"""
TURNS = 3
"""Measurements of each number of chunks."""
MOST_ROWS = 64
"""Largest number of rows at once: more gain little, and their logits take memory."""
USUAL_CACHE_BYTES = 1 << 20
"""Second-level cache of a core where the system does not tell it."""


def chunks_together(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, chunk: int
) -> int:
    """Return how many chunks of `hidden` to multiply at once; 1 but for fp32 on a CPU.

    Shapes: hidden `(rows, hidden)`, weight `(vocabulary, hidden)`, bias `(vocabulary,)`. Tries
    doubled numbers; returns the largest that keeps its bits, unless a row takes clearly less time
    with fewer.
    Logits at once take no more memory than a gradient of the head: rows x vocabulary + a chunk's
    copy = vocabulary x hidden.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return 1
    most = min(len(hidden), weight.shape[1] - chunk, MOST_ROWS) // chunk
    if most < 2:
        return 1
    head = _HeadWeights(weight, bias)
    with torch.no_grad():
        useful = _useful_numbers(hidden, head, chunk, most)
        return next((number for number in useful if _keeps_bits(hidden, head, chunk, number)), 1)


def _useful_numbers(
    hidden: torch.Tensor, head: "_HeadWeights", chunk: int, most: int
) -> Sequence[int]:
    """Return the numbers of chunks that no smaller one clearly beats, the largest first.

    All take turns, and the least time of each counts: what else runs on the machine can only add.
    """
    total = torch.zeros_like(head.weight)
    numbers = [1, *_doubled(most)]
    seconds = dict.fromkeys(numbers, math.inf)
    for _ in range(TURNS):
        for number in numbers:
            rows = hidden[: number * chunk]
            seconds[number] = min(seconds[number], _seconds_per_row(total, rows, head, chunk))
    return [
        number
        for number in reversed(numbers[1:])
        if all(seconds[less] > CLEAR_GAIN * seconds[number] for less in numbers if less < number)
    ]


def _doubled(most: int) -> Sequence[int]:
    """Return 2, 4, 8 and so on below `most`, then `most`."""
    powers = [2**power for power in range(1, most.bit_length()) if 2**power < most]
    return [*powers, most]


def add_products(
    total: torch.Tensor, gradients: torch.Tensor, rows: torch.Tensor, chunk: int
) -> None:
    """Add gradients.T @ rows to an fp32 sum, chunk by chunk, unrounded where the device can do so.

    Shapes: total `(vocabulary, hidden)`, gradients `(rows, vocabulary)`, rows `(rows, hidden)`. Several
    chunks are added to a block of the vocabulary that fits in the cache, before the next block: each
    entry still sums its products in the order of the chunks.
    """
    if total.is_cuda and gradients.dtype != torch.float32:
        torch.addmm(total, gradients.T, rows, out_dtype=torch.float32, out=total)
        return
    if gradients.dtype != torch.float32:
        total += gradients.T @ rows
        return
    block = len(total)
    if len(rows) > chunk:
        block = _rows_in_cache(total.shape[1] + len(rows))
    for first in range(0, len(total), block):
        part = slice(first, first + block)
        _add_chunks(total[part], gradients[:, part], rows, chunk)


def _add_chunks(
    total: torch.Tensor, gradients: torch.Tensor, rows: torch.Tensor, chunk: int
) -> None:
    for first in range(0, len(rows), chunk):
        part = slice(first, first + chunk)
        total.addmm_(gradients[part].T, rows[part])


def _rows_in_cache(width: int) -> int:
    """Return how many rows of `width` fp32 numbers fill half of a core's second-level cache."""
    cache = USUAL_CACHE_BYTES
    if "SC_LEVEL2_CACHE_SIZE" in os.sysconf_names:
        cache = os.sysconf("SC_LEVEL2_CACHE_SIZE") or USUAL_CACHE_BYTES
    return max(1, cache // 2 // (4 * width))


@dataclass(frozen=True)
class _HeadWeights:
    """The head's weights, without gradients."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(rows, self.weight, self.bias)


def _seconds_per_row(
    total: torch.Tensor, rows: torch.Tensor, head: _HeadWeights, chunk: int
) -> float:
    """Return this thread's CPU time for all products of `rows` at once, divided by the rows.

    The logits stand for their own gradients; `total` `(vocabulary, hidden)` is written to.
    """
    began = time.thread_time()
    logits = head.logits(rows)
    torch.mm(logits, head.weight)
    add_products(total, logits, rows, chunk)
    return (time.thread_time() - began) / len(rows)


def _keeps_bits(hidden: torch.Tensor, head: _HeadWeights, chunk: int, number: int) -> bool:
    """Tell whether `number` chunks at once give the products of one after another, bit by bit.

    Compares the first rows, and the last ones, which are fewer.
    """
    at_once = number * chunk
    rest = len(hidden) % at_once
    parts = [hidden[:at_once]]
    if rest:
        parts.append(hidden[-rest:])
    return all(_keeps_bits_of(rows, head, chunk) for rows in parts)


def _keeps_bits_of(rows: torch.Tensor, head: _HeadWeights, chunk: int) -> bool:
    # One chunk after another.
    logits = head.logits(rows)
    for_hidden = logits @ head.weight
    total = torch.zeros_like(head.weight)
    for first in range(0, len(rows), chunk):
        part = slice(first, first + chunk)
        of_chunk = head.logits(rows[part])
        if not torch.equal(of_chunk, logits[part]):
            return False
        if not torch.equal(of_chunk @ head.weight, for_hidden[part]):
            return False
        total.addmm_(of_chunk.T, rows[part])

    # The sum of all chunks, a block of the vocabulary after another.
    block = _rows_in_cache(head.weight.shape[1] + len(rows))
    for first in range(0, len(total), block):
        part = slice(first, first + block)
        of_block = torch.zeros_like(total[part])
        _add_chunks(of_block, logits[:, part], rows, chunk)
        if not torch.equal(of_block, total[part]):
            return False
    return True

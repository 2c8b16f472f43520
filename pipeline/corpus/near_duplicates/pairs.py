"""The pairs of documents that a round compares, one partition of groups at a time.

In a group only pairs count whose first document is not removed, and whose second one is not decided.
A round takes the first documents of every group, the next round those that follow: where a group's first
document stays and all others are like it, each of them is compared with few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.corpus.near_duplicates.compared_shards import read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.groups import GROUPED, PREFIXES
from pipeline.corpus.near_duplicates.partition_file import (
    read_records,
    starts_of_parts,
    write_parts,
)
from pipeline.corpus.near_duplicates.statuses import (
    STATUS,
    UNDECIDED,
    is_removed,
    needs_comparing,
    read_status,
)
from pipeline.store.records import FileRecord

PAIR = np.dtype([("low", "<u8"), ("high", "<u8"), ("order", "<u8")])
"""Number of the document that may be removed, number and order of the one that comes before it."""
OPEN = np.uint64(2**64 - 1)
"""Stands for the documents of later rounds: the document cannot be decided yet to stay."""
FIRST_WINDOW = 8
"""Documents at the beginning of every group with which the first round compares the others."""
WINDOW_GROWTH = 8
MOST_PAIRS = 1 << 21
"""Pairs of a partition in a round, 50 MB, unless the first document that is left has more."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class StatusFile:
    """The statuses after a round, for the work items of the next one."""

    path: Path
    checksum: str


class PairedPartition(TypedDict):
    """Result of the work item of one partition in one round."""

    pairs: int
    window: int
    """Place in the groups up to which this round and those before have taken first documents."""
    left: int
    """Documents that have others before them in a group that later rounds take."""
    files: Mapping[str, FileRecord]


def write_pairs(
    table: Path,
    groups: tuple[str, int],
    place: tuple[int, int],
    status: StatusFile | None,
    threshold: float,
    folder: Path,
) -> PairedPartition:
    """Write the pairs of a partition to compare in a round.

    `groups`: family and partition; `place`: number of the round, and the first place in the groups
    that it takes. `status`: after the round before, None in the first.
    """
    family, partition = groups
    number, window = place
    comparison = read_comparison(table)
    steps = ComparisonFolder(folder)
    step = steps.groups
    if family == PREFIXES:
        step = steps.prefix_groups
    grouped = read_records(step.of_partition(partition), GROUPED)
    known = np.full(len(grouped), UNDECIDED, STATUS)
    if status is not None:
        known = read_status(status.path, status.checksum)[grouped["document"]]

    taken = _Taken(grouped, known, window)
    pairs = np.concatenate([taken.pairs(threshold), taken.open()])
    pairs = unique_pairs(pairs)
    shard = comparison.shard_of(pairs["low"])
    output = steps.round(number).pairs(family)
    path = output.of_partition(partition)
    record = write_parts(path, pairs, starts_of_parts(shard, len(comparison.shards)))
    return {
        "pairs": int(np.count_nonzero(pairs["high"] != OPEN)),
        "window": taken.end,
        "left": int(np.count_nonzero(pairs["high"] == OPEN)),
        "files": {output.name(path): record},
    }


def unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return pairs sorted by both documents, each once."""
    pairs = pairs[np.lexsort((pairs["high"], pairs["low"]))]
    is_first = np.ones(len(pairs), bool)
    is_first[1:] = (pairs["low"][1:] != pairs["low"][:-1]) | (
        pairs["high"][1:] != pairs["high"][:-1]
    )
    return pairs[is_first]


class _Taken:
    """What a round takes of the groups of a partition."""

    def __init__(self, grouped: np.ndarray, status: np.ndarray, window: int) -> None:
        self._grouped = grouped
        places = np.arange(len(grouped))
        group = grouped["group"]
        start = np.searchsorted(group, group)
        self._group_start = start
        self._group_end = np.searchsorted(group, group, side="right")
        self._place = places - start
        self._is_first = ~is_removed(status)
        self._is_second = needs_comparing(status)
        # The records that may be second, and for each first one the range of those behind it.
        self._seconds = np.flatnonzero(self._is_second)
        self._seconds_from = np.searchsorted(self._seconds, places, side="right")
        self._seconds_to = np.searchsorted(self._seconds, self._group_end)
        self._window = window
        self.end = self._window_end()
        """Place in the groups before which documents are taken as first ones."""

    def _window_end(self) -> int:
        """Return the end of the window: further as rounds go on, as long as the pairs fit."""
        wanted = max(FIRST_WINDOW, self._window * WINDOW_GROWTH)
        counts = (self._seconds_to - self._seconds_from) * self._is_first
        is_taken = (self._place >= self._window) & (self._place < wanted)
        by_place = np.bincount(
            self._place[is_taken], weights=counts[is_taken], minlength=wanted
        ).cumsum()
        fits = int(np.searchsorted(by_place, MOST_PAIRS, side="right"))
        return min(wanted, max(fits, self._window + 1))

    def pairs(self, threshold: float) -> np.ndarray:
        """Return the pairs of this round, but for those that cannot be similar by their sizes."""
        is_taken = self._is_first & (self._place >= self._window) & (self._place < self.end)
        first = np.flatnonzero(is_taken)
        counts = self._seconds_to[first] - self._seconds_from[first]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        high = np.repeat(first, counts)
        low = self._seconds[np.repeat(self._seconds_from[first], counts) + within]

        # The intersection is at most the smaller set, the union at least the larger one.
        sizes_high = self._grouped["shingles"][high].astype(np.float64)
        sizes_low = self._grouped["shingles"][low].astype(np.float64)
        smaller = np.minimum(sizes_high, sizes_low)
        larger = np.maximum(sizes_high, sizes_low)
        may_be_similar = (smaller == 0) | (smaller >= threshold * larger - ROUNDING)
        pairs = np.zeros(int(may_be_similar.sum()), PAIR)
        pairs["low"] = self._grouped["document"][low[may_be_similar]]
        pairs["high"] = self._grouped["document"][high[may_be_similar]]
        pairs["order"] = self._grouped["order"][high[may_be_similar]]
        return pairs

    def open(self) -> np.ndarray:
        """Return a mark for each document that has others before it which later rounds take."""
        is_later = (self._is_first & (self._place >= self.end)).astype(np.int64)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_later)])
        places = np.arange(len(is_later))
        has_later = before[places] > before[self._group_start]
        pairs = np.zeros(int(np.count_nonzero(has_later & self._is_second)), PAIR)
        pairs["low"] = self._grouped["document"][has_later & self._is_second]
        pairs["high"] = OPEN
        return pairs

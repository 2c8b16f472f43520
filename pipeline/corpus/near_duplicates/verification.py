"""One shard in one round: compares its documents with those before them, and decides what it can.

A document stays once all documents before it that are like it are removed, and is removed once one of
them stays. So those that stay are the lexicographically first maximal independent set, in the order of
priority, of the graph whose edges are pairs with a band in common and exact Jaccard similarity of at
least the threshold. Source: Blelloch, Fineman, Shun 2012 (arXiv:1202.3205), who find it in rounds.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.corpus.near_duplicates.compared_shards import ComparedShards, read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder, StepFolder
from pipeline.corpus.near_duplicates.emptied_documents import is_emptied
from pipeline.corpus.near_duplicates.pairs import OPEN, PAIR, ROUNDING, StatusFile, unique_pairs
from pipeline.corpus.near_duplicates.partition_file import (
    PartsFile,
    read_part,
    read_records,
    write_records,
)
from pipeline.corpus.near_duplicates.shingles import HASH, ShingledDocuments, jaccard
from pipeline.corpus.near_duplicates.statuses import (
    EMPTIED,
    LOST,
    REMOVED,
    STATUS,
    STAYS,
    UNDECIDED,
    read_status,
)
from pipeline.store.files import read_json
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

EDGE = np.dtype([("row", "<u4"), ("high", "<u8"), ("order", "<u8"), ("jaccard", "<f8")])
"""A row of the shard, a document before it that is like it, its order, and their exact similarity."""
PAIRS_AT_ONCE = 1 << 22
"""Pairs that are read before those that occur several times are joined."""


class DecidedShard(TypedDict):
    """Result of the work item of one shard in one round."""

    compared: int
    """Pairs whose sets were compared."""
    too_different: int
    """Pairs that need no comparison: the sizes of their sets differ too much."""
    similar: int
    """Pairs compared that reach the threshold."""
    undecided: int
    """Documents that later rounds decide, or whose evidence they complete."""
    files: Mapping[str, FileRecord]


def decide_shard(
    table: Path,
    shard: int,
    rounds: tuple[int, int | None],
    status: StatusFile | None,
    threshold: float,
    folder: Path,
    *,
    emptied: Path | None = None,
) -> DecidedShard:
    """Compare the pairs of a shard's documents in a round, and decide.

    `rounds`: this one, and the last one that decided on this shard. `status`: of all documents
    after the round before; None in the first. `emptied`: file of the shard's documents of which
    nothing is left; None where there are none.
    """
    comparison = read_comparison(table)
    name = comparison.shards[shard].name
    steps = ComparisonFolder(folder)
    number, last = rounds

    # What is known from the rounds before.
    first = int(comparison.starts[shard])
    edges = np.zeros(0, EDGE)
    everywhere = None
    if status is None or last is None:
        with PartsFile(steps.sets.of_shard(name), HASH) as sets:
            is_compared = np.diff(sets.bounds()) > 0
        may_lose = is_compared & (not comparison.shards[shard].always_stays)
        own = np.where(may_lose, UNDECIDED, STAYS).astype(STATUS)
    else:
        everywhere = read_status(status.path, status.checksum)
        own = np.array(everywhere[first : first + comparison.shards[shard].rows])
        edges = read_records(steps.round(last).states.of_shard(name), EDGE)

    # Pairs that no round before has compared, then what follows from them.
    pairs = _pairs_of_shard(steps, number, shard)
    is_open = np.zeros(len(own), bool)
    is_open[(pairs["low"][pairs["high"] == OPEN] - np.uint64(first)).astype(np.int64)] = True
    pairs = pairs[pairs["high"] != OPEN]
    if comparison.shards[shard].always_stays:
        pairs = pairs[:0]
    comparing = _Comparing(comparison, steps.sets, shard, threshold)
    similar = comparing.similar(_without_known(pairs, edges, first))
    edges = np.concatenate([edges, similar])
    emptied_rows = is_emptied(emptied, len(own))
    _decide(own, edges, is_open, first, everywhere, emptied=emptied_rows)

    states = steps.round(number).states
    statuses = steps.round(number).status_parts
    states_path = states.of_shard(name)
    statuses_path = statuses.of_shard(name)
    return {
        "compared": comparing.compared,
        "too_different": comparing.too_different,
        "similar": len(similar),
        "undecided": int(np.count_nonzero((own == UNDECIDED) | (own == LOST))),
        "files": {
            states.name(states_path): write_records(states_path, edges),
            statuses.name(statuses_path): write_records(statuses_path, own),
        },
    }


def _pairs_of_shard(steps: ComparisonFolder, number: int, shard: int) -> np.ndarray:
    """Return the pairs of a round whose second document is of a shard, each once."""
    folder = steps.round(number)
    partitions: list[tuple[str, int]] = read_json(folder.partitions)
    unique = np.zeros(0, PAIR)
    waiting: list[np.ndarray] = []
    size = 0
    for family, partition in partitions:
        part = read_part(folder.pairs(family).of_partition(partition), PAIR, shard)
        waiting.append(part)
        size += len(part)
        if size > PAIRS_AT_ONCE:
            unique = unique_pairs(np.concatenate([unique, *waiting]))
            waiting = []
            size = 0
    return unique_pairs(np.concatenate([unique, *waiting]))


def _without_known(pairs: np.ndarray, edges: np.ndarray, first: int) -> np.ndarray:
    """Return the pairs that are not among the edges."""
    both = np.zeros(len(edges), PAIR)
    both["low"] = edges["row"].astype(np.uint64) + np.uint64(first)
    both["high"] = edges["high"]
    every = np.concatenate([both, pairs])
    _, number = np.unique(every[["low", "high"]], return_inverse=True)
    is_known = np.zeros(len(every), bool)
    is_known[number[: len(edges)]] = True
    return pairs[~is_known[number[len(edges) :]]]


class _Comparing:
    """Compares documents of one shard with documents of all shards, and counts."""

    def __init__(
        self, comparison: ComparedShards, sets: StepFolder, shard: int, threshold: float
    ) -> None:
        self._comparison = comparison
        self._sets = sets
        self._shard = shard
        self._threshold = threshold
        self.compared = 0
        """Pairs whose sets were compared."""
        self.too_different = 0
        """Pairs whose sizes alone show that they are not similar."""

    def similar(self, pairs: np.ndarray) -> np.ndarray:
        """Return the edges among pairs, `(n,) EDGE`, sorted by row and first document."""
        edges = [np.zeros(0, EDGE)]
        own_shard = self._comparison.shards[self._shard]
        own_start = self._comparison.starts[self._shard]
        with ShingledDocuments(self._sets, own_shard) as own:
            # Shard by shard, and each first document once.
            pairs = pairs[np.lexsort((pairs["low"], pairs["high"]))]
            for other, of_other in _by_shard(self._comparison, pairs):
                start = self._comparison.starts[other]
                with ShingledDocuments(self._sets, self._comparison.shards[other]) as others:
                    for of_high in _runs(of_other, of_other["high"]):
                        high_row = int(of_high["high"][0] - start)
                        rows = (of_high["low"] - own_start).astype(np.int64)
                        edges.append(self._of_document(own, rows, others, high_row, of_high))
                report_progress(0.0, pairs_compared=self.compared)
        every = np.concatenate(edges)
        return every[np.lexsort((every["high"], every["row"]))]

    def _of_document(
        self,
        own: ShingledDocuments,
        rows: np.ndarray,
        others: ShingledDocuments,
        high_row: int,
        pairs: np.ndarray,
    ) -> np.ndarray:
        """Return the edges between one document and rows of this shard."""
        high = others.read(high_row)
        sizes = own.sizes(rows, len(high.bands))
        smaller = np.minimum(sizes, len(high.shingles))
        larger = np.maximum(sizes, len(high.shingles))
        may_be_similar = np.flatnonzero(smaller >= self._threshold * larger - ROUNDING)
        self.too_different += len(rows) - len(may_be_similar)
        self.compared += len(may_be_similar)
        edges: list[tuple[int, int, int, float]] = []
        for place in may_be_similar.tolist():
            row = int(rows[place])
            low = own.read(row)
            # Groups of rarest shingles hold pairs without a band in common, too.
            if not np.any(low.bands == high.bands):
                continue
            similarity = jaccard(low.shingles, high.shingles)
            if similarity >= self._threshold:
                pair = pairs[place]
                edges.append((row, int(pair["high"]), int(pair["order"]), similarity))
        return np.array(edges, EDGE)


def _by_shard(comparison: ComparedShards, pairs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each shard of first documents with its pairs, which are sorted by first document."""
    shards = comparison.shard_of(pairs["high"])
    bounds = np.flatnonzero(np.diff(shards, prepend=-1, append=-1))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield int(shards[start]), pairs[start:end]


def _runs(pairs: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs with the same value, which stand together."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        yield pairs[start:end]


def _decide(
    own: np.ndarray,
    edges: np.ndarray,
    is_open: np.ndarray,
    first: int,
    everywhere: np.ndarray | None,
    *,
    emptied: np.ndarray,
) -> None:
    """Decide what follows from the edges; change `own`, the statuses of the shard's documents.

    `is_open`: rows that have documents before them which were not compared. `first`: number of the
    shard's first document. `everywhere`: statuses of all documents after the round before.
    `emptied`: rows to which no document may lose, `(rows,) bool`.
    """
    # Documents of this shard are taken as they are decided here, all others as of the round before.
    local = edges["high"].astype(np.int64) - first
    is_local = (edges["high"] >= first) & (local < len(own))
    status = np.full(len(edges), UNDECIDED, STATUS)
    if everywhere is not None:
        status[~is_local] = everywhere[edges["high"][~is_local]]
    has_changed = True
    while has_changed:
        status[is_local] = own[local[is_local]]
        has_staying = np.zeros(len(own), bool)
        has_staying[edges["row"][status == STAYS]] = True
        has_undecided = is_open.copy()
        has_undecided[edges["row"][status == UNDECIDED]] = True
        is_undecided = own == UNDECIDED
        loses = is_undecided & has_staying
        stays = is_undecided & ~has_staying & ~has_undecided
        own[loses] = LOST
        own[stays] = np.where(emptied[stays], EMPTIED, STAYS)
        has_changed = bool(np.any(loses | stays))

    # The evidence is complete where no document before the one that a row lost to is open.
    best = first_staying(edges, status)
    place_of_row = np.full(len(own), -1)
    place_of_row[best["row"]] = np.arange(len(best))
    undecided = edges[status == UNDECIDED]
    undecided = undecided[place_of_row[undecided["row"]] >= 0]
    of_row = best[place_of_row[undecided["row"]]]
    is_before = (undecided["order"] < of_row["order"]) | (
        (undecided["order"] == of_row["order"]) & (undecided["high"] < of_row["high"])
    )
    has_better = is_open.copy()
    has_better[undecided["row"][is_before]] = True
    own[(own == LOST) & ~has_better] = REMOVED


def first_staying(edges: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Return for each row that has one the edge to the first document that stays, by row.

    `status`: of the edges' first documents, `(edges,) uint8`.
    """
    staying = edges[status == STAYS]
    staying = staying[np.lexsort((staying["high"], staying["order"], staying["row"]))]
    is_first = np.ones(len(staying), bool)
    is_first[1:] = staying["row"][1:] != staying["row"][:-1]
    return staying[is_first]

"""Documents of large groups as records of their rarest shingles.

A band that very many documents share (a licence at the head of files, a template) says little of a
pair. Comparing all pairs of such a group would cost the square of its size. But two sets A and B with
|A and B| >= t |A or B| have at least ceil(t |A|) shingles in common, so if all documents sort their
shingles in one order, and each keeps the first |A| - ceil(t |A|) + 1, then A and B have one of these in
common: no pair is lost. With the rarest first, documents that share a licence alone have none.
Source: Bayardo, Ma, Srikant 2007, Scaling Up All Pairs Similarity Search (prefix filtering); Xiao,
Wang, Lin, Yu 2008, Efficient Similarity Joins for Near Duplicate Detection.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.corpus.near_duplicates.band_records import RECORD, RecordedShard, write_keyed
from pipeline.corpus.near_duplicates.compared_shards import read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.groups import members_of_shard
from pipeline.corpus.near_duplicates.partition_file import read_records, write_records
from pipeline.corpus.near_duplicates.shingles import (
    COUNT,
    FREQUENCY_BITS,
    ShingledDocuments,
    bucket_of,
)
from pipeline.store.records import FileRecord

ROUNDING = 1e-9
"""Subtracted before rounding up, so that the error of a product never shortens a prefix."""


class Rarity(TypedDict):
    """Result of the work item that adds up the frequencies of all shards."""

    files: Mapping[str, FileRecord]


def write_rarity(table: Path, shards: Sequence[int], folder: Path) -> Rarity:
    """Add up how often shingles occur in the documents of large groups, over these shards."""
    comparison = read_comparison(table)
    steps = ComparisonFolder(folder)
    total = np.zeros(1 << FREQUENCY_BITS, np.uint64)
    for shard in shards:
        total += read_records(steps.frequencies.of_shard(comparison.shards[shard].name), COUNT)
    path = steps.rarity.single
    most = np.iinfo(COUNT).max
    record = write_records(path, np.minimum(total, most).astype(COUNT))
    return {"files": {steps.rarity.name(path): record}}


def prefix_length(shingles: int, threshold: float) -> int:
    """Return how many of its first shingles a document must keep."""
    return shingles - math.ceil(threshold * shingles - ROUNDING) + 1


def write_prefix_records(
    table: Path, shard: int, partitions: tuple[int, int], threshold: float, folder: Path
) -> RecordedShard:
    """Write the records of the rarest shingles of a shard's documents in large groups.

    `partitions`: of the records of bands, and of those written here.
    """
    compared = read_comparison(table).shards[shard]
    steps = ComparisonFolder(folder)
    members = members_of_shard(steps.members, partitions[0], shard)
    members = members[members["is_large"] > 0]
    rarity = read_records(steps.rarity.single, COUNT)

    parts = [np.zeros(0, RECORD)]
    with ShingledDocuments(steps.sets, compared) as documents:
        for member in members:
            shingles = documents.read(int(member["row"])).shingles
            by_rarity = np.lexsort((shingles, rarity[bucket_of(shingles)]))
            kept = by_rarity[: prefix_length(len(shingles), threshold)]
            records = np.zeros(len(kept), RECORD)
            records["key"] = shingles[kept]
            records["bytes"] = member["bytes"]
            records["row"] = member["row"]
            records["shingles"] = len(shingles)
            parts.append(records)
    records = np.concatenate(parts)
    return {
        "documents": len(members),
        "records": len(records),
        "files": write_keyed(records, partitions[1], steps.prefixes, compared),
    }

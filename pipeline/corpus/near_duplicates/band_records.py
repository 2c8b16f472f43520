"""The bands of documents as records, in partitions by their hash.

Two documents with a band in common are in one partition, so a partition finds all that share it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from pipeline.corpus.annotating.part import list_of
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard, read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder, StepFolder
from pipeline.corpus.near_duplicates.partition_file import starts_of_parts, write_parts
from pipeline.corpus.near_duplicates.shard_inputs import (
    annotation_column,
    bytes_of_texts,
    list_bounds,
    taking_part,
)
from pipeline.store.records import FileRecord

BANDS = pa.field("minhash_bands", list_of(pa.uint64()))
RECORD = np.dtype([("key", "<u8"), ("bytes", "<u8"), ("row", "<u4"), ("shingles", "<u4")])
"""A key that documents may share, and a document: its row in the shard, the size of its text, and the
number of its different shingles, 0 where that is not counted yet."""
RECORDS_IN_A_PARTITION = 1 << 21
"""Records of a partition on average, 50 MB; the work item that groups them takes some 300 MB."""
MOST_PARTITIONS = 1 << 14
GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: tells the bands in different places apart."""


class RecordedShard(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    """Documents that have bands and take part."""
    records: int
    files: Mapping[str, FileRecord]


def partitions_for(records: int) -> int:
    """Return the number of partitions for a number of records, a power of two."""
    wanted = -(-records // RECORDS_IN_A_PARTITION)
    return min(MOST_PARTITIONS, 1 << max(0, wanted - 1).bit_length())


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """Return the partition of each key, `(n,) int64`: its first bits."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    bits = partitions.bit_length() - 1
    return (keys >> np.uint64(64 - bits)).astype(np.int64)


def write_band_records(table: Path, shard: int, partitions: int, folder: Path) -> RecordedShard:
    """Write the records of one shard's bands.

    `table`: the table of the shards; `folder`: of the comparison. Raises DataError where documents or
    annotations are damaged.
    """
    compared = read_comparison(table).shards[shard]
    takes_part = taking_part(compared)
    column = annotation_column(compared, BANDS)
    bounds = list_bounds(column)
    counts = np.diff(bounds)
    row = np.repeat(np.arange(compared.rows, dtype=np.uint32), counts)
    place = np.arange(len(row)) - np.repeat(bounds[:-1], counts)
    sizes = bytes_of_texts(compared)

    records = np.zeros(len(row), RECORD)
    salt = place.astype(np.uint64) * np.uint64(GOLDEN)
    records["key"] = column.flatten().to_numpy() ^ salt
    records["bytes"] = sizes[row]
    records["row"] = row
    records = records[takes_part[row]]
    documents = np.count_nonzero(takes_part & (counts > 0))
    return {
        "documents": int(documents),
        "records": len(records),
        "files": write_keyed(records, partitions, ComparisonFolder(folder).bands, compared),
    }


def write_keyed(
    records: np.ndarray, partitions: int, step: StepFolder, shard: ComparedShard
) -> dict[str, FileRecord]:
    """Write records in partitions by their keys; return the record of the file by its name."""
    path = step.of_shard(shard.name)
    ordered = records[np.lexsort((records["row"], records["key"]))]
    starts = starts_of_parts(partition_of(ordered["key"], partitions), partitions)
    return {step.name(path): write_parts(path, ordered, starts)}

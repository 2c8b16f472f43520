"""Groups of documents that share a key, one partition of keys at a time.

Reads one partition of the records of all shards. Writes the groups of at least two documents, and
which documents of each shard are in a group.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.corpus.near_duplicates.band_records import RECORD
from pipeline.corpus.near_duplicates.compared_shards import ComparedShards, read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder, StepFolder
from pipeline.corpus.near_duplicates.partition_file import (
    read_part,
    starts_of_parts,
    write_parts,
    write_records,
)
from pipeline.store.records import FileRecord

GROUPED = np.dtype([("document", "<u8"), ("order", "<u8"), ("group", "<u4"), ("shingles", "<u4")])
"""A document in a group: its number, its order (the smaller one comes first), the number of the group
in its partition, and the number of its shingles, 0 where that is not counted yet."""
MEMBER = np.dtype([("row", "<u4"), ("bytes", "<u8"), ("is_large", "u1")])
"""A document of a shard in a group, and whether one of its groups is large."""
BANDS = "bands"
PREFIXES = "rarest-shingles"
"""The two families of groups: documents that share a band, documents of large groups that share one of
their rarest shingles."""
LARGE_GROUP = 64
"""Documents in a group above which its pairs are found by the documents' rarest shingles instead:
pairs of a group grow with the square of its size."""


class GroupedPartition(TypedDict):
    """Result of the work item of one partition."""

    groups: int
    """Groups of at least two documents, large ones left out."""
    large_groups: int
    largest_group: int
    files: Mapping[str, FileRecord]


def write_groups(table: Path, partition: int, family: str, folder: Path) -> GroupedPartition:
    """Group the records of one partition.

    `family`: BANDS, or PREFIXES for records of rarest shingles; of these no group is too large.
    `folder`: of the comparison. Raises DataError where a file of records is damaged.
    """
    comparison = read_comparison(table)
    steps = ComparisonFolder(folder)
    records = steps.bands
    groups = steps.groups
    members = steps.members
    if family == PREFIXES:
        records = steps.prefixes
        groups = steps.prefix_groups
        members = steps.prefix_members

    # Large groups of bands are not compared as they are; their documents get other records.
    grouped = _sorted_groups(comparison, records, partition)
    sizes = np.bincount(grouped["group"])
    is_large = np.zeros(len(sizes), bool)
    if family == BANDS:
        is_large = sizes > LARGE_GROUP
    of_large = is_large[grouped["group"]]

    groups_path = groups.of_partition(partition)
    members_path = members.of_partition(partition)
    files = {
        groups.name(groups_path): write_records(groups_path, grouped[~of_large]),
        members.name(members_path): _write_members(comparison, members_path, grouped, of_large),
    }
    return {
        "groups": int(np.count_nonzero(~is_large)),
        "large_groups": int(np.count_nonzero(is_large)),
        "largest_group": int(sizes.max(initial=0)),
        "files": files,
    }


def _sorted_groups(comparison: ComparedShards, records: StepFolder, partition: int) -> np.ndarray:
    """Return the documents of the groups of a partition, `(n,) GROUPED`, in order in each group."""
    keys = [np.zeros(0, np.uint64)]
    parts = [np.zeros(0, GROUPED)]
    for number, shard in enumerate(comparison.shards):
        part = read_part(records.of_shard(shard.name), RECORD, partition)
        documents = np.zeros(len(part), GROUPED)
        documents["document"] = comparison.starts[number] + part["row"].astype(np.uint64)
        documents["order"] = comparison.order(number, part["bytes"])
        documents["shingles"] = part["shingles"]
        keys.append(part["key"])
        parts.append(documents)
    key = np.concatenate(keys)
    grouped = np.concatenate(parts)
    del keys, parts

    # Most keys occur once, and need no place in an order.
    by_key = np.argsort(key, kind="stable")
    key = key[by_key]
    is_shared = np.zeros(len(key), bool)
    is_shared[1:] = key[1:] == key[:-1]
    is_shared[:-1] |= is_shared[1:]
    key = key[is_shared]
    grouped = grouped[by_key[is_shared]]
    grouped = grouped[np.lexsort((grouped["document"], grouped["order"], key))]
    is_first = np.ones(len(key), bool)
    is_first[1:] = key[1:] != key[:-1]
    grouped["group"] = np.cumsum(is_first) - 1
    return grouped


def _write_members(
    comparison: ComparedShards, path: Path, grouped: np.ndarray, of_large: np.ndarray
) -> FileRecord:
    """Write which documents of each shard are in a group, and whether it is a large one."""
    # Each document once: the last of its records in this order is one of a large group if any is.
    by_document = np.lexsort((of_large, grouped["document"]))
    documents = grouped["document"][by_document]
    is_last = np.ones(len(documents), bool)
    is_last[:-1] = documents[1:] != documents[:-1]
    chosen = by_document[is_last]
    shard = comparison.shard_of(grouped["document"][chosen])
    members = np.zeros(len(chosen), MEMBER)
    members["row"] = grouped["document"][chosen] - comparison.starts[shard]
    members["bytes"] = comparison.bytes_in_order(grouped["order"][chosen])
    members["is_large"] = of_large[chosen]
    return write_parts(path, members, starts_of_parts(shard, len(comparison.shards)))


def members_of_shard(step: StepFolder, partitions: int, shard: int) -> np.ndarray:
    """Return the documents of a shard that are in a group, `(n,) MEMBER`, ascending, each once."""
    parts = [np.zeros(0, MEMBER)]
    for partition in range(partitions):
        parts.append(read_part(step.of_partition(partition), MEMBER, shard))
    members = np.concatenate(parts)
    members = members[np.lexsort((members["is_large"], members["row"]))]
    is_last = np.ones(len(members), bool)
    is_last[:-1] = members["row"][1:] != members["row"][:-1]
    return members[is_last]

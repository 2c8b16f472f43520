"""Find paragraphs that stood before, in the order of priority of their documents.

Of equal paragraphs (one hash of 64 bits in the part `paragraphs` of the annotations) the first one stays;
those behind it are spans to cut, also within one document. A paragraph of which others cut a part is not
the first one, or it would be nowhere. Two of n different paragraphs have one hash by
chance with probability n^2 / 2^65: 3 % for a billion, and then one of them is cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from pipeline.corpus.annotating.paragraphs import SPAN_HASH
from pipeline.corpus.annotating.part import list_of
from pipeline.corpus.near_duplicates.band_records import partition_of, partitions_for
from pipeline.corpus.near_duplicates.compared_shards import (
    ComparedShard,
    compared,
    read_comparison,
)
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.comparison_steps import ComparisonSteps, digest_of
from pipeline.corpus.near_duplicates.partition_file import (
    read_part,
    starts_of_parts,
    write_parts,
)
from pipeline.corpus.near_duplicates.shard_inputs import (
    annotation_column,
    bytes_of_texts,
    cut_out_of,
    list_bounds,
    taking_part,
)
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.files import output_digest
from pipeline.store.records import FileRecord
from pipeline.work.workers import Workers

PARAGRAPHS = pa.field("paragraph_hashes", list_of(SPAN_HASH))
PARAGRAPH = np.dtype(
    [("hash", "<u8"), ("bytes", "<u8"), ("row", "<u4"), ("place", "<u4"), ("is_whole", "?")]
)
"""A paragraph: its hash, the size of its document's text, the document's row in the shard, the
paragraph's number in the document, and whether others leave it as it is."""
REPEATED = np.dtype([("row", "<u4"), ("place", "<u4")])
BYTES_A_PARAGRAPH = 50
"""Bytes of a Parquet shard for each paragraph, by which the number of partitions is chosen: 125 bytes of
text, of which zstd makes 40 %."""
CUTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
    ]
)
"""A row of the shard, and a span of characters in its text that stood before; ascending."""


class RecordedParagraphs(TypedDict):
    """Result of the work item of one shard."""

    paragraphs: int
    files: Mapping[str, FileRecord]


class RepeatedOfPartition(TypedDict):
    """Result of the work item of one partition."""

    repeated: int
    files: Mapping[str, FileRecord]


class CutShard(TypedDict):
    """Result of the work item that collects the spans of one shard."""

    spans: int
    characters: int
    files: Mapping[str, FileRecord]


@dataclass(frozen=True)
class RepeatedParagraphs:
    """What a search for repeated paragraphs has found."""

    paths: Mapping[str, Path]
    """`source~stem` of each shard -> the Parquet file of its spans, of schema `CUTS`."""
    digests: Mapping[str, str]
    """`source~stem` of each shard -> hash of that file."""
    paragraphs: int
    """Paragraphs of the documents that took part."""
    repeated: int
    """Paragraphs that stood before."""
    characters: int
    """Characters of these."""


def find_repeated_paragraphs(
    shards: Sequence[ComparedShard], folder: Path, crew: Workers, fewest_characters: int = 1
) -> RepeatedParagraphs:
    """Find the paragraphs of all shards that stood before; write the spans of each shard.

    `folder`: of this search alone. Paragraphs with fewer characters are never cut. Raises DataError
    where documents, annotations or files of the search are damaged (TasksFailed with all messages).
    """
    comparison = compared(shards)
    steps = ComparisonSteps(comparison, folder, crew)
    files = ComparisonFolder(folder)
    size = sum(shard.file_bytes for shard in shards)
    partitions = partitions_for(size // BYTES_A_PARAGRAPH)

    # Records by shard, repeated ones by partition, spans by shard.
    recorded: dict[int, RecordedParagraphs] = steps.by_shard(
        write_paragraph_records,
        {"partitions": partitions, "fewest": fewest_characters, "folder": folder},
        [partitions, fewest_characters],
        files.paragraphs.path,
        "paragraphs",
    )
    repeated: dict[int, RepeatedOfPartition] = steps.by_partition(
        write_repeated,
        {"folder": folder},
        recorded,
        (files.repeated.path, partitions),
        "repeated paragraphs",
    )
    cut: dict[int, CutShard] = steps.by_shard(
        write_cuts,
        {"partitions": partitions, "folder": folder},
        [digest_of(repeated)],
        files.cuts.path,
        "spans to cut",
    )
    return RepeatedParagraphs(
        paths={shard.name: files.cuts.of_shard(shard.name) for shard in comparison.shards},
        digests={
            comparison.shards[number].name: output_digest(result["files"])
            for number, result in cut.items()
        },
        paragraphs=sum(result["paragraphs"] for result in recorded.values()),
        repeated=sum(result["repeated"] for result in repeated.values()),
        characters=sum(result["characters"] for result in cut.values()),
    )


def read_cuts(path: Path) -> pa.Table:
    """Return the spans of a shard, of schema `CUTS`. Raises DataError for damage."""
    return read_parquet(path, CUTS, SELECT_AGAIN)


def write_paragraph_records(
    table: Path, shard: int, partitions: int, fewest: int, folder: Path
) -> RecordedParagraphs:
    """Write the records of one shard's paragraphs of at least `fewest` characters."""
    own = read_comparison(table).shards[shard]
    step = ComparisonFolder(folder).paragraphs
    column = annotation_column(own, PARAGRAPHS)
    bounds = list_bounds(column)
    counts = np.diff(bounds)
    row = np.repeat(np.arange(own.rows, dtype=np.uint32), counts)
    place = np.arange(len(row)) - np.repeat(bounds[:-1], counts)
    spans = column.flatten()
    length = spans.field("end").to_numpy() - spans.field("start").to_numpy()

    records = np.zeros(len(row), PARAGRAPH)
    records["hash"] = spans.field("hash").to_numpy()
    records["bytes"] = bytes_of_texts(own)[row]
    records["row"] = row
    records["place"] = place
    records["is_whole"] = _whole(own, row, spans)
    records = records[taking_part(own)[row] & (length >= fewest)]
    records = records[np.lexsort((records["place"], records["row"], records["hash"]))]
    starts = starts_of_parts(partition_of(records["hash"], partitions), partitions)
    path = step.of_shard(own.name)
    record = write_parts(path, records, starts)
    return {"paragraphs": len(records), "files": {step.name(path): record}}


def _whole(own: ComparedShard, row: np.ndarray, spans: pa.Array) -> np.ndarray:
    """Tell of each paragraph of a shard whether others cut nothing of it, `(paragraphs,) bool`.

    `row`: of each paragraph's document, ascending; `spans`: of the paragraphs.
    """
    is_whole = np.ones(len(row), bool)
    cut_out = cut_out_of(own)
    if cut_out is None:
        return is_whole
    start = spans.field("start").to_numpy()
    end = spans.field("end").to_numpy()
    for number in np.flatnonzero(np.diff(list_bounds(cut_out))).tolist():
        first, last = np.searchsorted(row, [number, number + 1])
        of_row = slice(first, last)
        for cut in cut_out[number].as_py():
            is_whole[of_row] &= (end[of_row] <= cut["start"]) | (start[of_row] >= cut["end"])
    return is_whole


def write_repeated(table: Path, partition: int, folder: Path) -> RepeatedOfPartition:
    """Write which paragraphs of a partition stood before, by shard."""
    comparison = read_comparison(table)
    files = ComparisonFolder(folder)
    parts = [np.zeros(0, PARAGRAPH)]
    orders = [np.zeros(0, np.uint64)]
    shards = [np.zeros(0, np.int64)]
    for number, shard in enumerate(comparison.shards):
        part = read_part(files.paragraphs.of_shard(shard.name), PARAGRAPH, partition)
        parts.append(part)
        orders.append(comparison.order(number, part["bytes"]))
        shards.append(np.full(len(part), number))
    records = np.concatenate(parts)
    shard_of = np.concatenate(shards)

    # Documents are numbered shard by shard, so shard and row decide where all else is equal.
    keys = (records["place"], records["row"], shard_of, np.concatenate(orders), records["hash"])
    by_priority = np.lexsort(keys)
    repeated = by_priority[_stood_before(records[by_priority])]
    may_be_cut = np.array([not shard.always_stays for shard in comparison.shards], bool)
    repeated = repeated[may_be_cut[shard_of[repeated]]]
    repeated = repeated[np.lexsort((repeated, shard_of[repeated]))]
    found = np.zeros(len(repeated), REPEATED)
    found["row"] = records["row"][repeated]
    found["place"] = records["place"][repeated]
    path = files.repeated.of_partition(partition)
    starts = starts_of_parts(shard_of[repeated], len(comparison.shards))
    record = write_parts(path, found, starts)
    return {"repeated": len(found), "files": {files.repeated.name(path): record}}


def _stood_before(records: np.ndarray) -> np.ndarray:
    """Tell of each paragraph whether an equal one that is whole comes before it, `(n,) bool`.

    `records`: `(n,)` of PARAGRAPH, equal ones side by side in the order of priority.
    """
    whole_before = np.cumsum(records["is_whole"]) - records["is_whole"]
    hashes = records["hash"]
    is_first = np.ones(len(records), bool)
    is_first[1:] = hashes[1:] != hashes[:-1]
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    return whole_before > whole_before[first]


def write_cuts(table: Path, shard: int, partitions: int, folder: Path) -> CutShard:
    """Write the spans of the paragraphs of one shard that stood before."""
    own = read_comparison(table).shards[shard]
    files = ComparisonFolder(folder)
    parts = [np.zeros(0, REPEATED)]
    for partition in range(partitions):
        parts.append(read_part(files.repeated.of_partition(partition), REPEATED, shard))
    repeated = np.concatenate(parts)
    repeated = repeated[np.lexsort((repeated["place"], repeated["row"]))]

    # The records have the paragraphs' numbers; the annotations say where they stand.
    column = annotation_column(own, PARAGRAPHS)
    spans = column.flatten()
    number = list_bounds(column)[repeated["row"]] + repeated["place"]
    start = spans.field("start").to_numpy()[number]
    end = spans.field("end").to_numpy()[number]
    cuts = pa.table(
        {"row": repeated["row"].astype(np.int64), "start": start, "end": end}, schema=CUTS
    )
    path = files.cuts.of_shard(own.name)
    return {
        "spans": len(repeated),
        "characters": _characters_of(repeated["row"].astype(np.int64), start, end),
        "files": {files.cuts.name(path): write_parquet(cuts, path)},
    }


def _characters_of(row: np.ndarray, start: np.ndarray, end: np.ndarray) -> int:
    """Return the characters in spans that ascend by row and start; overlaps count once."""
    if not len(row):
        return 0
    # Each row's text lies behind that of the row before.
    offset = row * (int(end.max()) + 1)
    reached = np.maximum.accumulate(end + offset)
    first_new = start + offset
    first_new[1:] = np.maximum(first_new[1:], reached[:-1])
    return int(np.maximum(end + offset - first_new, 0).sum())

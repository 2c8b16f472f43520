"""Exact duplicates: documents with the same key, of which the first in the order of priority stays.

Two work items a key. `write_keys` writes the keys of a group of shards, divided by the hash of the
key; `find_losers` reads one part of all these files and writes which documents lose, and to which
one, divided by the group of the loser. So no item reads more than its part, and nothing depends on
the workers.

Keys are taken one after another, and a document that one of them has removed is no longer compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from pipeline.config.curation.select_section import DuplicateKey
from pipeline.corpus.annotating.annotation_file import read_annotations
from pipeline.corpus.documents import open_shard
from pipeline.corpus.near_duplicates.partition_file import read_part, starts_of_parts, write_parts
from pipeline.corpus.parquet_tables import read_parquet
from pipeline.corpus.selecting.judge import DRAFT, TEXT_HASH
from pipeline.corpus.selecting.judged_shards import ALWAYS_STAYS, JudgedShard
from pipeline.corpus.selecting.shard_list import ShardList
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

KEYED = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("rank", "<u4"),
        ("size", "<u8"),
        ("shard", "<u4"),
        ("row", "<u4"),
    ]
)
"""A document with its key: 128 bits of hash, rank, bytes of text, number of its shard, row."""
LOSER = np.dtype([("shard", "<u4"), ("row", "<u4"), ("to_shard", "<u4"), ("to_row", "<u4")])
"""A document that is removed, and the document that stays."""
PARTITION_DOCUMENTS = 4_000_000
"""Documents of a part, about: 150 MB of records, sorted in 500 MB."""


@dataclass(frozen=True)
class LoserFiles:
    """What `find_losers` wrote of all parts."""

    reason: str
    """Reason for which these documents are removed."""
    folder: Path
    parts: int

    @property
    def paths(self) -> list[Path]:
        """The file of each part."""
        return [losers_path(self.folder, part) for part in range(self.parts)]

    def of_group(self, group: int) -> np.ndarray:
        """Return the documents of a group of shards that lost, `(documents,)` of LOSER."""
        parts = [read_part(path, LOSER, group) for path in self.paths]
        return np.concatenate([np.zeros(0, LOSER), *parts])


class WrittenRound(TypedDict):
    """Result of a work item of the search for duplicates."""

    files: Mapping[str, FileRecord]
    """Path below the folder of the round -> size and checksum."""
    documents: int
    """Documents compared, or removed."""


def keys_path(folder: Path, group: int) -> Path:
    """Return the file of the keys of a group of shards."""
    return folder / f"{group:06d}.keys"


def losers_path(folder: Path, part: int) -> Path:
    """Return the file of the losers of a part."""
    return folder / f"{part:06d}.losers"


def partitions_of(documents: int) -> int:
    """Return the number of parts that keys are divided into."""
    return max(1, -(-documents // PARTITION_DOCUMENTS))


def write_keys(
    folders: Mapping[str, Path],
    shards: Sequence[JudgedShard],
    key: DuplicateKey,
    earlier: Sequence[LoserFiles],
    group: int,
    partitions: int,
    output: Path,
) -> WrittenRound:
    """Write the keys of the documents of a group that nothing has removed so far.

    `folders`: those of `documents`, `annotations` and `drafts`. `earlier`: losers of the keys
    before. `group`: number of the group. Raises DataError where a file is damaged.
    """
    lost = np.concatenate([np.zeros(0, LOSER), *(files.of_group(group) for files in earlier)])
    parts: list[np.ndarray] = [np.zeros(0, KEYED)]
    for number, shard in enumerate(shards, 1):
        parts.append(_keys_of_shard(folders, shard, key, lost))
        report_progress(number / len(shards), documents=sum(map(len, parts)))
    records = np.concatenate(parts)
    # The highest bits choose the part.
    part = (records["high"] >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)
    order = np.argsort(part, kind="stable")
    record = write_parts(output, records[order], starts_of_parts(part[order], partitions))
    return {"files": {output.name: record}, "documents": len(records)}


def _keys_of_shard(
    folders: Mapping[str, Path], shard: JudgedShard, key: DuplicateKey, lost: np.ndarray
) -> np.ndarray:
    """Return the keys of the documents of a shard that are still there, `(documents,)` of KEYED."""
    draft = read_parquet(folders["drafts"] / shard.name, DRAFT, SELECT_AGAIN)
    is_there = draft["reasons"].combine_chunks().value_lengths().to_numpy() == 0
    is_there[lost["row"][lost["shard"] == shard.number]] = False
    sizes = draft["size"].to_numpy()
    records = np.zeros(len(sizes), KEYED)
    has_key = np.zeros(len(sizes), bool)
    for row, digest in enumerate(_digests(folders, shard, key)):
        if digest is not None and is_there[row]:
            has_key[row] = True
            records["high"][row] = int.from_bytes(digest[:8], "big")
            records["low"][row] = int.from_bytes(digest[8:], "big")
    records["rank"] = shard.rank
    records["size"] = sizes
    records["shard"] = shard.number
    records["row"] = np.arange(len(sizes))
    return records[has_key]


def _digests(
    folders: Mapping[str, Path], shard: JudgedShard, key: DuplicateKey
) -> Iterator[bytes | None]:
    """Yield 16 bytes of hash for each document of a shard; None where it has no such key."""
    if key == "text_hash":
        path = folders["annotations"] / shard.name
        for table in read_annotations(path, shard.documents, [TEXT_HASH]):
            yield from table[TEXT_HASH].to_pylist()
        return
    with open_shard(folders["documents"] / shard.name) as file:
        for group in range(file.num_row_groups):
            metas: pa.ChunkedArray = file.read_row_group(group, columns=["meta"])["meta"]
            for meta in metas:
                yield _digest_of_meta(meta.as_py(), key, shard.source)


def _digest_of_meta(meta: str, key: DuplicateKey, source: str) -> bytes | None:
    value = orjson.loads(meta).get(key)
    if value is None or isinstance(value, dict | list) or value == "":
        return None
    text = str(value)
    if key == "id":
        # Two sources may number their documents from 1.
        text = f"{source}\n{text}"
    return xxhash.xxh3_128_digest(text.encode())


def find_losers(
    keys: Path, groups: int, part: int, shard_list: ShardList, output: Path
) -> WrittenRound:
    """Write which documents of one part lose to a document with the same key.

    `keys`: folder of what `write_keys` wrote, of all groups. Documents of files that are held out
    as a whole never lose.
    """
    paths = [keys_path(keys, group) for group in range(groups)]
    records = np.concatenate(
        [np.zeros(0, KEYED), *(read_part(path, KEYED, part) for path in paths)]
    )
    losers = losers_among(records)
    losers = losers[np.lexsort((losers["row"], losers["shard"]))]
    starts = np.searchsorted(losers["shard"], [0, *shard_list.ends_of_groups()])
    return {
        "files": {output.name: write_parts(output, losers, starts)},
        "documents": len(losers),
    }


def losers_among(records: np.ndarray) -> np.ndarray:
    """Return the documents that lose to the first one with the same key, `(losers,)` of LOSER.

    `records`: `(documents,)` of KEYED, in any order. First is the lowest rank, then the longest
    text, then the first shard and row.
    """
    size = np.iinfo(np.int64).max - records["size"].astype(np.int64)
    fields = (records["row"], records["shard"], size, records["rank"])
    ordered = records[np.lexsort((*fields, records["low"], records["high"]))]
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (
        ordered["low"][1:] != ordered["low"][:-1]
    )
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    loses = ~is_first & (ordered["rank"] != ALWAYS_STAYS)
    losers = np.zeros(int(loses.sum()), LOSER)
    losers["shard"] = ordered["shard"][loses]
    losers["row"] = ordered["row"][loses]
    losers["to_shard"] = ordered["shard"][first[loses]]
    losers["to_row"] = ordered["row"][first[loses]]
    return losers

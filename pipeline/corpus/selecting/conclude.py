"""The last round of `select`: all that was found about a document becomes its verdict.

Reads the drafts of a group of shards and the files of losers; writes the verdicts on each shard, and
which removed documents may be shown as samples.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.duplicates import LOSER, LoserFiles
from pipeline.corpus.selecting.judge import DRAFT
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.partition_files import REMEDY
from pipeline.corpus.selecting.shard_list import ShardList
from pipeline.corpus.selecting.verdicts import SCHEMA, shard_verdicts, write_verdicts
from pipeline.store.curation.verdict_counts import SplitVerdicts
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

CANDIDATES = pa.schema([("reason", pa.string()), ("position", pa.float64()), ("id", pa.string())])
"""Columns of the documents that may be shown: the smallest hashes of each reason."""
SAMPLES = 20
"""Removed documents that are shown of each reason in each source."""
HELD_OUT_COPY = "held-out-copy"


class ConcludedShards(TypedDict):
    """Result of the work item of one group of shards."""

    files: Mapping[str, FileRecord]
    """Path below the stage's folder -> size and checksum."""
    splits: dict[str, SplitVerdicts]
    digests: dict[str, str]
    """Shard -> hash of what readers take of it."""


@dataclass
class _Verdicts:
    """Verdicts on one shard before they are written, a value a row."""

    reasons: list[list[str]]
    lost_to: dict[int, str] = field(default_factory=dict[int, str])


def conclude_shards(
    selection: Path,
    drafts: Path,
    shards: Sequence[JudgedShard],
    group: int,
    losses: Sequence[LoserFiles],
    shard_list: ShardList,
    candidates: Path,
) -> ConcludedShards:
    """Write the verdicts on each shard of a group.

    `candidates`: file of the documents that may be shown. Raises DataError where a file of an earlier round is damaged.
    """
    lost = [(each.reason, each.of_group(group)) for each in losses]
    files: dict[str, FileRecord] = {}
    splits: dict[str, SplitVerdicts] = {}
    digests: dict[str, str] = {}
    shown: list[tuple[str, float, str]] = []
    for number, shard in enumerate(shards, 1):
        draft = read_parquet(drafts / shard.name, DRAFT, REMEDY)
        verdicts = _Verdicts(draft["reasons"].to_pylist())
        for reason, rows in lost:
            _add_losses(verdicts, reason, rows[rows["shard"] == shard.number], shard, shard_list)
        table = _table_of(verdicts, draft)
        files[shard.name] = write_verdicts(table, selection / shard.name)
        digests[shard.name] = shard_verdicts(table).digest
        counts = splits.setdefault(shard.split, empty_counts())
        count_verdicts(counts, table, draft["size"].to_numpy())
        shown = _smallest([*shown, *_candidates(table, shard)])
        report_progress(number / len(shards), documents=sum(s["kept"] for s in splits.values()))
    columns = zip(*shown, strict=True) if shown else [[], [], []]
    found = dict(zip(CANDIDATES.names, map(list, columns), strict=True))
    # Listed, so that the item is done again where it is gone.
    record = write_parquet(pa.table(found, schema=CANDIDATES), candidates)
    files[candidates.relative_to(selection).as_posix()] = record
    return {"files": files, "splits": splits, "digests": digests}


def empty_counts() -> SplitVerdicts:
    """Return counts of no document."""
    return {
        "documents": 0,
        "text_bytes": 0,
        "kept": 0,
        "kept_bytes": 0,
        "cut": 0,
        "removed": {},
    }


def _add_losses(
    verdicts: _Verdicts,
    reason: str,
    lost: np.ndarray,
    shard: JudgedShard,
    shard_list: ShardList,
) -> None:
    """Add the documents of a shard that lost, `(documents,)` of LOSER, for one reason."""
    if not len(lost):
        return
    assert lost.dtype == LOSER
    identities = shard_list.identities
    splits = shard_list.splits
    for row, to_shard, to_row in zip(
        lost["row"].tolist(), lost["to_shard"].tolist(), lost["to_row"].tolist(), strict=True
    ):
        if shard.split == "train" and splits[to_shard] == "validation":
            verdicts.reasons[row].append(HELD_OUT_COPY)
        verdicts.reasons[row].append(reason)
        verdicts.lost_to[row] = f"{identities[to_shard]}/{to_row}"


def _table_of(verdicts: _Verdicts, draft: pa.Table) -> pa.Table:
    rows = range(draft.num_rows)
    reasons = verdicts.reasons
    columns = {
        "row": list(rows),
        "keep": [not each for each in reasons],
        "reason": [each[0] if each else None for each in reasons],
        "reasons": reasons,
        "lost_to": [verdicts.lost_to.get(row) for row in rows],
        "jaccard": [None] * len(rows),
        "spans": draft["spans"],
    }
    return pa.table(columns, schema=SCHEMA)


def count_verdicts(counts: SplitVerdicts, table: pa.Table, sizes: np.ndarray) -> None:
    """Add the verdicts on a shard to counts. `sizes`: bytes of each text, `(rows,)`."""
    keep = table["keep"].to_numpy()
    counts["documents"] += len(keep)
    counts["text_bytes"] += int(sizes.sum())
    counts["kept"] += int(keep.sum())
    counts["kept_bytes"] += int(sizes[keep].sum())
    counts["cut"] += len(shard_verdicts(table).cuts)
    for row, reason in enumerate(table["reason"].to_pylist()):
        if reason is not None:
            removed = counts["removed"].setdefault(reason, {"documents": 0, "text_bytes": 0})
            removed["documents"] += 1
            removed["text_bytes"] += int(sizes[row])


def _candidates(table: pa.Table, shard: JudgedShard) -> Iterator[tuple[str, float, str]]:
    for row, reason in enumerate(table["reason"].to_pylist()):
        if reason is not None:
            identity = f"{shard.identity}/{row}"
            yield reason, sample_position(identity), identity


def sample_position(identity: str) -> float:
    """Return the position of a document among those that may be shown, in [0, 1)."""
    return xxhash.xxh3_64_intdigest(identity.encode(), seed=2) / 2**64


def _smallest(candidates: Sequence[tuple[str, float, str]]) -> list[tuple[str, float, str]]:
    """Return the first SAMPLES of each reason, by reason and position."""
    of_reason: dict[str, int] = defaultdict(int)
    smallest: list[tuple[str, float, str]] = []
    for each in sorted(candidates):
        of_reason[each[0]] += 1
        if of_reason[each[0]] <= SAMPLES:
            smallest.append(each)
    return smallest

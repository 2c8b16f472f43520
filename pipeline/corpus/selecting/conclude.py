"""The last round of `select`: all that was found about a document becomes its verdict.

Reads the drafts of a group of shards and the files of losers; writes the verdicts on each shard, and
which removed documents may be shown as samples.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.corpus.documents import read_documents
from pipeline.corpus.near_duplicates.verdict_files import read_near_duplicates
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.duplicates import LOSER, LoserFiles
from pipeline.corpus.selecting.emptied import is_blank_without, paragraphs_to_cut
from pipeline.corpus.selecting.judge import DRAFT, EMPTY
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.shard_list import ShardList
from pipeline.corpus.selecting.verdicts import (
    SCHEMA,
    Cut,
    joined_cuts,
    separated_cuts,
    shard_verdicts,
    write_verdicts,
)
from pipeline.store.curation.selection_folder import SELECT_AGAIN
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
    spans: list[list[Cut]]
    lost_to: dict[int, str] = field(default_factory=dict[int, str])
    jaccard: dict[int, float] = field(default_factory=dict[int, float])


class FoundOfGroup(NamedTuple):
    """Where the rounds before have written what they found of a group of shards."""

    group: int
    losses: Sequence[LoserFiles]
    """Documents that lost to others with the same key."""
    near: Mapping[str, Path]
    """Path of a shard -> its near-duplicates."""
    paragraphs: Mapping[str, Path]
    """Path of a shard -> its repeated paragraphs."""


def conclude_shards(
    folders: Mapping[str, Path],
    shards: Sequence[JudgedShard],
    found: FoundOfGroup,
    shard_list: ShardList,
    candidates: Path,
) -> ConcludedShards:
    """Write the verdicts on each shard of a group.

    `folders`: those of `documents`, `drafts` and `selection`. `candidates`: file of the documents
    that may be shown. Raises DataError where a file of an earlier round is damaged.
    """
    # What the rounds before have found.
    selection = folders["selection"]
    lost = [(each.reason, each.of_group(found.group)) for each in found.losses]

    # The verdicts of one shard after another.
    files: dict[str, FileRecord] = {}
    splits: dict[str, SplitVerdicts] = {}
    digests: dict[str, str] = {}
    shown: list[tuple[str, float, str]] = []
    for number, shard in enumerate(shards, 1):
        draft = read_parquet(folders["drafts"] / shard.name, DRAFT, SELECT_AGAIN)
        verdicts = _Verdicts(draft["reasons"].to_pylist(), draft["spans"].to_pylist())
        for reason, rows in lost:
            _add_losses(verdicts, reason, rows[rows["shard"] == shard.number], shard, shard_list)
        if shard.name in found.near and not shard.always_stays:
            _add_near_duplicates(verdicts, read_near_duplicates(found.near[shard.name]), shard)
        cuts: dict[int, list[Cut]] = {}
        if shard.name in found.paragraphs and not shard.always_stays:
            cuts = paragraphs_to_cut(found.paragraphs[shard.name])
        _finish_cuts(verdicts, cuts, folders["documents"] / shard.name)
        table = _table_of(verdicts)
        files[shard.name] = write_verdicts(table, selection / shard.name)
        digests[shard.name] = shard_verdicts(table).digest
        counts = splits.setdefault(shard.split, empty_counts())
        count_verdicts(counts, table, draft["size"].to_numpy())
        shown = _smallest([*shown, *_candidates(table, shard)])
        report_progress(number / len(shards), documents=sum(s["kept"] for s in splits.values()))
    rows = [dict(zip(CANDIDATES.names, each, strict=True)) for each in shown]
    # Listed, so that the item is done again where it is gone.
    record = write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), candidates)
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


def _add_near_duplicates(verdicts: _Verdicts, lost: pa.Table, shard: JudgedShard) -> None:
    """Add the documents of a shard that are almost the same as one that stays."""
    for row in lost.to_pylist():
        number: int = row["row"]
        _, stem, _ = row["lost_to"].split("/")
        if shard.split == "train" and stem.startswith("validation_"):
            verdicts.reasons[number].append(HELD_OUT_COPY)
        verdicts.reasons[number].append("near-duplicate")
        verdicts.lost_to[number] = row["lost_to"]
        verdicts.jaccard[number] = row["jaccard"]


def _finish_cuts(verdicts: _Verdicts, paragraphs: Mapping[int, list[Cut]], shard: Path) -> None:
    """Add repeated paragraphs by row, and what separates the words on both sides of a cut."""
    cut_out = {
        row
        for row, cuts in enumerate(verdicts.spans)
        if any(not cut["replacement"] for cut in cuts)
    }
    rows = sorted(cut_out | paragraphs.keys())
    for number, document in zip(rows, read_documents(shard, rows, ["text"]), strict=True):
        text = document["text"]
        parts = [*verdicts.spans[number], *paragraphs.get(number, ())]
        spans, _ = joined_cuts(parts, len(text))
        verdicts.spans[number] = separated_cuts(text, spans)
        # Whether a document is blank without its paragraphs; without other parts is known.
        if number not in paragraphs:
            continue
        if not verdicts.reasons[number] and is_blank_without(text, parts):
            verdicts.reasons[number].append(EMPTY)


def _table_of(verdicts: _Verdicts) -> pa.Table:
    reasons = verdicts.reasons
    rows = range(len(reasons))
    columns = {
        "row": list(rows),
        "keep": [not each for each in reasons],
        "reason": [next(iter(each), None) for each in reasons],
        "reasons": reasons,
        "lost_to": [verdicts.lost_to.get(row) for row in rows],
        "jaccard": [verdicts.jaccard.get(row) for row in rows],
        "spans": verdicts.spans,
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

"""Verdicts on documents: the Parquet file of a shard, a row for each row of its documents.

Writes and reads `data_dir/selection/<source>/<shard>.parquet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.corpus.parquet_tables import read_parquet, row_numbers, write_parquet
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.manifests.moved_files import existing_place
from pipeline.store.records import FileRecord

SPAN = pa.struct(
    [
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("replacement", pa.string()),
        ("reason", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("keep", pa.bool_()),
        ("reason", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("lost_to", pa.string()),
        ("jaccard", pa.float64()),
        ("spans", pa.list_(SPAN)),
    ]
)
"""Columns of the file; `Verdict` describes them."""


class Cut(TypedDict):
    """A part of a document that readers replace."""

    start: int
    """First character of the text, in Unicode code points."""
    end: int
    """Character after the last one."""
    replacement: str
    """Text in its place; where the part is cut out it is empty, or the white space that separates what
    stands before and behind it."""
    reason: str


class Verdict(TypedDict):
    """A row of the file: what readers take of a document, and why."""

    row: int
    """Row of the document in its shard."""
    keep: bool
    reason: str | None
    """The first reason for which the document is removed; None where it is kept."""
    reasons: list[str]
    """All reasons."""
    lost_to: str | None
    """Id of the document that stays in favour of which this one is removed."""
    jaccard: float | None
    """Exact similarity of the two documents' shingles; None where it was not computed."""
    spans: list[Cut]
    """Parts that readers replace, ascending, none overlapping another."""


@dataclass(frozen=True)
class ShardVerdicts:
    """What readers need of the verdicts on one shard."""

    keep: np.ndarray
    """Whether each document is read, `(rows,) bool`."""
    cuts: Mapping[int, Sequence[Cut]] = field(default_factory=dict[int, list[Cut]])
    """Row -> what is replaced in the document; only of documents that are kept."""

    @property
    def changes_nothing(self) -> bool:
        """Whether all documents are read as they are."""
        return bool(self.keep.all()) and not self.cuts

    @property
    def digest(self) -> str:
        """Hash of what readers take of the shard; empty where that is all of it."""
        if self.changes_nothing:
            return ""
        digest = xxhash.xxh3_128(np.packbits(self.keep).tobytes())
        digest.update(str(len(self.keep)).encode())
        for row, cuts in sorted(self.cuts.items()):
            for cut in cuts:
                part = f"\n{row} {cut['start']} {cut['end']} {cut['replacement']}"
                digest.update(part.encode())
        return digest.hexdigest()


def write_verdicts(table: pa.Table, path: Path) -> FileRecord:
    """Write the verdicts on a shard; return size and checksum of the file."""
    return write_parquet(table.cast(SCHEMA), path)


def read_verdicts(path: Path) -> pa.Table:
    """Return the verdicts on a shard. Raises DataError where they are missing or damaged."""
    return read_parquet(existing_place(path), SCHEMA, SELECT_AGAIN)


def shard_verdicts(table: pa.Table) -> ShardVerdicts:
    """Return what readers need of a table of verdicts."""
    keep = table["keep"].to_numpy()
    lengths = pc.call_function("list_value_length", [table["spans"]])
    has_cuts = keep & (lengths.fill_null(0).to_numpy() > 0)
    rows = np.flatnonzero(has_cuts)
    lists: list[list[Cut]] = table["spans"].take(row_numbers(rows)).to_pylist()
    return ShardVerdicts(keep, dict(zip(rows.tolist(), lists, strict=True)))


def apply_cuts(text: str, cuts: Sequence[Cut]) -> str:
    """Return a text with the parts replaced."""
    parts: list[str] = []
    start = 0
    for cut in cuts:
        parts += [text[start : cut["start"]], cut["replacement"]]
        start = cut["end"]
    return "".join([*parts, text[start:]])


def joined_cuts(cuts: Sequence[Cut], characters: int) -> tuple[list[Cut], int]:
    """Return cuts ascending, without overlap and within a text, and how many were clamped.

    `characters`: length of the text. Of two that overlap the first keeps its replacement and takes
    the place of both. A part that is empty or lies behind the text is left out.
    """
    joined: list[Cut] = []
    clamped = 0
    for cut in sorted(cuts, key=lambda each: (each["start"], -each["end"])):
        start = max(0, cut["start"])
        end = min(cut["end"], characters)
        clamped += (start, end) != (cut["start"], cut["end"])
        if start >= end:
            continue
        if joined and start < joined[-1]["end"]:
            joined[-1]["end"] = max(end, joined[-1]["end"])
        else:
            joined.append({**cut, "start": start, "end": end})
    return joined, clamped


def separated_cuts(text: str, cuts: Sequence[Cut]) -> list[Cut]:
    """Return cuts that join no two words: white space where none is left on either side.

    `cuts`: as `joined_cuts` returns them. A part that is cut out between two characters that are no
    white space is replaced by a newline where it has one, else by a blank.
    """
    # The first character behind each part that stays, also where parts follow each other.
    behind: list[str] = [""] * len(cuts)
    for number in reversed(range(len(cuts))):
        end = cuts[number]["end"]
        behind[number] = text[end : end + 1]
        if number + 1 < len(cuts) and cuts[number + 1]["start"] == end:
            behind[number] = cuts[number + 1]["replacement"][:1] or behind[number + 1]

    separated: list[Cut] = []
    before = ""
    reached = 0
    for cut, first_behind in zip(cuts, behind, strict=True):
        if cut["start"] > reached:
            before = text[cut["start"] - 1]
        reached = cut["end"]
        replacement = cut["replacement"]
        sides = (before, first_behind)
        if not replacement and all(side and not side.isspace() for side in sides):
            is_across_lines = "\n" in text[cut["start"] : cut["end"]]
            replacement = "\n" if is_across_lines else " "
        separated.append({**cut, "replacement": replacement})
        before = replacement[-1:] or before
    return separated

"""One work item of `annotate`: a shard of documents to its file of annotations.

Columns of parts whose fingerprint has not changed are taken from the file that is there; the bytes are
the same as if all were computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.annotating.annotation_file import AnnotationWriter
from pipeline.corpus.annotating.columns import column_of
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.earlier_columns import EarlierColumns
from pipeline.corpus.annotating.part import AnnotationPart, Value
from pipeline.corpus.annotating.published_rows import PublishedRows, PublishedSource
from pipeline.corpus.documents import open_shard, shard_footer
from pipeline.corpus.parquet_tables import text_lengths
from pipeline.corpus.trees.published_record import PublishedRecord
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

BATCH_BYTES = 64 * 2**20
"""Bytes of text, and of spans that it may have, in a row group of annotations."""
BLOCK_CHARACTERS = 2**20
"""Characters of documents that one part works on before the next part does. A processor keeps what a
part needs (code, a model, an index) in its caches: taking turns after each document costs a quarter
more. Words and numbers of a block's documents take some 20 MB."""
LINE_BYTES = 200
"""Bytes counted for the spans of a line: a start, an end and a value in each of seven columns."""


@dataclass(frozen=True)
class AskedParts:
    """What a work item computes."""

    parts: Sequence[AnnotationPart]
    fingerprints: Mapping[str, str]
    """Part -> fingerprint of its columns of this shard."""
    published: PublishedSource | None
    """The published corpus that the documents are of, where parts read what it has beside them."""


class AnnotatedShard(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    text_bytes: int
    clamped: int
    """Published spans that reached beyond their text, and were cut at its end."""
    files: dict[str, FileRecord]
    """Logical name of the file (`store/manifests/shard_places.py`) -> size and checksum."""


def annotate_shard(
    shard: Path,
    checksum: str,
    output: Path,
    name: str,
    asked: AskedParts,
) -> AnnotatedShard:
    """Write the annotations of one shard.

    `checksum`: that of the shard. `name`: logical name of `output`, `source/stem.parquet`. Raises DataError
    where the shard is missing or damaged.
    """
    parts = asked.parts
    fields = [field for part in parts for field in part.fields()]
    documents = 0
    text_bytes = 0
    clamped = 0
    with (
        EarlierColumns(output, checksum, parts, asked.fingerprints) as earlier,
        AnnotationWriter(output, fields, checksum, asked.fingerprints) as writer,
    ):
        published = PublishedRows(asked.published, shard)
        total = shard_footer(shard).num_rows
        for number, rows in enumerate(_batches(shard)):
            known = earlier.read(number, rows["id"])
            # Columns that have not changed are copied; the others are computed.
            waiting = [part for part in parts if part.name not in known]
            records = published.read(documents, len(rows["id"]), waiting)
            columns = known | _computed(rows, records, waiting)
            clamped += sum(record.clamped for record in records if record is not None)
            writer.add([rows["id"], *(array for part in parts for array in columns[part.name])])

            # Count what is done, for the board and the manifest.
            documents += len(rows["id"])
            text_bytes += int(text_lengths(pa.chunked_array([rows["text"]])).sum())
            report_progress(documents / total, documents=documents, text_bytes=text_bytes)
        record = writer.finish()
    return {
        "documents": documents,
        "text_bytes": text_bytes,
        "clamped": clamped,
        "files": {name: record},
    }


def _computed(
    rows: Mapping[str, pa.Array],
    published: Sequence[PublishedRecord | None],
    parts: Sequence[AnnotationPart],
) -> dict[str, list[pa.Array]]:
    """Return the columns of some parts: what parts share of a document is made once."""
    values: list[list[list[Value]]] = [[[] for _ in part.fields()] for part in parts]
    if parts:
        for documents in _blocks(rows, published):
            _append_values(values, documents, parts)
    columns: dict[str, list[pa.Array]] = {}
    for part, of_part in zip(parts, values, strict=True):
        columns[part.name] = []
        for field in part.fields():
            # The values of a column are freed as soon as they are joined.
            columns[part.name].append(column_of(of_part.pop(0), field.type))
    return columns


def _append_values(
    values: Sequence[Sequence[list[Value]]],
    documents: Sequence[DocumentText],
    parts: Sequence[AnnotationPart],
) -> None:
    """Append the values of documents to each column of each part."""
    for part, columns in zip(parts, values, strict=True):
        for document in documents:
            for column, value in zip(columns, part.values(document), strict=True):
                column.append(value)


def _blocks(
    rows: Mapping[str, pa.Array], published: Sequence[PublishedRecord | None]
) -> Iterator[list[DocumentText]]:
    """Yield the documents in blocks of about BLOCK_CHARACTERS."""
    block: list[DocumentText] = []
    characters = 0
    for identity, text, record in zip(rows["id"], rows["text"], published, strict=True):
        document = DocumentText(text.as_py(), identity.as_py(), record)
        block.append(document)
        characters += len(document)
        if characters >= BLOCK_CHARACTERS:
            yield block
            block = []
            characters = 0
    if block:
        yield block


def _batches(shard: Path) -> Iterator[dict[str, pa.Array]]:
    """Yield ids and texts of a shard in batches of bounded size, which depend on the texts alone."""
    for group in range(shard_footer(shard).num_row_groups):
        with open_shard(shard) as file:
            table = file.read_row_group(group, columns=["id", "text"], use_threads=False)
        columns = {name: table[name].combine_chunks() for name in ("id", "text")}
        lines = pc.call_function(
            "count_substring", [table["text"]], pc.MatchSubstringOptions("\n")
        ).to_numpy()
        sizes = text_lengths(table["text"]) + LINE_BYTES * (lines + 1)
        start = 0
        while start < len(sizes):
            # At least one document, however large it is.
            fitting = int(np.searchsorted(np.cumsum(sizes[start:]), BATCH_BYTES, "right"))
            count = max(1, fitting)
            yield {name: column.slice(start, count) for name, column in columns.items()}
            start += count

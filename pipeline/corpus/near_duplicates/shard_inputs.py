"""What the comparison reads of a shard: texts, columns of its annotations, which documents take part."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.annotating.annotation_file import ANNOTATE_AGAIN, read_annotations
from pipeline.corpus.documents import open_shard, texts_of_group
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.parquet_tables import read_parquet, text_lengths
from pipeline.errors import DataError
from pipeline.store.curation.selection_folder import SELECT_AGAIN

CUT_OUT = pa.field("cut_out", pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64())])))
"""Characters of a document that others than this room cut, in any order."""
KEEP = pa.schema([pa.field("keep", pa.bool_()), CUT_OUT])
"""Columns of the file that says which documents of a shard take part."""


def taking_part(shard: ComparedShard) -> np.ndarray:
    """Return which documents of a shard take part, `(rows,) bool`.

    Raises DataError where the file that says so is damaged or has another number of rows.
    """
    if shard.keep is None:
        return np.ones(shard.rows, bool)
    return _column_of_kept(shard, shard.keep, "keep").to_numpy()


def cut_out_of(shard: ComparedShard) -> pa.Array | None:
    """Return what others cut of each document, `(rows,) CUT_OUT`; None where they cut nothing.

    Raises DataError as `taking_part` does.
    """
    if shard.keep is None:
        return None
    return _column_of_kept(shard, shard.keep, CUT_OUT.name).combine_chunks()


def _column_of_kept(shard: ComparedShard, path: Path, column: str) -> pa.ChunkedArray:
    table = read_parquet(path, pa.schema([KEEP.field(column)]), SELECT_AGAIN)
    if table.num_rows != shard.rows:
        raise DataError(
            f"{path}: has {table.num_rows:,} rows and its documents {shard.rows:,}. {SELECT_AGAIN}"
        )
    return table[column]


def annotation_column(shard: ComparedShard, field: pa.Field) -> pa.Array:
    """Return a column of a shard's annotations.

    Raises DataError where the annotations are damaged, describe other documents or have another
    number of rows.
    """
    parts = [
        part[field.name].cast(field.type)
        for part in read_annotations(shard.annotations, shard.checksum, [field.name])
    ]
    chunks = [chunk for part in parts for chunk in part.chunks]
    column = pa.chunked_array(chunks, field.type).combine_chunks()
    if len(column) != shard.rows:
        raise DataError(
            f"{shard.annotations}: has {len(column):,} rows and its documents {shard.rows:,}. "
            f"{ANNOTATE_AGAIN}"
        )
    return column


def bytes_of_texts(shard: ComparedShard) -> np.ndarray:
    """Return the size of each document's text in UTF-8, `(rows,) int64`."""
    parts = [np.zeros(0, np.int64)]
    with open_shard(shard.documents) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["text"], use_threads=False)
            parts.append(text_lengths(table["text"]))
    sizes = np.concatenate(parts)
    if len(sizes) != shard.rows:
        raise DataError(
            f"{shard.documents}: has {len(sizes):,} documents and not {shard.rows:,}. "
            "Run `pipeline annotate` again."
        )
    return sizes


def texts_of_rows(shard: ComparedShard, rows: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield `(row, text)` of ascending rows, `(n,) int64`, holding one row group in memory."""
    first = 0
    with open_shard(shard.documents) as file:
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(rows, [first, end])
            if low < high:
                texts = texts_of_group(file, group)
                for row in rows[low:high].tolist():
                    yield row, str(texts[row - first], "utf-8")
            first = end


def list_bounds(column: pa.Array) -> np.ndarray:
    """Return the bounds of each row's values among the flattened values, `(rows + 1,) int64`."""
    lengths = pc.call_function("list_value_length", [column]).fill_null(0).to_numpy()
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])

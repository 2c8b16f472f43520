"""Documents on disk: Parquet shards that any Parquet reader opens, their writer and their readers.

`data_dir/documents/<source>/<split>_TTTTT_PPP.parquet`: task T, part P. A document's id is `source/shard stem/row`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),  # 64-bit offsets: a row group may hold more than 2 GiB of one huge document
        ("meta", pa.string()),  # JSON: irregular structs would give every shard its own schema
        ("origin_file", pa.string()),
        ("origin_row", pa.int64()),
    ]
)
ROW_GROUP_BYTES = 8 * 2**20
"""Text and meta in a row group, which is what a reader holds in memory; a larger document has one of its own."""


@dataclass(frozen=True)
class Document:
    """One text and where it came from."""

    text: str
    meta: str
    """JSON object."""
    origin_file: str
    origin_row: int


class ShardWriter:
    """Writes the documents of one task and split as shards, each under its final name only once it is complete."""

    def __init__(self, folder: Path, split: str, task: int, shard_text_bytes: int) -> None:
        self._folder = folder
        self._prefix = f"{split}_{task:05d}"
        self._shard_text_bytes = shard_text_bytes
        self._paths: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[tuple[str, str, str, str, int]] = []
        self._waiting_bytes = self._shard_bytes = self._shard_rows = 0

    def add(self, document: Document, text_bytes: int) -> None:
        """Append a document whose text has `text_bytes` bytes of UTF-8."""
        row_bytes = text_bytes + len(document.meta)
        if self._waiting and self._waiting_bytes + row_bytes > ROW_GROUP_BYTES:
            self._write_row_group()
        stem = f"{self._prefix}_{len(self._paths):03d}"
        key = f"{self._folder.name}/{stem}/{self._shard_rows}"
        self._waiting.append((key, document.text, document.meta, document.origin_file, document.origin_row))
        self._waiting_bytes += row_bytes
        self._shard_bytes += text_bytes
        self._shard_rows += 1
        if self._shard_bytes >= self._shard_text_bytes:
            self._finish_shard()

    def close(self) -> list[Path]:
        """Complete the last shard and return all of them."""
        if self._shard_rows:
            self._finish_shard()
        return self._paths

    def _temporary(self) -> Path:
        return self._folder / f".{self._prefix}_{len(self._paths):03d}.parquet.partial"

    def _write_row_group(self) -> None:
        if self._writer is None:
            # Dictionaries and statistics are for columns of few short values; these are texts, each its own.
            self._writer = pq.ParquetWriter(
                self._temporary(), SCHEMA, compression="zstd", use_dictionary=False, write_statistics=False
            )
        columns = zip(*self._waiting, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._waiting, self._waiting_bytes = [], 0

    def _finish_shard(self) -> None:
        self._write_row_group()
        assert self._writer is not None
        self._writer.close()
        temporary = self._temporary()
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        path = self._folder / f"{self._prefix}_{len(self._paths):03d}.parquet"
        temporary.replace(path)
        self._paths.append(path)
        self._writer, self._shard_bytes, self._shard_rows = None, 0, 0


def remove_task_outputs(folder: Path, task: int) -> None:
    """Delete the shards, finished or not, of one task."""
    for split in SPLITS:
        for pattern in (f"{split}_{task:05d}_*.parquet", f".{split}_{task:05d}_*.parquet.partial"):
            for path in folder.glob(pattern):
                path.unlink()


def shard_paths(documents_dir: Path, source: str, split: str) -> list[Path]:
    """Return a source's shards of a split in their order; empty if it has none."""
    return sorted((documents_dir / source).glob(f"{split}_*.parquet"))


def iterate_texts(documents_dir: Path, source: str, split: str) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of every document in order, holding one row group in memory."""
    for path in shard_paths(documents_dir, source, split):
        with pq.ParquetFile(path) as shard:
            for group in range(shard.num_row_groups):
                table = shard.read_row_group(group, columns=["id", "text"])
                for key, text in zip(table["id"], table["text"], strict=True):
                    yield key.as_py(), text.as_py()

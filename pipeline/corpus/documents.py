"""Documents on disk: Parquet shards that any Parquet reader opens, their writer and their readers.

`data_dir/documents/<source>/<split>_<key>_PPP.parquet`: part P of the task with that key, and
beside it the original ids and urls of its documents as `.keys` (`key_file.py`). A document's id is
`source/shard stem/row`.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus import key_file
from pipeline.errors import DataError
from pipeline.store.artifacts import missing_files
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import read_json, temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.records import FileRecord, ListedFile

SPLITS = ("train", "validation")
SHARD_SUFFIX = ".parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        (
            "text",
            pa.large_string(),
        ),  # 64-bit offsets: a row group may hold more than 2 GiB of one huge document
        ("meta", pa.string()),  # JSON: irregular structs would give every shard its own schema
        ("origin_file", pa.string()),
        ("origin_row", pa.int64()),
    ]
)
ROW_GROUP_BYTES = 8 * 2**20
"""Of rows in a row group, which is what a reader holds in memory; a larger document has one of its
own."""
ROW_BYTES = 100
"""Counted for a row besides its text and meta, so that a row group of millions of tiny documents is
bounded too."""
COMPRESSION_LEVEL = 1
"""Of zstd. Level 3 makes shards 12 % smaller (44.7 instead of 50.8 MB of 139.7 MB of text) and
writing them 1.5 times as long, which is half of all work."""


PREPARE_AGAIN = (
    "Run `pipeline prepare` with the same run file: it makes again what is missing and keeps all "
    "other documents."
)


class Document(NamedTuple):
    """One text and where it came from."""

    text: bytes
    """UTF-8, valid."""
    meta: bytes
    """JSON object."""
    origin_file: str
    origin_row: int


class ShardWriter:
    """Writes the documents of one task and split as shards, each under its final name only once it
    is complete."""

    def __init__(self, folder: Path, split: str, key: str, shard_text_bytes: int) -> None:
        self.documents = self.text_bytes = 0
        self._folder = folder
        self._prefix = f"{split}_{key}"
        self._shard_text_bytes = shard_text_bytes
        self._records: dict[str, FileRecord] = {}
        self._parts = 0
        self._keys = key_file.ShardKeys()
        self._temporary: Path | None = None
        self._file: ChecksummedFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[Document] = []
        self._waiting_bytes = self._shard_bytes = self._shard_rows = 0

    def add(self, document: Document) -> None:
        """Append a document."""
        text_bytes = len(document.text)
        row_bytes = text_bytes + len(document.meta) + ROW_BYTES
        if self._waiting and self._waiting_bytes + row_bytes > ROW_GROUP_BYTES:
            self._write_row_group()
        self._waiting.append(document)
        self._waiting_bytes += row_bytes
        self._shard_bytes += text_bytes
        self.text_bytes += text_bytes
        self.documents += 1
        if self._shard_bytes >= self._shard_text_bytes:
            self._finish_shard()
        elif (
            self._waiting_bytes >= ROW_GROUP_BYTES
        ):  # a huge one does not wait for the next, which may be huge too
            self._write_row_group()

    def close(self) -> dict[str, FileRecord]:
        """Complete the last shard and return `{file name: {"bytes", "checksum"}}` of all."""
        if self._waiting or self._shard_rows:
            self._finish_shard()
        return self._records

    def discard(self) -> None:
        """Remove what has no final name yet, after an error and whatever it was.

        What has one stays: of a worker that outlived its run the next run may have written it, too.
        """
        if self._writer is not None and self._writer.is_open:
            # It would write its footer, into a closed file, when it is deleted.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer.is_open = False
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def _stem(self) -> str:
        return f"{self._prefix}_{self._parts:03d}"

    def _write_row_group(self) -> None:
        if self._writer is None:
            # A name of its own for each attempt: a worker believed dead may still be writing.
            self._temporary = temporary_path(document_shard(self._folder, self._stem()))
            self._file = ChecksummedFile(self._temporary)
            # Dictionaries and statistics are for columns of few short values; these are texts, each
            # its own.
            self._writer = pq.ParquetWriter(
                self._file,
                SCHEMA,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=False,
                write_statistics=False,
            )
        first = self._shard_rows
        rows = len(self._waiting)
        texts, metas, files, origin_rows = zip(*self._waiting, strict=True)
        waiting_bytes = self._waiting_bytes
        self._waiting = []
        self._waiting_bytes = 0
        self._keys.add(metas, first)
        shard = f"{self._folder.name}/{self._stem()}"
        columns = [
            pa.array([f"{shard}/{row}" for row in range(first, first + rows)], pa.string()),
            _text_column(texts),
            pa.array(metas, pa.binary()).view(pa.string()),
            pa.array(files, pa.string()),
            pa.array(origin_rows, pa.int64()),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._shard_rows += rows
        if waiting_bytes > 2 * ROW_GROUP_BYTES:
            pa.default_memory_pool().release_unused()  # it would keep what a huge document took, for the next one

    def _finish_shard(self) -> None:
        if self._waiting:
            self._write_row_group()
        assert self._writer is not None and self._file is not None and self._temporary is not None
        self._writer.close()
        self._file.fsync()
        self._file.close()
        shard = document_shard(self._folder, self._stem())
        keys = key_file.keys_path(shard)
        self._records[keys.name] = self._keys.write(keys)
        self._temporary.replace(shard)  # last: no shard stands there without its keys
        self._records[shard.name] = self._file.record()
        self._writer = self._file = self._temporary = None
        self._keys = key_file.ShardKeys()
        self._parts += 1
        self._shard_bytes = self._shard_rows = 0


def _text_column(texts: Sequence[bytes]) -> pa.Array:
    """Return texts as `large_string`; a single huge one is not copied, as joining it gives
    itself."""
    offsets = pa.array(accumulate(map(len, texts), initial=0), pa.int64())
    buffers = [None, offsets.buffers()[1], pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def remove_task_outputs(folder: Path, key: str) -> None:
    """Delete the finished shards of one task; looks at their names only, as the folder may hold
    those of thousands."""
    for split in SPLITS:
        parts = 0
        while any(path.exists() for path in _shard_files(folder, split, key, parts)):
            parts += 1
        for part in reversed(
            range(parts)
        ):  # what is left if it is interrupted begins with part 0 again
            for path in _shard_files(folder, split, key, part):
                path.unlink(missing_ok=True)


def _shard_files(folder: Path, split: str, key: str, part: int) -> list[Path]:
    shard = document_shard(folder, f"{split}_{key}_{part:03d}")
    return [shard, key_file.keys_path(shard)]


def document_shard(source_folder: Path, stem: str) -> Path:
    """Return the Parquet file of a source's shard."""
    return source_folder / f"{stem}{SHARD_SUFFIX}"


def shard_paths(documents_dir: Path, source: str, split: str) -> list[Path]:
    """Return a source's shards of a split in their order, which is by task key; empty if it has
    none.

    They are those that the manifest of `prepare` lists. Raises DataError where there is no
    manifest, or one of these files is missing or has another size.
    """
    of_split = {
        name: record
        for name, record in listed_shards(documents_dir).items()
        if name.startswith(f"{source}/{split}_")
    }
    check_files(documents_dir, of_split)
    return [documents_dir / name for name in of_split]


def listed_shards(documents_dir: Path) -> Mapping[str, ListedFile]:
    """Return the shards that the manifest of `prepare` lists, by name and sorted. Raises DataError
    where there is none."""
    path = manifest_path(documents_dir)
    try:
        status = path.stat()
    except OSError:
        raise DataError(
            f"{documents_dir}: there are no finished documents. Run `pipeline prepare` first."
        ) from None
    return _listed_in(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _listed_in(path: Path, version: tuple[int, ...]) -> Mapping[str, ListedFile]:
    return shard_records(read_json(path)["files"])


def check_files(documents_dir: Path, files: Mapping[str, ListedFile]) -> None:
    """Raise DataError naming those of the manifest's files that are missing or have another
    size."""
    wrong = missing_files(documents_dir, files)
    if wrong:
        raise DataError(f"{documents_dir}: {'; '.join(wrong)}. {PREPARE_AGAIN}")


@contextlib.contextmanager
def naming_damaged_shard(shard: Path) -> Iterator[None]:
    """Turn what fails while a shard is read into a DataError that names it: it has gone, or is no
    Parquet any more."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{shard}: is missing. {PREPARE_AGAIN}") from None
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{shard}: is damaged ({str(error).splitlines()[0]}). Delete it. {PREPARE_AGAIN}"
        ) from None


@contextlib.contextmanager
def open_shard(shard: Path) -> Iterator[pq.ParquetFile]:
    """Open a shard; a DataError names one that is missing or damaged."""
    with naming_damaged_shard(shard), pq.ParquetFile(shard) as file:
        yield file


def shard_footer(shard: Path) -> pq.FileMetaData:
    """Return what a shard says of its rows and row groups, without reading them. Raises DataError
    as `open_shard` does."""
    with naming_damaged_shard(shard):
        return pq.read_metadata(shard)


def texts_of_group(file: pq.ParquetFile, group: int) -> list[memoryview]:
    """Return a row group's texts in UTF-8, views of Arrow's buffer.

    Read with pyarrow itself: importing `datasets` takes longer than encoding 100 MB.
    """
    column = file.read_row_group(group, columns=["text"], use_threads=False)["text"]
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    _, offsets, values = array.buffers()
    bounds = np.frombuffer(offsets, "<i8", len(array) + 1, 8 * array.offset).tolist()
    view = memoryview(values or b"")
    return [view[start:end] for start, end in pairwise(bounds)]


def shard_records(files: Mapping[str, ListedFile]) -> dict[str, ListedFile]:
    """Return the shards among the files that the manifest of `prepare` lists, by name."""
    return {name: record for name, record in sorted(files.items()) if name.endswith(SHARD_SUFFIX)}


def iterate_texts(documents_dir: Path, source: str, split: str) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of every document in order, holding one row group in memory."""
    for path in shard_paths(documents_dir, source, split):
        with open_shard(path) as shard:
            for group in range(shard.num_row_groups):
                table = shard.read_row_group(group, columns=["id", "text"])
                for key, text in zip(table["id"], table["text"], strict=True):
                    yield key.as_py(), text.as_py()


def read_documents(
    path: Path, rows: Sequence[int], columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return some rows of a shard in the order asked for, as `{column: value}`, all columns or
    those named.

    Reads only the row groups that hold them, one at a time. Raises IndexError for a row that the
    shard has not.
    """
    with open_shard(path) as shard:
        sizes = [shard.metadata.row_group(group).num_rows for group in range(shard.num_row_groups)]
        ends = list(accumulate(sizes))
        if rows and not 0 <= min(rows) <= max(rows) < sum(sizes):
            raise IndexError(
                f"{path.name} has {sum(sizes):,} rows; asked for: {min(rows)} to {max(rows)}"
            )
        wanted: dict[int, list[int]] = {}
        for row in dict.fromkeys(rows):
            wanted.setdefault(bisect_right(ends, row), []).append(row)
        found = {}
        for group, of_group in sorted(wanted.items()):
            table = shard.read_row_group(group, columns=columns, use_threads=False)
            first = ends[group] - sizes[group]
            values = table.take(pa.array([row - first for row in of_group])).to_pylist()
            found |= zip(of_group, values, strict=True)
    return [found[row] for row in rows]

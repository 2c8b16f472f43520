"""Documents on disk: Parquet shards that any Parquet reader opens, with their writer and readers.

Writes and reads `data_dir/documents/<source>/<split>_<key>_PPP.parquet`, part P of the task with
that key, and beside each shard a `.keys` file with the original ids and urls of its documents
(`key_file.py`). The id of a document is `source/shard stem/row`.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus import key_file
from pipeline.corpus.parquet_tables import row_numbers, string_column, text_column
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.counts import PrepareCounts
from pipeline.store.files import missing_files, temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.manifests.shard_places import logical_name, part_of, placed, source_of, stem_of
from pipeline.store.records import FileRecord, ListedFile, Manifest

SPLITS = ("train", "validation")
SHARD_SUFFIX = ".parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        # 64-bit offsets: one huge document may make a row group of more than 2 GiB.
        ("text", pa.large_string()),
        # A JSON string: structs differ from row to row and would give each shard its own schema.
        ("meta", pa.string()),
        ("origin_file", pa.string()),
        ("origin_row", pa.int64()),
    ]
)
ROW_GROUP_BYTES = 8 * 2**20
"""Bytes of rows in a row group, which a reader holds in memory at once. A larger document has a row
group of its own."""
ROW_BYTES = 100
"""Bytes counted for a row besides its text and meta: they bound the number of tiny documents in a
row group."""
COMPRESSION_LEVEL = 1
"""Level of zstd. Level 3 would make shards 12 % smaller (44.7 instead of 50.8 MB for 139.7 MB of
text), but writing, which is half of all work, would take 1.5 times as long."""
PREPARE_AGAIN = (
    "Run `pipeline prepare` with the same run file: it makes the missing documents again and keeps "
    "all others."
)
"""Remedy for a shard that is missing or damaged."""


class DocumentRow(TypedDict):
    """A row of a shard as Python values; it holds the columns that were asked for."""

    id: str
    """`source/shard stem/row`."""
    text: str
    meta: str
    """JSON object."""
    origin_file: str
    origin_row: int


@dataclass
class _WaitingColumns:
    """Documents that wait to become a row group, by column: fewer objects than a tuple for each."""

    texts: list[bytes] = field(default_factory=list)
    metas: list[bytes] = field(default_factory=list)
    origin_files: list[bytes] = field(default_factory=list)
    origin_rows: list[int] = field(default_factory=list)
    row_bytes: int = 0


class ShardWriter:
    """Writes the documents of one task and split as shards.

    A shard takes its final name only when it is complete.
    """

    def __init__(
        self, folder: Path, split: str, key: str, shard_text_bytes: int, in_parts: bool = False
    ) -> None:
        """Write nothing yet. `folder`: the source's; `in_parts`: whether shards lie in parts of it."""
        self.documents = 0
        self.text_bytes = 0
        self._source = folder.name
        self._prefix = f"{split}_{key}"
        self._folder = shard_folder(folder, self._stem(0), in_parts)
        self._shard_text_bytes = shard_text_bytes
        self._records: dict[str, FileRecord] = {}
        self._parts = 0
        self._keys = key_file.ShardKeys()
        self._temporary: Path | None = None
        self._file: ChecksummedFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._waiting = _WaitingColumns()
        self._shard_bytes = 0
        self._shard_rows = 0

    def add(self, text: bytes, meta: bytes, origin_file: bytes, origin_row: int) -> None:
        """Append a document. `text`: valid UTF-8; `meta`: a JSON object; `origin_file`: UTF-8.

        Not one record: for short documents it would cost as much as all that is done here.
        """
        text_bytes = len(text)
        row_bytes = text_bytes + len(meta) + ROW_BYTES
        waiting = self._waiting
        if waiting.row_bytes + row_bytes > ROW_GROUP_BYTES and waiting.texts:
            self._write_row_group()
            waiting = self._waiting
        waiting.texts.append(text)
        waiting.metas.append(meta)
        waiting.origin_files.append(origin_file)
        waiting.origin_rows.append(origin_row)
        waiting.row_bytes += row_bytes
        self._shard_bytes += text_bytes
        self.text_bytes += text_bytes
        self.documents += 1
        if self._shard_bytes >= self._shard_text_bytes:
            self._finish_shard()
        elif waiting.row_bytes >= ROW_GROUP_BYTES:
            # A huge document must not wait in memory for the next one, which may be huge, too.
            self._write_row_group()

    def close(self) -> dict[str, FileRecord]:
        """Complete the last shard; return the size and checksum of each file by its name."""
        if self._waiting.texts or self._shard_rows:
            self._finish_shard()
        return self._records

    def discard(self) -> None:
        """Remove the unfinished shard after any error.

        Finished shards are kept: if this worker has outlived its run, the next run may have written
        shards of the same names.
        """
        if self._writer is not None and self._writer.is_open:
            # Left open, it would write its footer into a closed file when it is deleted.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer.is_open = False
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def _stem(self, number: int) -> str:
        return f"{self._prefix}_{number:03d}"

    def _write_row_group(self) -> None:
        if self._writer is None:
            # Each attempt has a file name of its own: a worker believed dead may still be writing.
            self._temporary = temporary_path(document_shard(self._folder, self._stem(self._parts)))
            self._file = ChecksummedFile(self._temporary)
            # Dictionaries and statistics help columns of few short values; here each text differs.
            self._writer = pq.ParquetWriter(
                self._file,
                SCHEMA,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=False,
                write_statistics=False,
            )

        # Take the waiting documents out of the writer, so that they are freed when this returns.
        first = self._shard_rows
        waiting = self._waiting
        rows = len(waiting.texts)
        self._waiting = _WaitingColumns()
        self._keys.add(waiting.metas, first)

        # Ids follow from the place of a document: source, shard and row.
        shard = f"{self._source}/{self._stem(self._parts)}".encode()
        columns = [
            string_column([b"%b/%d" % (shard, row) for row in range(first, first + rows)]),
            text_column(waiting.texts),
            string_column(waiting.metas),
            string_column(waiting.origin_files),
            row_numbers(waiting.origin_rows),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._shard_rows += rows
        if waiting.row_bytes > 2 * ROW_GROUP_BYTES:
            # Arrow's pool would keep the memory of a huge document for later ones.
            pa.default_memory_pool().release_unused()

    def _finish_shard(self) -> None:
        if self._waiting.texts:
            self._write_row_group()
        assert self._writer is not None and self._file is not None and self._temporary is not None
        self._writer.close()
        self._file.fsync()
        self._file.close()
        shard = document_shard(self._folder, self._stem(self._parts))
        keys = key_file.keys_path(shard)
        self._records[keys.name] = self._keys.write(keys)
        # Renamed last: no shard is ever visible without its keys.
        self._temporary.replace(shard)
        self._records[shard.name] = self._file.record()
        self._writer = None
        self._file = None
        self._temporary = None
        self._keys = key_file.ShardKeys()
        self._parts += 1
        self._shard_bytes = 0
        self._shard_rows = 0


def document_shard(folder: Path, stem: str) -> Path:
    """Return the Parquet file of a shard in the folder that holds it."""
    return folder / f"{stem}{SHARD_SUFFIX}"


def shard_folder(source_folder: Path, stem: str, in_parts: bool) -> Path:
    """Return the folder that holds a shard: its source's, or a part of it."""
    if not in_parts:
        return source_folder
    return source_folder / part_of(f"{stem}{SHARD_SUFFIX}")


def listed_name(documents_dir: Path, source: str, stem: str) -> str | None:
    """Return the path of a shard below `documents_dir`, None where no such shard is listed.

    Raises DataError where there is no manifest.
    """
    shards = listed_shards(documents_dir)
    name = f"{source}/{stem}{SHARD_SUFFIX}"
    return next((path for path in (name, placed(name, True)) if path in shards), None)


def shard_path(documents_dir: Path, source: str, stem: str) -> Path:
    """Return the Parquet file of a shard; one that no manifest lists would lie in its source's folder.

    Raises DataError where there is no manifest.
    """
    name = listed_name(documents_dir, source, stem)
    return documents_dir / (name or f"{source}/{stem}{SHARD_SUFFIX}")


def shard_paths(documents_dir: Path, source: str, split: str) -> list[Path]:
    """Return the shards of a source's split that the manifest of `prepare` lists, by task key.

    Empty if there are none. Raises DataError where there is no manifest, or one of these files is
    missing or has another size.
    """
    of_split = {
        name: record
        for name, record in listed_shards(documents_dir).items()
        if source_of(name) == source and split_of(name) == split
    }
    check_files(documents_dir, of_split)
    return [documents_dir / name for name in of_split]


def split_of(path: str) -> str:
    """Return the split of a shard's file, by its name."""
    return stem_of(path).partition("_")[0]


def listed_shards(documents_dir: Path) -> Mapping[str, ListedFile]:
    """Return the shards that the manifest of `prepare` lists: path -> record, by logical name.

    `source_of`, `stem_of`, `split_of` and `logical_name` take such a path apart; a shard lies in the
    folder of its source or in a part of it (`store/manifests/shard_places.py`).

    Raises DataError where there is no manifest.
    """
    path = manifest_path(documents_dir)
    try:
        status = path.stat()
    except OSError:
        raise DataError(
            f"{documents_dir}: holds no finished documents. Run `pipeline prepare` first."
        ) from None
    return _listed_in(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _listed_in(path: Path, version: tuple[int, ...]) -> Mapping[str, ListedFile]:
    manifest: Manifest[PrepareCounts] | None = read_manifest(path)
    assert manifest is not None, "its state was read"
    return shard_records(manifest["files"])


def check_files(documents_dir: Path, files: Mapping[str, ListedFile]) -> None:
    """Raise DataError naming each file that is missing or has another size than listed."""
    wrong = missing_files(documents_dir, files)
    if wrong:
        raise DataError(f"{documents_dir}: {'; '.join(wrong)}. {PREPARE_AGAIN}")


@contextlib.contextmanager
def naming_damaged_shard(shard: Path) -> Generator[None]:
    """Raise DataError with the shard's name where reading finds it missing or not valid Parquet."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{shard}: is missing. {PREPARE_AGAIN}") from None
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{shard}: is damaged ({str(error).splitlines()[0]}). Delete it. {PREPARE_AGAIN}"
        ) from None


@contextlib.contextmanager
def open_shard(shard: Path) -> Generator[pq.ParquetFile]:
    """Open a shard. Raises DataError where it is missing or damaged."""
    with naming_damaged_shard(shard), pq.ParquetFile(shard) as file:
        yield file


def shard_footer(shard: Path) -> pq.FileMetaData:
    """Return the Parquet footer of a shard: the sizes of its row groups, without their rows.

    Raises DataError where the shard is missing or damaged.
    """
    with naming_damaged_shard(shard):
        return pq.read_metadata(shard)


def texts_of_group(file: pq.ParquetFile, group: int) -> list[memoryview]:
    """Return the texts of a row group in UTF-8, as views of Arrow's buffer.

    Uses pyarrow alone: importing `datasets` takes longer than encoding 100 MB.
    """
    column = file.read_row_group(group, columns=["text"], use_threads=False)["text"]
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    _, offsets, values = array.buffers()
    bounds = np.frombuffer(offsets, "<i8", len(array) + 1, 8 * array.offset).tolist()
    view = memoryview(values or b"")
    return [view[start:end] for start, end in pairwise(bounds)]


def shard_records(files: Mapping[str, ListedFile]) -> dict[str, ListedFile]:
    """Return the shards among the files that the manifest of `prepare` lists, by logical name."""
    shards = [name for name in files if name.endswith(SHARD_SUFFIX)]
    return {name: files[name] for name in sorted(shards, key=logical_name)}


def read_documents(
    path: Path, rows: Sequence[int], columns: Sequence[str] | None = None
) -> list[DocumentRow]:
    """Return rows of a shard in the order asked for, with the named columns or with all.

    Reads only the row groups that hold these rows, one at a time. Raises IndexError for a row that
    the shard does not have.
    """
    with open_shard(path) as shard:
        # The footer tells how many rows each group has.
        sizes = [shard.metadata.row_group(group).num_rows for group in range(shard.num_row_groups)]
        ends = list(accumulate(sizes))
        if rows and not 0 <= min(rows) <= max(rows) < sum(sizes):
            raise IndexError(
                f"{path.name} has {sum(sizes):,} rows; rows {min(rows)} to {max(rows)} were requested"
            )

        # Sort the rows by row group, so that each group is read once.
        wanted: dict[int, list[int]] = {}
        for row in dict.fromkeys(rows):
            wanted.setdefault(bisect_right(ends, row), []).append(row)
        documents: dict[int, DocumentRow] = {}
        for group, rows_of_group in sorted(wanted.items()):
            table = shard.read_row_group(group, columns=columns, use_threads=False)
            first = ends[group] - sizes[group]
            places = row_numbers([row - first for row in rows_of_group])
            values = table.take(places).to_pylist()
            documents.update(zip(rows_of_group, values, strict=True))
    return [documents[row] for row in rows]

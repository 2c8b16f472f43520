"""The file of annotations of one documents shard: Parquet, a row for each document, in the same order.

Its metadata names the shard's checksum and the fingerprint of each part. Pages carry checksums, so a
flipped byte is found by whoever reads them. Row groups have bounded size.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DELETE_FIRST, DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import fingerprint, temporary_path
from pipeline.store.manifests.moved_files import existing_place
from pipeline.store.records import FileRecord

DOCUMENTS_KEY = b"documents"
"""Key of the metadata with the checksum of the shard that is annotated."""
PARTS_KEY = b"parts"
"""Key of the metadata with a JSON object: part -> its fingerprint."""
COLUMNS_KEY = b"columns"
"""Key of the metadata with a hash of the names and types of the columns, which no page's checksum
covers."""
ID = pa.field("id", pa.string())
"""The first column, `source/shard stem/row` as in the documents."""
ANNOTATE_AGAIN = (
    f"{DELETE_FIRST}`pipeline annotate` with the same run file makes it again; `pipeline inspect RUN.YAML "
    "--verify` names every damaged file."
)
"""Remedy for a file that is damaged or belongs to other documents."""


class AnnotationWriter:
    """Writes a file of annotations; it takes its final name when it is complete."""

    def __init__(
        self, path: Path, fields: Sequence[pa.Field], documents: str, parts: Mapping[str, str]
    ) -> None:
        """Create the file. `documents`: checksum of the shard. `parts`: name -> fingerprint."""
        metadata = {
            DOCUMENTS_KEY: documents.encode(),
            PARTS_KEY: json.dumps(parts, sort_keys=True).encode(),
            COLUMNS_KEY: _hash_of([ID, *fields]),
        }
        self.schema = pa.schema([ID, *fields], metadata)
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Each attempt has a file name of its own: a worker believed dead may still be writing.
        self._temporary = temporary_path(path)
        self._file = ChecksummedFile(self._temporary)
        leaves = dict(leaf for field in self.schema for leaf in _leaves(field.name, field.type))
        self._writer = pq.ParquetWriter(
            self._file,
            self.schema,
            compression="zstd",
            compression_level=1,
            # Places in texts rise, so their differences are small; hashes do not repeat.
            column_encoding={
                path: "DELTA_BINARY_PACKED" for path, kind in leaves.items() if kind == pa.int64()
            },
            use_dictionary=[  # pyright: ignore[reportArgumentType]  # also a list of columns
                path for path, kind in leaves.items() if kind not in (pa.int64(), pa.uint64())
            ],
            write_statistics=False,
            write_page_checksum=True,
        )

    def __enter__(self) -> AnnotationWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file unless `finish` has given it its name."""
        if self._writer.is_open:
            # Left open, it would write its footer into a closed file when it is deleted.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer.is_open = False
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, columns: Sequence[pa.Array]) -> None:
        """Append a row group."""
        self._writer.write_table(pa.Table.from_arrays(list(columns), schema=self.schema))

    def finish(self) -> FileRecord:
        """Complete the file; return its size and checksum."""
        self._writer.close()
        self._file.fsync()
        self._file.close()
        self._temporary.replace(self._path)
        return self._file.record()


@contextlib.contextmanager
def naming_damaged_annotations(path: Path) -> Generator[None]:
    """Raise DataError with the file's name where reading finds it missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{path}: is missing. Run `pipeline annotate` with the same run file: it makes this file "
            "again."
        ) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is damaged ({reason}). {ANNOTATE_AGAIN}") from None


@contextlib.contextmanager
def open_annotations(path: Path, documents: str) -> Generator[pq.ParquetFile]:
    """Open the annotations of a shard whose checksum is `documents`; damaged pages are found.

    Raises DataError where the file is missing, damaged, or describes other documents.
    """
    # Documents may have been moved since, and these annotations not.
    path = existing_place(path)
    with (
        naming_damaged_annotations(path),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        if _metadata(file).get(COLUMNS_KEY) != _hash_of(file.schema_arrow):
            raise DataError(f"{path}: is damaged (its list of columns). {ANNOTATE_AGAIN}")
        described = _metadata(file).get(DOCUMENTS_KEY, b"").decode(errors="replace")
        if described != documents:
            raise DataError(
                f"{path}: annotates other documents: of checksum {described or 'none'}, and the "
                f"shard's is {documents}. {ANNOTATE_AGAIN}"
            )
        yield file


def read_annotations(
    path: Path, documents: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the row groups of a file of annotations, with the named columns or with all.

    `documents`: checksum of the shard. Raises DataError as `open_annotations`, and for a column that
    does not exist.
    """
    with open_annotations(path, documents) as file:
        absent = [name for name in columns or () if name not in file.schema_arrow.names]
        if absent:
            raise DataError(
                f"{path}: has no column {', '.join(absent)}; columns are "
                f"{', '.join(file.schema_arrow.names)}. Ask for it in the section `annotate`, then "
                "run `pipeline annotate`."
            )
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns, use_threads=False)


def parts_of(file: pq.ParquetFile) -> Mapping[str, str]:
    """Return the parts of a file of annotations, name -> fingerprint."""
    try:
        return json.loads(_metadata(file).get(PARTS_KEY, b"{}"))
    except ValueError:
        return {}


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the columns of Parquet that a column of Arrow becomes: path and type."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def _hash_of(fields: Iterable[pa.Field]) -> bytes:
    """Return a hash of the names and types of columns."""
    return fingerprint([[field.name, str(field.type)] for field in fields]).encode()


def _metadata(file: pq.ParquetFile) -> Mapping[bytes, bytes]:
    return file.schema_arrow.metadata or {}

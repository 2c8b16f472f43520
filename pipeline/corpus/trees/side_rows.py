"""Rows of a side file by their numbers, read forward once: a merge join with the documents.

Memory: a block of the file and one row, or of Parquet 256 rows, whatever the size of the file.
Reads the file, on this machine or on a server.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.urls import RawPath
from pipeline.corpus.raw_files import (
    FileBroken,
    content_blocks,
    open_for_library,
    request_bytes,
)
from pipeline.corpus.remote.listing import list_url
from pipeline.corpus.rows import split_at
from pipeline.corpus.trees.published_record import wrong_row
from pipeline.errors import DataError, UserError

BATCH_ROWS = 256
"""Rows of Parquet that are decoded at once."""


def locate_side_file(file: RawPath) -> RawPath | None:
    """Return a side file as it is read; None where it does not exist."""
    if isinstance(file, Path):
        return file if file.is_file() else None
    return next((listed.file for listed in list_url(file).files if listed.below is None), None)


class JsonSideRows:
    """Rows of a file of JSON lines, plain or compressed."""

    def __init__(self, file: RawPath) -> None:
        self.file = file
        blocks = content_blocks(file, lambda head: None, lambda count: None)
        self._lines = enumerate(split_at(blocks, b"\n"))
        self._rows = 0

    def line(self, number: int) -> bytes | bytearray:
        """Return a line, from 0; numbers must ascend. Blank lines count.

        Raises DataError where the file ends before it, or the line is blank.
        """
        with naming_broken_file(self.file):
            for place, line in self._lines:
                if line and not line.isspace():
                    self._rows = place + 1
                if place == number and self._rows == place + 1:
                    return line
                if self._rows > number + 1:
                    raise wrong_row(self.file, number, "is blank")
        raise too_short(self.file, number, self._rows)


class ParquetSideRows:
    """Rows of a Parquet file, some of its columns."""

    def __init__(self, file: RawPath, columns: Sequence[str]) -> None:
        """Read nothing yet. `columns`: those that the file must have."""
        self.file = file
        self._columns = columns
        self._batches = self._read()
        self._batch: list[dict[str, Any]] = []
        self._start = 0
        self._end = 0

    def row(self, number: int) -> dict[str, Any]:
        """Return the columns of a row, from 0; numbers must ascend.

        Raises DataError where the file ends before it.
        """
        with naming_broken_file(self.file):
            while number >= self._end:
                batch = next(self._batches, None)
                if batch is None:
                    raise too_short(self.file, number, self._end)
                self._start = self._end
                self._end += batch.num_rows
                self._batch = batch.to_pylist() if number < self._end else []
        return self._batch[number - self._start]

    def all_rows(self) -> Iterator[dict[str, Any]]:
        """Yield every row in order, instead of asking for some."""
        with naming_broken_file(self.file):
            for batch in self._batches:
                yield from batch.to_pylist()

    def _read(self) -> Generator[pa.RecordBatch]:
        with (
            open_for_library(self.file) as source,
            # With a buffer, and not read ahead, a column chunk is read as it is decoded.
            pq.ParquetFile(
                source, buffer_size=request_bytes(self.file), pre_buffer=False
            ) as parquet,
        ):
            missing = [name for name in self._columns if name not in parquet.schema_arrow.names]
            if missing:
                raise FileBroken(
                    self.file,
                    f"has no column {', '.join(missing)}, but {', '.join(parquet.schema_arrow.names)}",
                )
            yield from parquet.iter_batches(
                BATCH_ROWS, columns=list(self._columns), use_threads=False
            )


def too_short(file: RawPath, number: int, rows: int) -> DataError:
    """Return the error of a side file that ends before a row."""
    return DataError(
        f"{file}: has {rows:,} rows, so none for row {number:,} of the documents beside it. "
        "Download the file again."
    )


@contextmanager
def naming_broken_file(file: RawPath) -> Generator[None]:
    """Raise FileBroken where a file cannot be read, or is no Parquet."""
    try:
        yield
    except (MemoryError, UserError):
        # Arrow's MemoryError is an ArrowException, too.
        raise
    except OSError as error:
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise FileBroken(file, f"not readable as Parquet: {str(error).splitlines()[0]}") from None
    except ValueError as error:
        # For example text that is no UTF-8.
        raise FileBroken(file, f"holds a value that cannot be read ({error})") from None

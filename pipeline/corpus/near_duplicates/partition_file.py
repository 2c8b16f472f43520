"""Files of fixed-size records in parts, each part with its place and its checksum.

A work item writes one file however many parts its records have, and a reader of one part reads that
part alone. All numbers are little-endian: the records; n + 1 uint64, the first record of each part and
the number of records; n uint64, the xxh3_64 of each part; as uint64 the number n of parts and the bytes
of a record; 8 bytes of magic.
"""

import os
from array import array
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash

from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.files import temporary_path
from pipeline.store.records import FileRecord

MAGIC = b"PARTS\0\0\1"
NUMBER_BYTES = 8
TRAILER_BYTES = 2 * NUMBER_BYTES + len(MAGIC)
BLOCK_BYTES = 4 << 20
"""Bytes of parts that wait to be written at once."""


class PartsWriter:
    """Writes a file part by part; use it as a context, and `finish` it.

    Readers find the old file, the whole new one or none.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._dtype = dtype
        self._temporary = temporary_path(path)
        self._file = ChecksummedFile(self._temporary)
        self._bounds = array("Q", [0])
        self._checksums = array("Q")
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __enter__(self) -> "PartsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, records: np.ndarray) -> None:
        """Append the next part, which may have no records."""
        assert records.dtype == self._dtype
        content = records.tobytes()
        self._checksums.append(_checksum(content, len(self._checksums)))
        self._bounds.append(self._bounds[-1] + len(records))
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if self._waiting_bytes >= BLOCK_BYTES:
            self._write()

    def finish(self) -> FileRecord:
        """Complete the file; return its size and checksum."""
        for numbers in (self._bounds, self._checksums):
            self._waiting.append(np.array(numbers, "<u8").tobytes())
        sizes = np.array([len(self._checksums), self._dtype.itemsize], "<u8")
        self._waiting += [sizes.tobytes(), MAGIC]
        self._write()
        self._file.fsync()
        self._temporary.replace(self._path)
        return self._file.record()

    def _write(self) -> None:
        self._file.write(b"".join(self._waiting))
        self._waiting = []
        self._waiting_bytes = 0


def write_parts(path: Path, records: np.ndarray, starts: np.ndarray) -> FileRecord:
    """Write records, sorted by part, as a file.

    `starts`: `(parts + 1,)`, the first record of each part and the number of records.
    """
    assert starts[0] == 0 and starts[-1] == len(records), "every record is of one part"
    bounds = starts.tolist()
    with PartsWriter(path, records.dtype) as file:
        for part in range(len(bounds) - 1):
            file.add(records[bounds[part] : bounds[part + 1]])
        return file.finish()


def write_records(path: Path, records: np.ndarray) -> FileRecord:
    """Write records as a file of one part."""
    return write_parts(path, records, np.array([0, len(records)]))


def starts_of_parts(part_of_record: np.ndarray, parts: int) -> np.ndarray:
    """Return the first record of each part and the number of records, of ascending part numbers."""
    return np.searchsorted(part_of_record, np.arange(parts + 1))


class PartsFile:
    """A file of parts, open for reading; use it as a context.

    Raises DataError where it is missing, damaged or of other records.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path = path
        self._dtype = dtype
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise DataError(f"{path}: is missing. Run `pipeline select` again.") from None
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self.parts = self._read_trailer()
            """Number of parts."""
        except DataError:
            self._file.close()
            raise
        self._index = self._size - TRAILER_BYTES - (2 * self.parts + 1) * NUMBER_BYTES

    def __enter__(self) -> "PartsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def bounds(self) -> np.ndarray:
        """Return the first record of each part and the number of records, `(parts + 1,) int64`."""
        content = self._read((self.parts + 1) * NUMBER_BYTES, self._index)
        return np.frombuffer(content, "<u8").astype(np.int64)

    def read(self, part: int) -> np.ndarray:
        """Return the records of a part."""
        start, end = np.frombuffer(
            self._read(2 * NUMBER_BYTES, self._index + part * NUMBER_BYTES), "<u8"
        ).tolist()
        size = self._dtype.itemsize
        if start > end or end * size > self._index:
            raise self._damaged(f"the place of part {part} lies outside of it")
        content = self._read((end - start) * size, start * size)
        place = self._index + (self.parts + 1 + part) * NUMBER_BYTES
        expected = int.from_bytes(self._read(NUMBER_BYTES, place), "little")
        if _checksum(content, part) != expected:
            raise self._damaged(f"part {part} has another checksum")
        return np.frombuffer(content, self._dtype)

    def _read_trailer(self) -> int:
        """Return the number of parts."""
        if self._size < TRAILER_BYTES:
            raise self._damaged("it ends too early")
        trailer = self._read(TRAILER_BYTES, self._size - TRAILER_BYTES)
        parts = int.from_bytes(trailer[:NUMBER_BYTES], "little")
        size = int.from_bytes(trailer[NUMBER_BYTES : 2 * NUMBER_BYTES], "little")
        index_bytes = (2 * parts + 1) * NUMBER_BYTES
        is_ours = trailer.endswith(MAGIC) and size == self._dtype.itemsize
        if not is_ours or index_bytes + TRAILER_BYTES > self._size:
            raise self._damaged("its end is not what this version writes")
        return parts

    def _read(self, size: int, place: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = os.pread(self._file.fileno(), size, place)
            if not piece:
                raise self._damaged("it ends too early")
            pieces.append(piece)
            size -= len(piece)
            place += len(piece)
        return b"".join(pieces)

    def _damaged(self, problem: str) -> DataError:
        return DataError(f"{self._path}: is damaged: {problem}. {SELECT_AGAIN}")


def read_records(path: Path, dtype: np.dtype) -> np.ndarray:
    """Return the records of a file of one part."""
    return read_part(path, dtype, 0)


def read_part(path: Path, dtype: np.dtype, part: int) -> np.ndarray:
    """Return the records of one part of a file."""
    with PartsFile(path, dtype) as file:
        return file.read(part)


def _checksum(content: bytes, part: int) -> int:
    """Return the checksum of a part, which tells it from other parts with the same records."""
    return xxhash.xxh3_64_intdigest(content, part)

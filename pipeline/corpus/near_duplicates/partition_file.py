"""Files of fixed-size records in parts, each part with its place and its checksum.

A work item writes one file however many parts its records have, and a reader of one part reads that
part alone. All numbers are little-endian: 8 bytes of magic, then as uint64 the number n of parts and
the bytes of a record; n + 1 uint64, the first record of each part and the number of records; n
uint64, the xxh3_64 of each part; the records.
"""

import os
from pathlib import Path

import numpy as np
import xxhash

from pipeline.corpus.near_duplicates.compared_shards import SELECT_AGAIN
from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.records import FileRecord

MAGIC = b"PARTS\0\0\1"
HEADER_BYTES = len(MAGIC) + 16
NUMBER_BYTES = 8


def write_parts(path: Path, records: np.ndarray, starts: np.ndarray) -> FileRecord:
    """Write records, sorted by part, so that readers find the old file, the whole new one or none.

    `starts`: `(parts + 1,)`, the first record of each part and the number of records.
    """
    # What stands before the records.
    bounds = starts.astype("<u8")
    assert bounds[0] == 0 and bounds[-1] == len(records), "every record is of one part"
    content = np.ascontiguousarray(records).view(np.uint8).reshape(-1)
    size = records.dtype.itemsize
    ends = (starts.astype(np.int64) * size).tolist()
    checksums = np.fromiter(
        (
            _checksum(content.data[ends[part] : ends[part + 1]], part)
            for part in range(len(starts) - 1)
        ),
        "<u8",
        len(starts) - 1,
    )
    header = MAGIC + np.array([len(starts) - 1, size], "<u8").tobytes()

    # Under a name of its own until it is whole.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with ChecksummedFile(temporary) as file:
            file.write(header + bounds.tobytes() + checksums.tobytes())
            file.write(content.data)
            file.fsync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return file.record()


def write_records(path: Path, records: np.ndarray) -> FileRecord:
    """Write records as a file of one part."""
    return write_parts(path, records, np.array([0, len(records)]))


def starts_of_parts(part_of_record: np.ndarray, parts: int) -> np.ndarray:
    """Return the first record of each part and the number of records, of ascending part numbers."""
    return np.searchsorted(part_of_record, np.arange(parts + 1))


class PartsFile:
    """A file of `write_parts`, open for reading; use it as a context.

    Raises DataError where it is missing, damaged or of other records.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path = path
        self._dtype = dtype
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise DataError(f"{path}: is missing. Run `pipeline select` again.") from None
        header = self._read(HEADER_BYTES, 0)
        self.parts = int.from_bytes(header[len(MAGIC) : len(MAGIC) + NUMBER_BYTES], "little")
        """Number of parts."""
        size = int.from_bytes(header[-NUMBER_BYTES:], "little")
        self._first_byte = HEADER_BYTES + (2 * self.parts + 1) * NUMBER_BYTES
        is_ours = header.startswith(MAGIC) and size == dtype.itemsize
        if not is_ours or self._first_byte > path.stat().st_size:
            self._file.close()
            raise self._damaged("its header is not what this version writes")

    def __enter__(self) -> "PartsFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def bounds(self) -> np.ndarray:
        """Return the first record of each part and the number of records, `(parts + 1,) int64`."""
        content = self._read((self.parts + 1) * NUMBER_BYTES, HEADER_BYTES)
        return np.frombuffer(content, "<u8").astype(np.int64)

    def read(self, part: int) -> np.ndarray:
        """Return the records of a part."""
        bounds = np.frombuffer(
            self._read(2 * NUMBER_BYTES, HEADER_BYTES + part * NUMBER_BYTES), "<u8"
        )
        start = int(bounds[0])
        count = int(bounds[1]) - start
        size = self._dtype.itemsize
        whole = os.fstat(self._file.fileno()).st_size
        if count < 0 or self._first_byte + (start + count) * size > whole:
            raise self._damaged(f"the place of part {part} lies outside of it")
        content = self._read(count * size, self._first_byte + start * size)
        place = HEADER_BYTES + (self.parts + 1 + part) * NUMBER_BYTES
        expected = int.from_bytes(self._read(NUMBER_BYTES, place), "little")
        if _checksum(content, part) != expected:
            raise self._damaged(f"part {part} has another checksum")
        return np.frombuffer(content, self._dtype)

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


def _checksum(content: bytes | memoryview, part: int) -> int:
    """Return the checksum of a part, which tells it from other parts with the same records."""
    return xxhash.xxh3_64_intdigest(content, part)

"""Files of records that are divided into parts: what one work item hands to many others.

One file a work item, however many read it: a header with the place and the checksum of each part,
then the records, part after part. Each reader takes its part of every file.
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash

from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.records import FileRecord

MAGIC = b"PARTS\x00\x00\x01"
HEADER = struct.Struct("<8sQQQ")
"""Magic, parts, bytes of a record, checksum (xxh3_64) of the table of parts."""
ENTRY = np.dtype([("end", "<u8"), ("checksum", "<u8")])
"""For each part, the number of records up to its end, and the xxh3_64 of its records."""
REMEDY = "Delete it, then run `pipeline select` again."


def write_parts(path: Path, records: np.ndarray, ends: Sequence[int] | np.ndarray) -> FileRecord:
    """Write records, `(records,)` of any structured type, so that the file is whole or not there.

    `ends`: for each part the number of records up to its end, ascending.
    """
    table = np.zeros(len(ends), ENTRY)
    table["end"] = ends
    starts = [0, *map(int, ends)][:-1]
    for part, (start, end) in enumerate(zip(starts, ends, strict=True)):
        table["checksum"][part] = xxhash.xxh3_64_intdigest(records[start : int(end)].tobytes())
    header = HEADER.pack(
        MAGIC, len(table), records.dtype.itemsize, xxhash.xxh3_64_intdigest(table.tobytes())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with ChecksummedFile(temporary) as file:
            file.write(header + table.tobytes())
            file.write(records.tobytes())
            file.fsync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return file.record()


def read_part(path: Path, part: int, dtype: np.dtype) -> np.ndarray:
    """Return the records of one part, `(records,)`.

    Raises DataError where the file is missing, of another form, or damaged in this part.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            table = _read_table(file.read(HEADER.size), file.fileno(), size, dtype)
            start = int(table["end"][part - 1]) if part else 0
            end = int(table["end"][part])
            first = HEADER.size + table.nbytes
            content = os.pread(
                file.fileno(), (end - start) * dtype.itemsize, first + start * dtype.itemsize
            )
    except FileNotFoundError:
        raise DataError(f"{path}: is missing. {REMEDY}") from None
    except (OSError, ValueError, struct.error) as error:
        raise DataError(f"{path}: is damaged ({error}). {REMEDY}") from None
    is_whole = len(content) == (end - start) * dtype.itemsize
    if not is_whole or xxhash.xxh3_64_intdigest(content) != int(table["checksum"][part]):
        raise DataError(f"{path}: is damaged (part {part} has another checksum). {REMEDY}")
    return np.frombuffer(content, dtype)


def _read_table(header: bytes, descriptor: int, size: int, dtype: np.dtype) -> np.ndarray:
    """Return the table of parts. Raises ValueError where it is not what `write_parts` wrote."""
    magic, parts, itemsize, checksum = HEADER.unpack(header)
    if magic != MAGIC or itemsize != dtype.itemsize or parts * ENTRY.itemsize > size:
        raise ValueError("its header is not one of such records")
    content = os.pread(descriptor, parts * ENTRY.itemsize, HEADER.size)
    if xxhash.xxh3_64_intdigest(content) != checksum:
        raise ValueError("its table of parts has another checksum")
    return np.frombuffer(content, ENTRY)

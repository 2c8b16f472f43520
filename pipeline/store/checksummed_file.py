"""Files whose checksum is taken while they are written."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import xxhash

from pipeline.store.records import FileRecord

if TYPE_CHECKING:
    from typing_extensions import Buffer

PORTION_BYTES = 16 << 20
"""What is given to the operating system at once, and the most that a file which does not stay
cached has in its memory."""


class ChecksummedFile:
    """A file being written whose size and checksum are known at its end, without reading it again.

    A binary sink for whatever writes front to back (pyarrow, numpy, zstandard); nothing is
    buffered, so a caller of many small writes joins them. An error of writing (a full disk) leaves
    as the OSError that it is.
    """

    def __init__(self, path: Path, stays_cached: bool = True) -> None:
        """Begin a file; `stays_cached=False` for one that nobody reads soon.

        It is brought to the disk as it grows, and lets go of the page cache: what others have there
        is not pushed out, and the pages are used again, where new ones can cost more than the
        write.
        """
        self._file = path.open("wb", buffering=0)
        self._stays_cached = stays_cached
        self._uncached = 0
        self._digest = xxhash.xxh3_128()
        self._size = 0

    def __enter__(self) -> ChecksummedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def tell(self) -> int:
        return self._size

    def write(self, content: Buffer) -> int:
        """Append all of a bytes-like object and return its size."""
        with memoryview(content).cast("B") as block:
            self._digest.update(block)
            written = 0
            while written < len(block):  # a call may take less than it is given
                count = self._file.write(block[written : written + PORTION_BYTES])
                written = written + count
                self._size = self._size + count
                if not self._stays_cached and self._size - self._uncached >= PORTION_BYTES:
                    self._let_go()
            return written

    def flush(self) -> None:
        """Nothing: a write is with the operating system when it returns; `fsync` brings it to the
        disk."""

    def fsync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def record(self) -> FileRecord:
        """Return what `file_record` would of the bytes written so far."""
        return {"bytes": self._size, "checksum": self._digest.hexdigest()}

    def _let_go(self) -> None:
        self.fsync()
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._uncached = self._size

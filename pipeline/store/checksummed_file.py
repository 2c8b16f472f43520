"""A file that is written front to back, with its checksum computed on the way."""

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
"""Maximum size of one write, and of the page cache that a file with `stays_cached=False` uses."""


class ChecksummedFile:
    """A file being written whose size and checksum are known at its end, without reading it again.

    A binary sink for pyarrow, numpy, zstandard and others that write front to back. Nothing is
    buffered, so the caller should join small writes. A failed write, as on a full disk, raises the
    OSError unchanged.
    """

    def __init__(self, path: Path, stays_cached: bool = True) -> None:
        """Create or empty the file; `stays_cached=False` for a file that nobody reads soon.

        Such a file is written through to the disk as it grows, and its page cache is released. So
        it does not displace the cached files of others, and reuses its own pages: new pages can
        cost more than the write itself.
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
            # The operating system may accept less than it is given.
            while written < len(block):
                count = self._file.write(block[written : written + PORTION_BYTES])
                written += count
                self._size += count
                if not self._stays_cached and self._size - self._uncached >= PORTION_BYTES:
                    self._release_page_cache()
            return written

    def flush(self) -> None:
        """Do nothing: no write is buffered here. `fsync` writes through to the disk."""

    def fsync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def record(self) -> FileRecord:
        """Return size and checksum of the bytes written so far, as `file_record` does of a file."""
        return {"bytes": self._size, "checksum": self._digest.hexdigest()}

    def _release_page_cache(self) -> None:
        self.fsync()
        # macOS has no posix_fadvise.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._uncached = self._size

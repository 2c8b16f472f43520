"""A file on a server as a stream of bytes that can be read from any place.

Only the ranges that are read come over the network, nothing is kept on disk. A read that breaks off
is tried again; an object that is no longer the one that was listed is refused.
"""

import io
import time
from typing import TYPE_CHECKING, cast

from pipeline.corpus.raw_files import UNREAD, FileChanged
from pipeline.corpus.remote.connection import ANSWER_SECONDS, Unreachable, ask
from pipeline.corpus.remote.listing import Info, ServerFile, status_of, version_of
from pipeline.logs import warn

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.spec import AbstractBufferedFile

ATTEMPTS = 5
"""How often a range is asked for before the task fails. The libraries' own attempts are inside of
each."""
WAIT_SECONDS = 0.5
"""Pause before the second attempt; it doubles with each further one: 7.5 s in all."""


class ServerStream(io.RawIOBase):
    """The bytes of one file on a server; each `read` is one request for its range."""

    def __init__(self, file: ServerFile) -> None:
        """Ask for nothing yet: the first read opens the file."""
        super().__init__()
        self._file = file
        self._position = 0
        self._opened: AbstractBufferedFile | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer as far as the file goes."""
        end = min(self._position + len(buffer), self._file.size)
        if end <= self._position:
            return 0
        content = self._range(self._position, end)
        buffer[: len(content)] = content
        self._position = end
        return len(content)

    def close(self) -> None:
        self._opened = None
        super().close()

    def _range(self, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)`.

        Raises Unreachable after the last attempt, FileChanged where the file is not as listed.
        """
        problem = ""
        wait = WAIT_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask_for(start, end)
            except FileNotFoundError:
                raise FileChanged(self._file, "was removed") from None
            except Unreachable as error:
                # Opened again, the file tells whether it is still the one that was listed.
                self._opened = None
                problem = str(error)
            if attempt < ATTEMPTS:
                warn(
                    f"{self._file}: a read broke off at byte {start:,}; trying again "
                    f"({attempt} of {ATTEMPTS - 1}): {problem}"
                )
                time.sleep(wait)
                wait *= 2
        raise Unreachable(
            f"{self._file}: could not be read from byte {start:,} on, in {ATTEMPTS} attempts. "
            f"{UNREAD}; run the same command again. The last error: {problem}"
        )

    def _ask_for(self, start: int, end: int) -> bytes:
        def request(system: "AbstractFileSystem", path: str) -> bytes:
            if self._opened is None:
                self._opened = self._open(system, path)
            self._opened.seek(start)
            content = self._opened.read(end - start)
            if len(content) != end - start:
                raise ConnectionError(f"{len(content):,} of {end - start:,} bytes came")
            return content

        return ask(self._file, ANSWER_SECONDS, request)

    def _open(self, system: "AbstractFileSystem", path: str) -> "AbstractBufferedFile":
        """Open the file and compare it with the one that was listed.

        It is kept open: opening asks for its status, and s3fs demands the etag of that with each
        range.
        """
        system.invalidate_cache()
        opened = cast("AbstractBufferedFile", system.open(path, "rb", cache_type="none"))
        status: Info | None = getattr(opened, "details", None)
        if status is None or not version_of(status):
            # Files of web servers know their size alone.
            status = system.info(path)
        _compare(self._file, status)
        return opened


def check_version(file: ServerFile) -> None:
    """Raise FileChanged unless a file on a server still is as it was listed."""
    try:
        status = status_of(file)
    except FileNotFoundError:
        raise FileChanged(file, "was removed") from None
    _compare(file, status)


def _compare(file: ServerFile, status: Info) -> None:
    size = status.get("size")
    if size != file.size:
        raise FileChanged(file, f"changed from {file.size:,} to {size:,} bytes")
    version = version_of(status)
    if version != file.version:
        raise FileChanged(file, f"was written to ({file.version or 'nothing'} -> {version})")

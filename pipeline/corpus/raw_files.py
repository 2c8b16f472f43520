"""The content of raw files: opened, checked for change, and decompressed as their suffixes say.

Reads files and writes none. An error of a whole file is raised as FileBroken, and never taken for
the end of its content.
"""

import bz2
import lzma
import os
import stat
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Protocol

import zstandard

from pipeline.config.urls import RawPath
from pipeline.corpus.recognised import why_not_plain
from pipeline.corpus.remote.listing import ServerFile
from pipeline.corpus.row_settings import UTF_8
from pipeline.corpus.transcoding import BytesDoNotFit, transcoded
from pipeline.errors import DataError

BLOCK_BYTES = 512 * 2**10
"""Raw bytes read from a file at once."""
SERVER_BLOCK_BYTES = 4 * 2**20
"""Raw bytes read from a file on a server at once."""
HEAD_BYTES = 4 * 2**10
"""First bytes that are checked where a library opens the file itself."""
PACKED_BYTES = 8 * 2**10
"""Compressed bytes given to a decompressor at once. zstd may turn 4 of them into 131,072 bytes.
Source: RFC 8878, RLE block."""
CONTENT_BYTES = 2**20
"""Maximum size of one block of decompressed content."""
MOST_DICTIONARY_BYTES = 2**31
"""Maximum memory of a decompressor: enough for `zstd --long=31`, as used for large dumps, and for
any `xz` file."""


class FileBroken(DataError):
    """A file cannot be read to its end."""

    def __init__(self, file: RawPath, why: str) -> None:
        self.file = file
        # Some libraries give a reason of several lines.
        self.why = " ".join(why.split())
        super().__init__(f"{file}: {self.why}")


UNREAD = "Nothing of the files that were read with it is kept"
"""Words in the message of every FileChanged, and where a server cannot be read, and of no
FileBroken, by which the stage tells them apart."""


class FileChanged(DataError):
    """A file has changed since the files were listed, so what was read of it cannot be used."""

    def __init__(self, file: RawPath, how: str) -> None:
        super().__init__(
            f"{file}: {how} since the files were listed. {UNREAD}; run the command again when "
            "nothing writes to the file any more."
        )


class Decompressor(Protocol):
    """Interface that the decompressors of all libraries share."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return content of the member."""
        ...

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes after the end of the member."""
        ...


@dataclass(frozen=True)
class Compression:
    """Reader of one compressed format."""

    new_decompressor: Callable[[], Decompressor]
    """Makes a decompressor for one member or frame."""
    may_be_padded: bool = True
    """Whether zero bytes after a member are padding: gzip(1) and xz(1) accept them, zstd(1) does
    not."""


# A new ZstdDecompressor for each frame: its objects share state, and several files may be open.
_ZSTANDARD = Compression(
    lambda: zstandard.ZstdDecompressor(max_window_size=MOST_DICTIONARY_BYTES).decompressobj(),
    may_be_padded=False,
)
COMPRESSIONS = {
    # 31 = 16 + 15: the gzip format, the largest window.
    ".gz": Compression(lambda: zlib.decompressobj(wbits=31)),
    ".zst": _ZSTANDARD,
    ".zstd": _ZSTANDARD,
    ".xz": Compression(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_DICTIONARY_BYTES)
    ),
    ".bz2": Compression(bz2.BZ2Decompressor),
}
"""Suffix of a file's name, in lower case -> how the file is read."""


def content_blocks(
    file: RawPath,
    why_unreadable: Callable[[bytes], str | None],
    advance: Callable[[int], None],
    encoding: str = UTF_8,
) -> Iterator[bytes]:
    """Yield a file's content, decompressed according to its suffix, without a byte order mark.

    Content of another `encoding` becomes UTF-8; content in UTF-8 is not checked. `advance` is called
    with the number of raw bytes read since its last call. Raises FileBroken where the file cannot be
    read to its end, where it does not fit the encoding, and where `why_unreadable` returns a reason
    for the first bytes of the content.
    """
    suffix = file.suffix.lower()
    content = _raw_blocks(file, advance)
    if suffix in COMPRESSIONS:
        content = decompressed(file, content, COMPRESSIONS[suffix])
    if encoding != UTF_8:
        # Some encodings have a character for every byte: what is no text is recognised before.
        content = _as_utf8(file, _checked(file, content, why_not_plain), encoding)
    content = _checked(file, content, why_unreadable)
    yield next(content).removeprefix(BOM_UTF8)
    yield from content


def _checked(
    file: RawPath, content: Iterator[bytes], why_unreadable: Callable[[bytes], str | None]
) -> Iterator[bytes]:
    """Yield content; raise FileBroken where `why_unreadable` returns a reason for its first block.

    The first block is never shorter than a byte order mark, unless all content is.
    """
    head = b""
    for block in content:
        head += block
        if len(head) >= len(BOM_UTF8):
            break
    why = why_unreadable(head)
    if why:
        raise FileBroken(file, why)
    yield head
    yield from content


def _as_utf8(file: RawPath, content: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield content of another encoding as UTF-8; raise FileBroken where it does not fit."""
    try:
        yield from transcoded(content, encoding)
    except BytesDoNotFit as error:
        raise FileBroken(file, str(error)) from None


@contextmanager
def held_unchanged(file: RawPath, size: int, version: int | str) -> Generator[None]:
    """Raise FileChanged unless a file is as it was listed, before and after the `with` block.

    The check afterwards is made even if the block fails. Raises FileBroken where the file cannot be
    opened. Of a file on a server, which is checked when it is opened and with each range of it, this
    asks nothing.
    """
    if not isinstance(file, Path):
        yield
        return
    try:
        held = open_regular(file)
    except OSError as error:
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
    # While the file is open, its inode cannot be given to another file.
    with held:
        before = os.fstat(held.fileno())
        _compare(file, before, size, version)
        try:
            yield
        finally:
            after = _unchanged_status(file, size, version)
            if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
                raise FileChanged(file, "was replaced")


def check_unchanged(file: RawPath, size: int, version: int | str) -> None:
    """Raise FileChanged where a file is gone, or its size, time or etag changed."""
    if isinstance(file, Path):
        _unchanged_status(file, size, version)
    else:
        from pipeline.corpus.remote.server_stream import check_version

        check_version(_on_server(file))


def _unchanged_status(file: Path, size: int, version: int | str) -> os.stat_result:
    try:
        status = file.stat()
    except FileNotFoundError:
        raise FileChanged(file, "was removed") from None
    _compare(file, status, size, version)
    return status


def _compare(file: Path, status: os.stat_result, size: int, version: int | str) -> None:
    if status.st_size != size:
        raise FileChanged(file, f"changed from {size:,} to {status.st_size:,} bytes")
    if status.st_mtime_ns != version:
        raise FileChanged(file, "was written to")


def check_beginning(file: RawPath, why_unreadable: Callable[[bytes], str | None]) -> None:
    """Raise FileBroken where `why_unreadable` returns a reason for the first bytes of a file.

    For files that are not compressed.
    """
    with open_raw(file) as opened:
        why = why_unreadable(opened.read(HEAD_BYTES))
        if why:
            raise FileBroken(file, why)


def open_raw(file: RawPath) -> RawIOBase:
    """Open a raw file for reading, from any place in it, without a buffer.

    Of a file on a server each read is one request. Raises FileBroken where the file is not a regular
    one; FileChanged where one on a server is not as it was listed.
    """
    if isinstance(file, Path):
        return open_regular(file)
    from pipeline.corpus.remote.server_stream import ServerStream

    return ServerStream(_on_server(file))


@contextmanager
def open_for_library(file: RawPath) -> Generator[Path | RawIOBase]:
    """Give what a library opens itself: the path, or of a file on a server its open stream."""
    if isinstance(file, Path):
        yield file
    else:
        with open_raw(file) as opened:
            yield opened


def size_of(file: RawPath) -> int:
    """Return the size of a raw file in bytes."""
    if isinstance(file, Path):
        return file.stat().st_size
    return _on_server(file).size


def request_bytes(file: RawPath) -> int:
    """Return how many bytes to read at once: more of a file on a server, as each read waits for it."""
    if isinstance(file, Path):
        return BLOCK_BYTES
    return SERVER_BLOCK_BYTES


def _on_server(file: RawPath) -> ServerFile:
    assert isinstance(file, ServerFile), "the files of URLs are those that were listed"
    return file


def open_regular(file: Path) -> FileIO:
    """Open a file for reading. Raises FileBroken where it is not a regular file.

    Does not wait for a writer if it is a FIFO.
    """
    opened = os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    mode = os.fstat(opened.fileno()).st_mode
    if not stat.S_ISREG(mode):
        opened.close()
        raise FileBroken(file, f"is {kind_of_file(mode)} and not a regular file")
    return opened


def kind_of_file(mode: int) -> str:
    """Return the kind of a file from its `st_mode`, with an article, for example `a FIFO`."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")


def _raw_blocks(file: RawPath, advance: Callable[[int], None]) -> Iterator[bytes]:
    block_bytes = request_bytes(file)
    with open_raw(file) as opened:
        block = opened.read(block_bytes)
        while block:
            yield block
            advance(len(block))
            block = opened.read(block_bytes)


def decompressed(
    file: RawPath, blocks: Iterable[bytes], compression: Compression
) -> Iterator[bytes]:
    """Yield the content of concatenated members or frames.

    Raises FileBroken where the file ends within a member, and for bytes after a member that are
    neither padding nor a new member: gzip(1) ignores them with a warning, but they may be the rest
    of a damaged file.
    """
    decompressor = None
    position = 0
    members = 0
    for block in split_blocks(blocks, PACKED_BYTES):
        position += len(block)
        while block:
            # Between two members there may be padding.
            if decompressor is None and members and compression.may_be_padded:
                block = block.lstrip(b"\0")
                if not block:
                    break

            decompressor = decompressor or compression.new_decompressor()
            try:
                yield from split_blocks(_inflated(decompressor, block), CONTENT_BYTES)
            except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError) as error:
                where = "its beginning"
                if position > PACKED_BYTES or members:
                    where = f"the frame before byte {position:,}"
                reason = f"not valid {file.suffix} data in {where} ({error})"
                raise FileBroken(file, reason) from None

            # The bytes after the end of a member belong to the next one.
            block = b""
            if decompressor.eof:
                block = decompressor.unused_data
                decompressor = None
                members += 1

    # A valid file has at least one member, and ends at the end of a member.
    if position == 0:
        raise FileBroken(file, f"is empty, which no {file.suffix} file is")
    if decompressor is not None:
        raise FileBroken(
            file,
            f"is truncated: its {file.suffix} data ends after {position:,} bytes within a frame",
        )


def _inflated(decompressor: Decompressor, block: bytes) -> Iterator[bytes]:
    """Yield the content of a block of compressed bytes.

    Content of xz and bzip2 comes in bounded parts: one block may give gigabytes.
    """
    if not isinstance(decompressor, lzma.LZMADecompressor | bz2.BZ2Decompressor):
        yield decompressor.decompress(block)
        return
    yield decompressor.decompress(block, CONTENT_BYTES)
    while not decompressor.eof and not decompressor.needs_input:
        yield decompressor.decompress(b"", CONTENT_BYTES)


def split_blocks(blocks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield the blocks, each divided into parts of at most `most_bytes` bytes."""
    for block in blocks:
        for start in range(0, len(block), most_bytes):
            yield block[start : start + most_bytes]

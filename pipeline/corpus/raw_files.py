"""The content of raw files: opened, decompressed as their names say, and recognised where they are
no text at all.

Reads files; what is wrong with a whole file is raised as FileBroken and never taken for the end of
its content.
"""

import bz2
import lzma
import os
import stat
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import zstandard

from pipeline.errors import DataError

BLOCK_BYTES = 512 * 2**10
"""Raw bytes taken from a file at once."""
HEAD_BYTES = 4 * 2**10
"""Looked at where a library opens the file itself."""
PACKED_BYTES = 8 * 2**10
"""Compressed bytes given to a decompressor at once: zstd may make 131072 bytes of 4 (RFC 8878, an
RLE block)."""
CONTENT_BYTES = 2**20
"""Content handed on at once."""
MOST_DICTIONARY_BYTES = 2**31
"""Memory that a decompressor may take: what `zstd --long=31`, as used for large dumps, and any `xz`
need for reading."""


class FileBroken(DataError):
    """A file cannot be read to its end."""

    def __init__(self, file: Path, why: str) -> None:
        self.file = file
        self.why = " ".join(why.split())  # libraries give reasons of several lines
        super().__init__(f"{file}: {self.why}")


CHANGED = "since the files were listed"
"""What the message of a file that changed says, and that of a broken one does not."""


class FileChanged(DataError):
    """A file is not any more what it was when the files were listed: what was read of it is of no
    use."""

    def __init__(self, file: Path, how: str) -> None:
        super().__init__(
            f"{file}: {how} {CHANGED}. Nothing that was read beside it is kept; run the command "
            "again when "
            f"nothing writes to it any more."
        )


@dataclass(frozen=True)
class Compression:
    """How one format is read."""

    new_decompressor: Callable[[], Any]
    """Returns an object with `decompress`, `eof` and `unused_data`, for one member or frame."""
    may_be_padded: bool = True
    """Zero bytes after a member are padding, as gzip(1) and xz(1) take them; zstd(1) refuses
    them."""


# A decompressor for each frame: objects of one share its state, and files are read side by side.
_ZSTANDARD = Compression(
    lambda: zstandard.ZstdDecompressor(max_window_size=MOST_DICTIONARY_BYTES).decompressobj(),
    may_be_padded=False,
)
COMPRESSIONS = {
    ".gz": Compression(lambda: zlib.decompressobj(wbits=31)),  # 16 + 15: gzip, largest window
    ".zst": _ZSTANDARD,
    ".zstd": _ZSTANDARD,
    ".xz": Compression(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_DICTIONARY_BYTES)
    ),
    ".bz2": Compression(bz2.BZ2Decompressor),
}
"""By the suffix of a file's name, in lower case."""


def content_blocks(
    file: Path, why_unreadable: Callable[[bytes], str | None], advance: Callable[[int], None]
) -> Iterator[bytes]:
    """Yield a file's content, decompressed as its name says, without a byte order mark.

    `advance` is called with the number of raw bytes read since its last call. Raises FileBroken
    where the file cannot be read to its end, and where `why_unreadable` gives a reason for its
    beginning.
    """
    suffix = file.suffix.lower()
    content = _raw_blocks(file, advance)
    if suffix in COMPRESSIONS:
        content = decompressed(file, content, COMPRESSIONS[suffix])
    head = b""
    for block in content:
        head += block
        if len(head) >= len(BOM_UTF8):
            break
    why = why_unreadable(head)
    if why:
        raise FileBroken(file, why)
    yield head.removeprefix(BOM_UTF8)
    yield from content


@contextmanager
def held_unchanged(file: Path, size: int, modified_ns: int) -> Iterator[None]:
    """Raise FileChanged unless a file is as it was listed, before what is done in here and after
    it, failed or not.

    Raises FileBroken where it cannot be opened.
    """
    try:
        held = open_regular(file)
    except OSError as error:
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
    with held:  # so that its inode is not given to another file
        before = os.fstat(held.fileno())
        _compare(file, before, size, modified_ns)
        try:
            yield
        finally:
            after = check_unchanged(file, size, modified_ns)
            if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
                raise FileChanged(file, "was replaced")


def check_unchanged(file: Path, size: int, modified_ns: int) -> os.stat_result:
    """Return a file's status; raises FileChanged where its size or its time of change is another,
    or it is gone."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise FileChanged(file, "was removed") from None
    _compare(file, status, size, modified_ns)
    return status


def _compare(file: Path, status: os.stat_result, size: int, modified_ns: int) -> None:
    if status.st_size != size:
        raise FileChanged(file, f"changed from {size:,} to {status.st_size:,} bytes")
    if status.st_mtime_ns != modified_ns:
        raise FileChanged(file, "was written to")


def check_beginning(file: Path, why_unreadable: Callable[[bytes], str | None]) -> None:
    """Raise FileBroken where `why_unreadable` gives a reason for the first bytes of an uncompressed
    file."""
    with open_regular(file) as opened:
        why = why_unreadable(opened.read(HEAD_BYTES))
        if why:
            raise FileBroken(file, why)


def open_regular(file: Path) -> FileIO:
    """Open a file for reading; raises FileBroken for what is no regular file, without waiting for a
    writer of a FIFO."""
    opened = os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    mode = os.fstat(opened.fileno()).st_mode
    if not stat.S_ISREG(mode):
        opened.close()
        raise FileBroken(file, f"is {kind_of_file(mode)}, which is not read")
    return opened


def kind_of_file(mode: int) -> str:
    """Return what a file is by its `st_mode`, with an article."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")


def _raw_blocks(file: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with open_regular(file) as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block
            advance(len(block))


def decompressed(file: Path, blocks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """Yield the content of concatenated members or frames.

    Raises FileBroken where the file ends within one, and for anything after one that neither begins
    another nor is padding: what gzip(1) ignores with a warning may be the rest of a damaged file.
    """
    decompressor = None
    position = members = 0
    for block in split_blocks(blocks, PACKED_BYTES):
        position += len(block)
        while block:
            if decompressor is None and members and compression.may_be_padded:
                block = block.lstrip(b"\0")
                if not block:
                    break
            decompressor = decompressor or compression.new_decompressor()
            try:
                yield from split_blocks(_inflated(decompressor, block), CONTENT_BYTES)
            except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError) as error:
                where = (
                    f"the frame before byte {position:,}"
                    if position > PACKED_BYTES or members
                    else "its beginning"
                )
                raise FileBroken(
                    file, f"not valid {file.suffix} data in {where} ({error})"
                ) from None
            block = b""
            if decompressor.eof:
                block = decompressor.unused_data
                decompressor = None
                members += 1
    if position == 0:
        raise FileBroken(file, f"is empty, which no {file.suffix} file is")
    if decompressor is not None:
        raise FileBroken(
            file,
            f"is truncated: its {file.suffix} data ends after {position:,} bytes within a frame",
        )


def _inflated(decompressor: Any, block: bytes) -> Iterator[bytes]:
    """Yield what a block of compressed bytes gives; xz and bzip2, which may make gigabytes of it,
    in bounded parts."""
    if not isinstance(decompressor, lzma.LZMADecompressor | bz2.BZ2Decompressor):
        yield decompressor.decompress(block)
        return
    yield decompressor.decompress(block, CONTENT_BYTES)
    while not decompressor.eof and not decompressor.needs_input:
        yield decompressor.decompress(b"", CONTENT_BYTES)


def split_blocks(blocks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield the blocks, each divided into parts of at most so many bytes."""
    for block in blocks:
        for start in range(0, len(block), most_bytes):
            yield block[start : start + most_bytes]

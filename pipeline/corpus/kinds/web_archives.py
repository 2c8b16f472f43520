"""The source kind `warc`: web archives, of whose pages the main text is extracted.

Needs the extra `web`: the packages warcio and trafilatura, imported when a file is read. Files with
text that was extracted already (WET) are read by the same kind.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from email.message import Message
from typing import TYPE_CHECKING

from pipeline.config.urls import RawPath
from pipeline.corpus.meta import plain_meta
from pipeline.corpus.raw_files import COMPRESSIONS, FileBroken, content_blocks
from pipeline.corpus.recognised import why_not_lines
from pipeline.corpus.row_settings import UTF_8, RowSettings
from pipeline.corpus.rows import (
    LONGEST_BYTES,
    Reject,
    Row,
    excerpt_of,
    is_too_long,
    why_not_document,
)
from pipeline.corpus.source_kind import RawFiles
from pipeline.errors import UserError

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

FORMS = (".warc", ".warc.wet", ".wet")
"""Suffixes of files that are not compressed."""
BEGINNING = b"WARC/"
"""First bytes of every record. Source: ISO 28500, WARC 1.1, section 4."""
HTML = ("text/html", "application/xhtml+xml")
"""Types of pages from which text is extracted."""
FIELDS = {"url": "WARC-Target-URI", "id": "WARC-Record-ID", "date": "WARC-Date"}
"""Key of meta -> header of the record."""
LINE_ENDS_BYTES = 64
"""Most bytes that may follow the last record; two line ends do."""
SKIPPED_BYTES = 2**20
"""Bytes of a record that are read at once only to be dropped."""


class WebArchives(RawFiles):
    """Source kind in which a page is a document."""

    suffixes = tuple(f"{form}{packed}" for form in FORMS for packed in ("", *COMPRESSIONS))
    # A crawl's file names have words of all kinds in them.
    names_splits = False
    packages = ("warcio", "trafilatura", "lxml_html_clean")
    extra = "web"

    def why_unreadable(self, head: bytes) -> str | None:
        """Recognise other formats."""
        if head.startswith(BEGINNING) or not head:
            return None
        return why_not_lines(head) or "is no web archive: a WARC file begins with `WARC/`"

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield a row for each page, numbered among all records of the file.

        A page is an HTML response with status 200, or a record of text that was extracted already
        (`conversion`). Raises FileBroken for records that cannot be told apart, and where the file
        ends within one.
        """
        stream = _Stream(content_blocks(file, self.why_unreadable, advance))
        if not stream.has_content():
            return
        for number, record in enumerate(_records(file, stream)):
            yield from _rows_of(record, number)
            _refuse_truncated(file, record, number)


class _Stream:
    """Content as warcio reads it."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._position = 0
        self._last_bytes = b""

    def has_content(self) -> bool:
        """Return whether there is anything left to read."""
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._block = block
        return True

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        if not self.has_content():
            return b""
        part = self._block[:size]
        self._block = self._block[size:]
        self._position += len(part)
        self._last_bytes = (self._last_bytes + part)[-LINE_ENDS_BYTES:]
        return part

    def tell(self) -> int:
        """Return the number of bytes that were read."""
        return self._position

    def ends_after(self, position: int) -> bool:
        """Return whether nothing but line ends was read after a position."""
        rest = self._position - position
        if rest > len(self._last_bytes):
            return False
        return not self._last_bytes[len(self._last_bytes) - rest :].strip()


def _records(file: RawPath, stream: _Stream) -> Iterator["ArcWarcRecord"]:
    """Yield the records of an archive, each to be read before the next. Raises FileBroken."""
    from warcio.archiveiterator import ArchiveIterator

    records = ArchiveIterator(stream)
    number = 0
    end = 0
    while True:
        try:
            record = next(records, None)
        except (MemoryError, OSError, UserError):
            raise
        except Exception as error:
            # warcio expects all headers, and fails in many ways where one is missing.
            why = f"is truncated or damaged in the header of record {number:,} ({error})"
            raise FileBroken(file, why) from None
        if record is None:
            break
        length = record.rec_headers.get_header("Content-Length") or ""
        if not length.strip().isdecimal():
            raise FileBroken(file, f"is truncated: record {number:,} has no Content-Length")
        yield record
        assert records.reader is not None, "a record was read with it"
        end = stream.tell() - records.reader.rem_length()
        number += 1
    # A record whose header is cut may end the archive without an error.
    if not stream.ends_after(end):
        raise FileBroken(file, f"is truncated in the header of record {number:,}")


def _rows_of(record: "ArcWarcRecord", number: int) -> Iterator[Row | Reject]:
    """Yield the row of a record that is a page; nothing of any other record."""
    if record.rec_type == "conversion":
        text = record.content_stream().read(LONGEST_BYTES + 1)
    elif _is_page(record):
        page = record.content_stream().read(LONGEST_BYTES + 1)
        if is_too_long(page):
            yield Reject("too-long", number, excerpt_of(page))
            return
        text = _main_text(_decoded(page, _charset(record)))
    else:
        return
    reason = why_not_document(text)
    if reason is not None:
        if reason == "empty-text":
            reason = "no-text"
        url = record.rec_headers.get_header(FIELDS["url"]) or ""
        yield Reject(reason, number, excerpt_of(url.encode(errors="replace")))
        return
    values = {key: record.rec_headers.get_header(name) for key, name in FIELDS.items()}
    meta = plain_meta({key: value for key, value in values.items() if value})
    assert meta is not None, "headers are short strings"
    yield Row(text, meta, number)


def _is_page(record: "ArcWarcRecord") -> bool:
    """Return whether a record is the response of a server with an HTML page."""
    headers = record.http_headers
    if record.rec_type != "response" or headers is None or headers.get_statuscode() != "200":
        return False
    content_type = headers.get_header("Content-Type") or ""
    return content_type.partition(";")[0].strip().lower() in HTML


def _charset(record: "ArcWarcRecord") -> str | None:
    """Return the encoding that the server named, if it did."""
    assert record.http_headers is not None, "only responses are pages"
    message = Message()
    message["Content-Type"] = record.http_headers.get_header("Content-Type") or ""
    return message.get_content_charset()


def _decoded(page: bytes, charset: str | None) -> bytes | str:
    """Return a page as text where it is not UTF-8 but fits the encoding that the server named.

    Any other page stays bytes, in which trafilatura finds the encoding. Servers name Latin-1 for
    pages of all encodings, and it fits everything, so UTF-8 comes first.
    """
    for encoding in filter(None, (UTF_8, charset)):
        try:
            text = page.decode(encoding)
        except (LookupError, ValueError):
            continue
        return page if encoding == UTF_8 else text
    return page


def _main_text(page: bytes | str) -> bytes:
    """Return the main text of an HTML page, without comments; nothing where none is found."""
    from trafilatura import extract

    # It reports pages without text, which are counted here.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    try:
        text = extract(page, include_comments=False)
    except MemoryError:
        raise
    except Exception:
        # HTML that its parser cannot hold, such as one nested too deeply.
        text = None
    return (text or "").encode(errors="replace")


def _refuse_truncated(file: RawPath, record: "ArcWarcRecord", number: int) -> None:
    """Raise FileBroken where a record has fewer bytes than its header says; reads what is left of it."""
    stream = record.raw_stream
    with contextlib.suppress(EOFError):
        while stream.read(SKIPPED_BYTES):
            pass
    missing = getattr(stream, "limit", 0)
    if missing:
        raise FileBroken(
            file, f"is truncated: record {number:,} lacks {missing:,} bytes of its content"
        )

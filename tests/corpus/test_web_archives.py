"""Web archives: pages and their main text, records that are none, and files that are broken."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import iterate_texts, prepare_here
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import describe_sources
from pipeline.errors import DataError

STORY = "The river was high that spring, and nobody crossed it before the end of May. "
PAGE = (
    "<html><head><title>River</title></head><body><nav><a href='/'>Home</a> <a href='/b'>Blog</a>"
    "</nav><article><h1>The river</h1><p>{story}</p><p>Été: {story}</p></article>"
    "<footer>Copyright, all rights reserved</footer></body></html>"
)
TEXT = f"The river\n{STORY * 5}".strip() + f"\nÉté: {STORY * 5}".rstrip()


def archive(*records: tuple[str, str, str, bytes], packed: bool = False) -> bytes:
    """Return an archive of `(type, HTTP status, content type, payload)`."""
    written = io.BytesIO()
    writer = WARCWriter(written, gzip=packed)
    for number, (kind, status, content_type, payload) in enumerate(records):
        http = None
        if kind == "response":
            http = StatusAndHeaders(
                f"{status} X", [("Content-Type", content_type)], protocol="HTTP/1.1"
            )
        headers = {"WARC-Record-ID": f"<urn:uuid:{number}>", "WARC-Date": "2026-01-02T03:04:05Z"}
        writer.write_record(
            writer.create_warc_record(
                f"https://a.org/{number}",
                kind,
                payload=io.BytesIO(payload),
                http_headers=http,
                warc_headers_dict=headers,
                warc_content_type="text/plain" if kind == "conversion" else "",
            )
        )
    return written.getvalue()


def page(story: str = STORY * 5) -> bytes:
    return PAGE.format(story=story).encode()


RECORDS = [
    ("response", "200", "text/html; charset=utf-8", page()),
    ("request", "", "", b"GET / HTTP/1.1"),
    ("response", "404", "text/html", page()),
    ("response", "200", "image/png", b"\x89PNG"),
    ("response", "200", "application/xhtml+xml", b"<html><body></body></html>"),
    ("conversion", "", "", "already text, été".encode()),
]


def rows_of(path: Path, content: bytes) -> list[Row | Reject]:
    path.write_bytes(content)
    return list(SOURCE_KINDS["warc"].read_rows(path, RowSettings()))


def meta_of(number: int) -> dict[str, str]:
    return {
        "url": f"https://a.org/{number}",
        "id": f"<urn:uuid:{number}>",
        "date": "2026-01-02T03:04:05Z",
    }


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_a_page_gives_its_main_text_and_other_records_are_no_rows(
    tmp_path: Path, name: str
) -> None:
    first, without, text = rows_of(tmp_path / name, archive(*RECORDS, packed=name.endswith(".gz")))
    assert isinstance(first, Row) and first.origin_row == 0
    assert first.text.decode() == TEXT and json.loads(first.meta) == meta_of(0)
    assert without == Reject("no-text", 4, "https://a.org/4")
    assert isinstance(text, Row) and text.text.decode() == "already text, été"
    assert json.loads(text.meta) == meta_of(5) and text.origin_row == 5


def test_a_page_that_was_sent_compressed_and_in_chunks_is_read(tmp_path: Path) -> None:
    body = gzip.compress(page(), mtime=0)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    content = head + chunked
    record = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.org/\r\n"
        b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n"
    ) % (len(content), content)
    (row,) = rows_of(tmp_path / "a.warc", record)
    assert row[0] == TEXT.encode() and json.loads(row[1]) == {"url": "https://a.org/"}


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("cp1251", "text/html; charset=windows-1251"),
        ("utf-8", "text/html; charset=iso-8859-1"),
        ("utf-8", "text/html; charset=nonsense"),
        ("utf-8", "text/html"),
    ],
)
def test_a_page_is_in_the_encoding_that_fits(
    tmp_path: Path, encoding: str, content_type: str
) -> None:
    story = "Весной река поднялась, и никто не переходил её до конца мая. " * 5
    content = PAGE.replace("Été: ", "").format(story=story).encode(encoding)
    (row,) = rows_of(tmp_path / "a.warc", archive(("response", "200", content_type, content)))
    assert story.strip() in row[0].decode()


def test_the_order_of_pages_does_not_change_their_texts(tmp_path: Path) -> None:
    pages = [("response", "200", "text/html", page(f"{STORY} {n}. " * 4)) for n in range(4)]
    there = [row[0] for row in rows_of(tmp_path / "a.warc", archive(*pages))]
    back = [row[0] for row in rows_of(tmp_path / "b.warc", archive(*reversed(pages)))]
    assert there == back[::-1] and len(set(there)) == 4
    # Nor does what the process has read before.
    twice = [row[0] for row in rows_of(tmp_path / "a.warc", archive(*pages, *pages))]
    assert twice == there * 2


def test_a_truncated_archive_is_broken_after_the_whole_pages(tmp_path: Path) -> None:
    """Wherever it is cut: in a header, in a page, in text; but after a whole record."""
    records = [RECORDS[0], ("conversion", "", "", b"text " * 300)]
    whole = archive(*records)
    first_end = len(archive(records[0]))
    path = tmp_path / "a.warc"
    for end in [*range(10, len(whole), 17), *range(first_end + 1, first_end + 300)]:
        if end in range(first_end - 4, first_end + 1) or end >= len(whole) - 4:
            continue
        with pytest.raises(FileBroken, match=r"a\.warc: is truncated"):
            rows_of(path, whole[:end])
    assert len(rows_of(path, whole[:first_end])) == 1 and len(rows_of(path, whole[:-4])) == 2

    packed = tmp_path / "a.warc.gz"
    packed.write_bytes(archive(*records, packed=True)[:-10])
    rows = SOURCE_KINDS["warc"].read_rows(packed, RowSettings())
    assert next(rows)[0] == TEXT.encode()
    with pytest.raises(FileBroken, match=r"is truncated: its \.gz data ends"):
        list(rows)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>Not Found</html>", "is a web page"),
        (b"just words", "is no web archive: a WARC file begins with `WARC/`"),
        (b"WARC/1.0\r\nno header at all", "is truncated"),
        (gzip.compress(b"WARC/1.0", mtime=0), r"holds \.gz data"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(FileBroken, match=why):
        rows_of(tmp_path / "a.warc", content)
    assert rows_of(tmp_path / "empty.warc", b"") == []


def test_a_page_that_no_parser_can_hold_is_a_reject(tmp_path: Path) -> None:
    nested = b"<div>" * 50_000 + b"deep" + b"</div>" * 50_000
    rows = rows_of(
        tmp_path / "a.warc",
        archive(("response", "200", "text/html", nested), ("conversion", "", "", b"next")),
    )
    assert len(rows) == 2 and rows[1][0] == b"next"


def test_pages_become_documents(run_file: Path) -> None:
    crawl = run_file.parent / "crawl"
    crawl.mkdir()
    (crawl / "a.warc.gz").write_bytes(archive(RECORDS[0], RECORDS[1], packed=True))
    (crawl / "b.warc.wet.gz").write_bytes(archive(RECORDS[5], packed=True))
    result = prepare_here(
        run_file,
        f"sources.crawl={{kind: warc, paths: ['{crawl}']}}",
        "prepare.validation_fraction=0",
    )
    assert result.counts["sources"]["crawl"]["documents"]["train"] == 2
    texts = iterate_texts(run_file.parent / "data" / "documents", "crawl", "train")
    assert sorted(text for _, text in texts) == [TEXT, "already text, été"]


def test_missing_packages_are_named_with_the_command_before_anything_is_read(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    modules: dict[str, Any] = sys.modules
    monkeypatch.setitem(modules, "warcio", None)
    (run_file.parent / "a.warc").write_bytes(archive(RECORDS[0]))
    crawl = f"sources.crawl={{kind: warc, paths: ['{run_file.parent}/a.warc']}}"
    message = (
        r"sources\.crawl: its kind needs packages that are not installed: warcio; "
        r"`pip install -c constraints\.txt -e '\.\[web\]'`"
    )
    with pytest.raises(DataError, match=message):
        prepare_here(run_file, crawl)
    # Other stages and `status` do without them.
    assert None not in describe_sources(load(run_file, [crawl])).values()

"""Tables of text: header, quotes, line breaks in fields, what is broken and what is odd."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers import iterate_texts, prepare_here
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row
from pipeline.errors import ConfigError, DataError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


def rows_of(path: Path, content: bytes | str, **settings: Any) -> list[Row | Reject]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(SOURCE_KINDS["csv"].read_rows(path, RowSettings(**settings)))


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(("form", "separator"), [(".csv", ","), (".tsv", "\t"), (".TSV", "\t")])
def test_a_row_is_a_document_and_its_other_columns_are_meta(
    tmp_path: Path, form: str, separator: str, suffix: str
) -> None:
    lines = ["id,text,lang", '1,"one, two",en', '2,"say ""hi""",fr']
    content = "\r\n".join(lines).replace(",", separator)
    rows = rows_of(tmp_path / f"a{form}{suffix}", PACKERS[suffix](content.encode()))
    assert rows == [
        Row(f"one{separator} two".encode(), b'{"id":"1","lang":"en"}', 0),
        Row(b'say "hi"', b'{"id":"2","lang":"fr"}', 1),
    ]


def test_line_breaks_in_quotes_are_text_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    content = '\ufefftext,n\n"one\n\r\ntwo",1\n\n\nthree,2'
    assert rows_of(tmp_path / "a.csv", content) == [
        Row(b"one\n\r\ntwo", b'{"n":"1"}', 0),
        Row(b"three", b'{"n":"2"}', 1),
    ]


@given(st.lists(st.lists(st.text("a,\"\n\r;'é ", min_size=1), min_size=2, max_size=2), min_size=1))
def test_what_python_writes_is_read(tmp_path_factory: Any, table: list[list[str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["n", "text"], *table])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    rows = rows_of(path, written.getvalue())
    for (name, text), row in zip(table, rows, strict=True):
        if text.isspace():
            assert row[0] == "empty-text"
        else:
            assert row[0] == text.encode() and json.loads(row[1]) == {"n": name}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('text,n\nfine,1\n"not closed,2\nmore,3\n', "row 1, which begins on line 3,"),
        ('text,n\n"two\nlines",1\n\n"text" behind,2\nmore,3\n', "row 1, which begins on line 5,"),
        ('"text,n\nfine,1\n', "the header, which begins on line 1,"),
    ],
)
def test_a_broken_quote_is_named_with_row_and_line(
    tmp_path: Path, content: str, where: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    rows = SOURCE_KINDS["csv"].read_rows(path, RowSettings())
    if not where.startswith("the header"):
        assert isinstance(next(rows), Row)
    with pytest.raises(FileBroken, match=rf"a\.csv: {where} is broken .*Write a quote"):
        next(rows)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("text,n\rone,1\rtwo,2\r", "the header, which begins on line 1,"),
        ("text,n\none\rtwo,1\n", "row 0, which begins on line 2,"),
    ],
)
def test_a_carriage_return_outside_of_quotes_is_named(
    tmp_path: Path, content: str, where: str
) -> None:
    message = rf"a\.csv: {where} is broken .*a carriage return .*`tr '\\r' '\\n'`"
    with pytest.raises(FileBroken, match=message):
        rows_of(tmp_path / "a.csv", content.encode())


def test_a_row_of_another_length_is_rejected(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.csv", "text,n\nshort\nlong,1,2\nfine,3\n")
    assert rows == [
        Reject("wrong-columns", 0, "short"),
        Reject("wrong-columns", 1, "long | 1 | 2"),
        Row(b"fine", b'{"n":"3"}', 2),
    ]


def test_blank_text_and_bytes_that_are_not_utf8_reject_the_row_or_empty_the_column(
    tmp_path: Path,
) -> None:
    rows = rows_of(tmp_path / "a.csv", b"text,n\n ,1\n\xff,2\nfine,\xff\nlast,4\n")
    assert [row[0] for row in rows] == ["empty-text", "invalid-utf8", b"fine", b"last"]
    assert rows[2] == Row(b"fine", b'{"n":null}', 2, ("n",))
    assert rows[3] == Row(b"last", b'{"n":"4"}', 3)


def test_columns_that_share_a_name_become_null_unless_they_are_the_text(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "a.csv", "n,text,n\n1,one,2\n")
    assert row == Row(b"one", b'{"n":null}', 0, ("n",))
    with pytest.raises(FileBroken, match="2 columns named 'text'"):
        rows_of(tmp_path / "a.csv", "text,text\n1,one\n")


def test_a_missing_column_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"has no column 'body' but text, n: set the source's"):
        rows_of(tmp_path / "a.csv", "text,n\none,1\n", text_field="body")
    with pytest.raises(FileBroken, match=r"but text;n: set the source's delimiter to ';', if it"):
        rows_of(tmp_path / "a.csv", "text;n\none;1\n")


def test_a_header_in_another_encoding_is_refused(tmp_path: Path) -> None:
    content = "text,an\u0303o,a\u00f1o\none,1,2\n"
    assert len(rows_of(tmp_path / "a.csv", content)) == 1
    with pytest.raises(
        FileBroken, match=r"its header is not UTF-8 \(text, .*\): set the source's `enc"
    ):
        rows_of(tmp_path / "a.csv", content.replace("an\u0303o", "b").encode("latin-1"))


def test_columns_are_listed_up_to_a_length(tmp_path: Path) -> None:
    """The first row of a table without a header may be a document of megabytes."""
    with pytest.raises(FileBroken, match=r"but x{60}\.\.\., 1: set the source's text_field"):
        rows_of(tmp_path / "a.csv", "x" * 100_000 + ",1\n")
    with pytest.raises(FileBroken, match=r"but c0, .*, c19 and 480 more: set"):
        rows_of(tmp_path / "a.csv", ",".join(f"c{n}" for n in range(500)) + "\n")


def test_joined_columns_a_column_with_a_dot_and_another_delimiter(tmp_path: Path) -> None:
    content = 'title;a.b;meta\nT;body;"{""k"": 1}"\n;alone;\n'
    rows = rows_of(
        tmp_path / "a.csv", content, text_field=("title", "a.b"), delimiter=";", text_separator="/"
    )
    assert rows == [
        Row(b"T/body", b'{"k":1}', 0),
        Row(b"alone", b'{"meta":""}', 1, (), ("title",)),
    ]


def test_another_encoding(tmp_path: Path) -> None:
    content = "text,n\nété,1\n".encode("utf-16")
    (row,) = rows_of(tmp_path / "a.csv", content, encoding="utf-16")
    assert row == Row("été".encode(), b'{"n":"1"}', 0)


@pytest.mark.parametrize(
    ("content", "rows"),
    [("", []), ("\n\n", []), ("text,n\n", []), ("text\nx", [Row(b"x", b"{}", 0)])],
)
def test_files_with_little_in_them(tmp_path: Path, content: str, rows: list[Row]) -> None:
    assert rows_of(tmp_path / "a.csv", content) == rows


def test_a_long_field_is_read(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "a.csv", f"text\n{'long ' * 50_000}\n")
    assert len(row[0]) == 250_000


def test_a_broken_quote_stops_the_stage_and_the_rows_before_it_can_be_kept(run_file: Path) -> None:
    table = run_file.parent / "table.csv"
    rows = "".join(f'{n},"text {n}"\n' for n in range(9))
    table.write_text("id,text\n" + rows + '9,"broken" quote\n10,more\n')
    source = f"sources.table={{kind: csv, paths: ['{table}']}}"
    with pytest.raises(DataError, match=rf"source table: {table}: row 9, which begins on line 11"):
        prepare_here(run_file, source)
    kept = ["prepare.on_broken_file=keep-readable-rows", "prepare.validation_fraction=0"]
    result = prepare_here(run_file, source, *kept)
    assert result.counts["sources"]["table"]["documents"]["train"] == 9
    texts = iterate_texts(run_file.parent / "data" / "documents", "table", "train")
    assert [text for _, text in texts] == [f"text {n}" for n in range(9)]


@pytest.mark.parametrize("delimiter", ["'\"'", "ab", "''", '"\\n"'])
def test_a_delimiter_is_one_character(run_file: Path, delimiter: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.web\.delimiter"):
        load(run_file, ["sources.web.kind=csv", f"sources.web.delimiter={delimiter}"])
    with pytest.raises(ConfigError, match=r"delimiter = ';': only csv has fields between"):
        load(run_file, ["sources.web.delimiter=;"])

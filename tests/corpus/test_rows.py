"""Rows of raw files: every reason of a reject, every layout of meta, every way a file can be
broken."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row, is_blank, split_at


def rows_of(
    path: Path, content: bytes, kind: str = "jsonl", text_field: str = "text"
) -> list[Row | Reject]:
    path.write_bytes(content)
    return list(SOURCE_KINDS[kind].read_rows(path, RowSettings(text_field)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "broken-json"),
        (b'{"text": "half a pair \\ud800"}', "broken-json"),
        (b'{"text": "\xff\xfe"}', "invalid-utf8"),
        (b'{"text": "a", "b\xff', "invalid-utf8"),
        (b'{"text": NaN}', "no-text"),
        (b'{"text": 123456789012345678901234567890}', "text-not-a-string"),
        (b'{"text": "a", "n": 00123456789012345678901}', "broken-json"),
        (b'["text"]', "not-an-object"),
        (b"null", "not-an-object"),
        (b'{"meta": {}}', "no-text"),
        (b'{"text": null}', "no-text"),
        (b'{"text": 3}', "text-not-a-string"),
        (b'{"text": ["a"]}', "text-not-a-string"),
        (b'{"text": ""}', "empty-text"),
        (b'{"text": " \\n\\u00a0"}', "empty-text"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason_and_its_neighbours_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    one, bad, two = rows_of(
        tmp_path / "a.jsonl", b'{"text": "one"}\n' + line + b'\n{"text": "two"}'
    )
    assert (one, two) == (Row(b"one", b"{}", 0), Row(b"two", b"{}", 2))
    assert bad[:3] == (reason, 1, line.decode(errors="replace"))


def test_an_excerpt_has_at_most_300_characters(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "a.jsonl", ('"' + "ä" * 1000).encode())
    assert row == Reject("broken-json", 0, '"' + "ä" * 299)


def test_half_a_surrogate_pair_is_rejected_in_the_text_and_becomes_null_in_the_meta(
    tmp_path: Path,
) -> None:
    """JSON's grammar allows it (RFC 8259, section 8.2); UTF-8 does not."""
    lines = (
        rb'{"text": "\ud83d\ude00"}',
        rb'{"text": "\ude00\ud83d"}',
        rb'{"text": "a", "meta": {"b": "\ud800"}}',
    )
    assert rows_of(tmp_path / "a.jsonl", b"\n".join(lines)) == [
        Row("\U0001f600".encode(), b"{}", 0),
        Reject("broken-json", 1, lines[1].decode()),
        Row(b"a", b'{"b":null}', 2, ("b",)),
    ]


def test_an_object_without_text_says_which_keys_it_has(tmp_path: Path) -> None:
    lines = (
        b'{"raw_content": "a", "url": "u"}\n{"text": null, "url": "u"}\n{"raw": NaN}\n{"%s": 1}'
        % (b"k" * 99)
    )
    rows = rows_of(tmp_path / "a.jsonl", lines)
    keys = [row.keys for row in rows if isinstance(row, Reject)]
    assert keys == [("raw_content", "url"), ("url",), ("raw",), ("k" * 60,)]


def test_meta_nested_as_deeply_as_is_read_is_written(tmp_path: Path) -> None:
    deep = "[" * 1020 + "]" * 1020
    (row,) = rows_of(tmp_path / "a.jsonl", f'{{"text": "a", "meta": {{"deep": {deep}}}}}'.encode())
    assert isinstance(row, Row) and row.meta == f'{{"deep": {deep}}}'.encode()


def test_blank_lines_are_no_rows_and_count_as_lines_and_the_byte_order_mark_is_dropped(
    tmp_path: Path,
) -> None:
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}\n\n'
    assert rows_of(tmp_path / "a.jsonl", content) == [Row(b"a", b"{}", 0), Row(b"b", b"{}", 3)]
    assert rows_of(tmp_path / "empty.jsonl", b"") == []
    assert rows_of(tmp_path / "mark.jsonl", b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("fields", "meta"),
    [
        ({"text": "a"}, {}),
        ({"meta": {"title": "T"}, "text": "a"}, {"title": "T"}),
        (
            {"text": "a", "meta": {"n": 1}, "red_pajama_subset": "c4"},
            {"n": 1, "red_pajama_subset": "c4"},
        ),
        ({"text": "a", "meta": '{"url": "u"}', "id": 7}, {"url": "u", "id": 7}),
        ({"text": "a", "meta": "no JSON"}, {"meta": "no JSON"}),
        ({"text": "a", "meta": "[1]"}, {"meta": "[1]"}),
        ({"text": "a", "meta": {"source": "inner"}, "source": "outer"}, {"source": "inner"}),
        (
            {"text": "a", "id": "x", "metadata": {"lang": "en"}},
            {"id": "x", "metadata": {"lang": "en"}},
        ),
    ],
)
def test_meta_is_the_meta_object_and_the_other_fields(
    tmp_path: Path, fields: dict, meta: dict
) -> None:
    (row,) = rows_of(tmp_path / "a.jsonl", json.dumps(fields).encode())
    assert isinstance(row, Row)
    assert json.loads(row.meta) == meta


def test_meta_nested_deeper_than_orjson_writes_is_kept(tmp_path: Path) -> None:
    deep = "[" * 300 + "]" * 300
    (row,) = rows_of(tmp_path / "a.jsonl", f'{{"text": "a", "meta": {{"deep": {deep}}}}}'.encode())
    assert isinstance(row, Row)
    assert row.meta.replace(b" ", b"") == f'{{"deep":{deep}}}'.encode()


def test_the_text_field_can_have_another_name(tmp_path: Path) -> None:
    (row,) = rows_of(
        tmp_path / "a.json", b'{"url": "u", "raw_content": "a"}', text_field="raw_content"
    )
    assert row == Row(b"a", b'{"url":"u"}', 0)


def test_a_line_of_30_megabytes_is_one_row(tmp_path: Path) -> None:
    long = "0123456789" * 3_000_000
    rows = rows_of(
        tmp_path / "a.jsonl.zst",
        zstandard.compress(b'{"text": "%s"}\n{"text": "b"}\n' % long.encode()),
    )
    assert rows == [Row(long.encode(), b"{}", 0), Row(b"b", b"{}", 1)]


def test_what_is_too_long_is_rejected_and_its_neighbours_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.rows.LONGEST_BYTES", 16)
    monkeypatch.setattr(
        "pipeline.corpus.raw_files.BLOCK_BYTES", 5
    )  # of the long line, what is after 20 bytes is not kept
    fits, long = b'{"text": "1234"}', b'{"text": "' + b"x" * 50 + b'"}'
    rows = rows_of(tmp_path / "a.jsonl", b"\n".join([fits, long, fits, long]))
    kept = [row.excerpt for row in rows if isinstance(row, Reject)]
    assert rows == [
        Row(b"1234", b"{}", 0),
        Reject("too-long", 1, kept[0]),
        Row(b"1234", b"{}", 2),
        Reject("too-long", 3, kept[1]),
    ]
    assert all(long.startswith(excerpt.encode()) and 16 < len(excerpt) < 16 + 5 for excerpt in kept)
    (text,) = rows_of(tmp_path / "a.txt", b"x" * 17, "text")
    assert isinstance(text, Reject) and text.reason == "too-long"
    longer = parquet(tmp_path / "a.parquet", {"text": pa.array(["x" * 16, "x" * 17])})
    assert longer == [Row(b"x" * 16, b"{}", 0), Reject("too-long", 1, "x" * 17)]


@given(st.lists(st.binary(max_size=5).map(lambda block: block.replace(b"0", b"\n")), max_size=8))
def test_lines_do_not_depend_on_where_blocks_end(blocks: list[bytes]) -> None:
    assert list(split_at(blocks, b"\n")) == b"".join(blocks).split(b"\n")


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.md", "\ufeffä\nb\n".encode(), "text") == [
        Row("ä\nb\n".encode(), b"{}", 0)
    ]
    assert rows_of(tmp_path / "a.txt.gz", gzip.compress(b"a"), "text") == [Row(b"a", b"{}", 0)]
    assert rows_of(tmp_path / "b.txt", b"\xff", "text") == [
        Reject("invalid-utf8", 0, "\ufffd", byte=0)
    ]
    assert rows_of(tmp_path / "c.txt", b" \n", "text") == [Reject("empty-text", 0, " \n")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "text", "csv"])
@pytest.mark.parametrize("text", ["\u2028", "\u3000\u2029\x85", " \xa0\x1c", "\u200b"])
def test_kinds_agree_on_what_is_blank(tmp_path: Path, kind: str, text: str) -> None:
    contents = {
        "jsonl": json.dumps({"text": text}).encode(),
        "text": text.encode(),
        "csv": f'text\n"{text}"\n'.encode(),
    }
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        (row,) = parquet(path, {"text": pa.array([text])})
    else:
        (row,) = rows_of(path, contents[kind], kind)
    # A space without width is no white space.
    assert is_blank(text) == (text != "\u200b") == (not text.strip())
    assert (row[0] == "empty-text") == is_blank(text)


def parquet(path: Path, columns: dict[str, pa.Array]) -> list[Row | Reject]:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return list(SOURCE_KINDS["parquet"].read_rows(path, RowSettings()))


def test_parquet_rows_have_the_other_columns_as_meta(tmp_path: Path) -> None:
    meta = pa.array([{"url": "u"}, None, {"url": "w"}])
    rows = parquet(
        tmp_path / "a.parquet",
        {"text": pa.array(["a", None, " "]), "n": pa.array([1, 2, 3]), "meta": meta},
    )
    without = Reject("no-text", 1, "None", ("n", "meta"))
    assert rows == [Row(b"a", b'{"url":"u","n":1}', 0), without, Reject("empty-text", 2, " ")]


def test_parquet_text_is_checked_whatever_the_columns_type(tmp_path: Path) -> None:
    assert parquet(tmp_path / "n.parquet", {"text": pa.array([5])}) == [
        Reject("text-not-a-string", 0, "5")
    ]
    binary = parquet(tmp_path / "b.parquet", {"text": pa.array([b"a", b"\xff"])})
    assert binary == [Row(b"a", b"{}", 0), Reject("invalid-utf8", 1, "\ufffd", byte=0)]
    unchecked = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    strings = parquet(tmp_path / "s.parquet", {"text": unchecked})
    assert strings == [Row(b"a", b"{}", 0), Reject("invalid-utf8", 1, "\ufffd", byte=0)]
    repeated = pa.array(["a", "a"]).dictionary_encode()
    assert parquet(tmp_path / "d.parquet", {"text": repeated}) == [
        Row(b"a", b"{}", 0),
        Row(b"a", b"{}", 1),
    ]


def test_broken_parquet_is_an_error_of_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["a"]}), whole := tmp_path / "a.parquet")
    with pytest.raises(
        FileBroken, match="has no column 'text' but content: set the source's text_field"
    ):
        list(SOURCE_KINDS["parquet"].read_rows(whole, RowSettings()))
    with pytest.raises(FileBroken, match="not readable as Parquet"):
        rows_of(tmp_path / "b.parquet", whole.read_bytes()[:-5], "parquet")

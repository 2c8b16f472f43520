"""The text of a row in a nested field, in several that are joined, and in keys that have dots."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import iterate_texts, prepare_here

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row
from pipeline.errors import ConfigError, DataError


def rows_of(path: Path, rows: list[Any], **settings: Any) -> list[Row | Reject]:
    kind = path.suffix[1:]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return list(SOURCE_KINDS[kind].read_rows(path, RowSettings(**settings)))


both_kinds = pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])


@both_kinds
def test_a_nested_text_is_taken_and_its_neighbours_are_meta(tmp_path: Path, name: str) -> None:
    rows = [
        {"id": 1, "metadata": {"text": "one", "lang": "en"}},
        {"id": 2, "metadata": {"text": "two", "lang": "fr"}},
    ]
    assert rows_of(tmp_path / name, rows, text_field="metadata.text") == [
        Row(b"one", b'{"id":1,"metadata":{"lang":"en"}}', 0),
        Row(b"two", b'{"id":2,"metadata":{"lang":"fr"}}', 1),
    ]


@both_kinds
def test_a_text_may_be_nested_several_times_and_be_all_there_is(tmp_path: Path, name: str) -> None:
    rows = [{"a": {"b": {"c": "deep"}, "n": 1}}, {"a": {"b": {"c": "too"}, "n": 2}}]
    texts = rows_of(tmp_path / name, rows, text_field="a.b.c")
    assert [row[:2] for row in texts] == [
        (b"deep", b'{"a":{"b":{},"n":1}}'),
        (b"too", b'{"a":{"b":{},"n":2}}'),
    ]


@both_kinds
def test_a_key_with_a_dot_comes_before_an_object(tmp_path: Path, name: str) -> None:
    rows = [{"a.b": "the key", "a": {"b": "nested", "b.c": "key in it"}, "a.b.d": {"e": "long"}}]
    for text_field, text in [
        ("a.b", "the key"),
        ("a.b.c", "key in it"),
        ("a.b.d.e", "long"),
    ]:
        (row,) = rows_of(tmp_path / name, rows, text_field=text_field)
        assert row[0] == text.encode()


@both_kinds
def test_a_null_object_has_no_text_and_stays_null(tmp_path: Path, name: str) -> None:
    rows = [{"m": {"text": "one", "n": 1}}, {"m": None}, {"m": {"text": None, "n": 3}}]
    one, two, three = rows_of(tmp_path / name, rows, text_field="m.text")
    assert one == Row(b"one", b'{"m":{"n":1}}', 0)
    assert two[:2] == ("no-text", 1) and three[:2] == ("no-text", 2)


@both_kinds
def test_fields_are_joined_without_those_that_are_blank(tmp_path: Path, name: str) -> None:
    rows = [
        {"title": "T", "doc": {"text": "body"}, "n": 0},
        {"title": None, "doc": {"text": "alone"}, "n": 1},
        {"title": "only a title", "doc": {"text": " "}, "n": 2},
        {"title": "", "doc": {"text": None}, "n": 3},
    ]
    joined = rows_of(tmp_path / name, rows, text_field=("title", "doc.text"), text_separator=" | ")
    assert [row[0] for row in joined] == [b"T | body", b"alone", b"only a title", "empty-text"]
    assert [row.blank_fields for row in joined[:3] if isinstance(row, Row)] == [
        (),
        ("title",),
        ("doc.text",),
    ]
    assert joined[0][1] == b'{"doc":{},"n":0}'


@both_kinds
def test_a_joined_field_that_is_no_string_rejects_the_row(tmp_path: Path, name: str) -> None:
    (row,) = rows_of(tmp_path / name, [{"a": 7, "b": "text"}], text_field=("b", "a"))
    assert row[0] == "text-not-a-string"


def test_half_a_surrogate_pair_in_a_joined_field_rejects_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "good", "b": "\\ud800"}\n')
    settings = RowSettings(text_field=("a", "b"))
    (row,) = SOURCE_KINDS["jsonl"].read_rows(path, settings)
    assert row[0] == "broken-json"


def test_a_joined_column_that_is_not_utf8_rejects_the_row(tmp_path: Path) -> None:
    bad = pa.array([b"\xff", b"ok"], pa.binary())
    pq.write_table(pa.table({"a": ["x", "y"], "b": bad}), tmp_path / "a.parquet")
    settings = RowSettings(text_field=("a", "b"), text_separator=" ")
    first, second = SOURCE_KINDS["parquet"].read_rows(tmp_path / "a.parquet", settings)
    assert first[0] == "invalid-utf8" and second[0] == b"y ok"


def test_an_object_without_the_nested_field_says_which_keys_it_has(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "a.jsonl", [{"m": {"body": "x"}, "n": 1}], text_field="m.text")
    assert row == Reject("no-text", 0, '{"m": {"body": "x"}, "n": 1}', ("m.body", "n"))


def test_a_file_without_the_nested_column_lists_the_nested_ones(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"no column 'm.text' but m\.body, n: set the source's"):
        rows_of(tmp_path / "a.parquet", [{"m": {"body": "x"}, "n": 1}], text_field="m.text")


def test_two_nested_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    inner = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(pa.table({"m": inner}), tmp_path / "a.parquet")
    with pytest.raises(FileBroken, match="2 columns named 'text'"):
        list(
            SOURCE_KINDS["parquet"].read_rows(
                tmp_path / "a.parquet", RowSettings(text_field="m.text")
            )
        )


def test_a_name_that_no_document_has_stops_the_stage(run_file: Path) -> None:
    joined = "sources.web.text_field=[titel, text]"
    with pytest.raises(
        DataError, match=r"sources\.web\.text_field: 'titel' is missing or blank in"
    ):
        prepare_here(run_file, joined)


def test_blank_fields_are_counted_where_only_some_documents_have_them(run_file: Path) -> None:
    lines = [{"title": "T" if n % 4 else None, "text": f"text {n}"} for n in range(40)]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    (run_file.parent / "web.jsonl").write_text(content)
    result = prepare_here(run_file, "sources.web.text_field=[title, text]")
    assert result.counts["sources"]["web"]["blank_fields"] == {"title": 10}
    assert "is missing or blank: 'title' in 10" in "\n".join(result.closing)
    folder = run_file.parent / "data" / "documents"
    texts = {text for _, text in iterate_texts(folder, "web", "train")}
    assert {text for text in texts if "\n\n" in text} == {
        text for text in texts if text.startswith("T\n\ntext ")
    }
    assert any(text.startswith("text ") for text in texts)


def test_a_field_named_twice_and_an_empty_list_are_refused(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.web\.text_field: names text twice"):
        load(run_file, ["sources.web.text_field=[text, text]"])
    with pytest.raises(ConfigError, match=r"sources\.web\.text_field"):
        load(run_file, ["sources.web.text_field=[]"])

"""No value of meta costs a document: what JSON cannot hold becomes null and is named, all else is
kept as it is."""

import array
import json
import math
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.kinds.json_lines import JsonLines, json_row
from pipeline.corpus.kinds.parquet_files import ParquetFiles, batch_rows_of, parquet_row
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row


def row_of_json(line: bytes) -> Row:
    row = json_row(line, 0, RowSettings())
    assert isinstance(row, Row), row
    return row


def rows_of_arrow(*columns: pa.Array, names: list[str]) -> list[Row]:
    text = pa.array([f"text {row}" for row in range(len(columns[0]))])
    batch = pa.RecordBatch.from_arrays([text, *columns], names=["text", *names])
    rows = [
        parquet_row(row, number, RowSettings())
        for number, row in enumerate(batch_rows_of(batch, [("text",)]))
    ]
    assert [row.text for row in rows if isinstance(row, Row)] == [
        text.encode() for text in text.to_pylist()
    ]
    return rows  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("line", "meta", "nulls"),
    [
        (b'"ppl": NaN', b'{"ppl":null}', ("ppl",)),
        (
            b'"a": [1, -Infinity, {"b": Infinity}], "c": 1',
            b'{"a":[1,null,{"b":null}],"c":1}',
            ("a",),
        ),
        (b'"meta": {"ppl": NaN, "n": 1}, "ppl": 2', b'{"ppl":null,"n":1}', ("ppl",)),
        (b'"meta": "{\\"ppl\\": NaN}"', b'{"ppl":null}', ("ppl",)),
        (b'"meta": "{NaN", "a": "NaN"', b'{"meta":"{NaN","a":"NaN"}', ()),
        (b'"a": 1e400, "b": -1e999, "c": 1e308', b'{"a":null,"b":null,"c":1e+308}', ("a", "b")),
        (b'"url": "caf\xe9", "n": 1', b'{"url":null,"n":1}', ("url",)),
        (b'"caf\xe9": 1', '{"caf\ufffd":1}'.encode(), ("caf\ufffd",)),
        (b'"a": "x \\" NaN, \\\\", "b": NaN', b'{"a":"x \\" NaN, \\\\","b":null}', ("b",)),
    ],
)
def test_what_json_cannot_hold_becomes_null_and_its_key_is_named(
    line: bytes, meta: bytes, nulls: tuple[str, ...]
) -> None:
    assert row_of_json(b'{"text": "t", ' + line + b"}") == Row(b"t", meta, 0, nulls)


@pytest.mark.parametrize(
    "digits", ["18446744073709551616", "-9223372036854775809", "1" * 30, "9" * 5000]
)
def test_integers_beyond_64_bits_keep_their_digits(digits: str) -> None:
    for line in (
        f'{{"text": "t", "id": {digits}}}',
        f'{{"text": "t", "meta": {{"id": {digits}}}}}',
        json.dumps({"text": "t", "meta": f'{{"id": {digits}}}'}),
    ):
        row = row_of_json(line.encode())
        assert (row.meta, row.nulls) == (f'{{"id":{digits}}}'.encode(), ())
    assert str(loads_exactly(row.meta)["id"]) == digits
    (of_parquet,) = rows_of_arrow(pa.array([f'{{"id": {digits}}}']), names=["meta"])
    assert of_parquet.meta == row.meta


def test_integers_of_64_bits_and_large_floats_are_as_before() -> None:
    line = (
        b'{"text": "t", "a": 18446744073709551615, "b": -9223372036854775808, "c": 1e30, "d": 0.1}'
    )
    assert (
        row_of_json(line).meta
        == b'{"a":18446744073709551615,"b":-9223372036854775808,"c":1e+30,"d":0.1}'
    )


def test_what_is_nested_deeper_than_orjson_reads_becomes_null() -> None:
    row = row_of_json(b'{"text": "t", "a": {"b": ' + b"[" * 5000 + b"]" * 5000 + b'}, "c": 1}')
    assert row.nulls == ("a",)
    assert row.meta.startswith(b'{"a":{"b": ') or row.meta.startswith(b'{"a":{"b":')
    assert row.meta.count(b"[") == 1022 and row.meta.endswith(b'"c":1}')


UNENDING = {
    "escaped quotes": b'{"text": "' + rb"\"a" * 200_000,
    "brackets": b"[" * 100_000,
    "digits": b"1" * 200_000 + b",",
    "quotes": b'"' * 100_000,
    "exponents": b"1e1." * 50_000,
}


@pytest.mark.parametrize("line", UNENDING.values(), ids=UNENDING.keys())
def test_a_line_that_is_no_json_is_looked_through_once(line: bytes) -> None:
    """From each quote or digit anew, these would take minutes."""
    row = json_row(line, 0, RowSettings())
    assert isinstance(row, Reject) and row.reason == "broken-json"


def as_json(value: Any) -> Any:
    """Return what is to be kept of a value that Python's json writes."""
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return None if any("\ud800" <= character <= "\udfff" for character in value) else value
    return value


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(st.characters())
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(KEYS.filter(lambda key: key not in ("text", "meta")), VALUES, max_size=4),
    st.booleans(),
)
def test_no_json_value_costs_a_document(fields: dict[str, Any], as_meta: bool) -> None:
    row = row_of_json(
        json.dumps({"text": "t", "meta": fields} if as_meta else {"text": "t", **fields}).encode()
    )
    kept = as_json(fields)
    assert json.loads(row.meta) == kept
    assert set(row.nulls) == {name for name in fields if str(fields[name]) != str(kept[name])}


@given(st.binary(max_size=30), st.sampled_from([b'"a": "%s"', b'"%s": 1', b'"meta": {"%s": "%s"}']))
@example(b"\\ud800", b'"%s": 1')
def test_no_bytes_in_a_string_of_meta_cost_a_document(content: bytes, form: bytes) -> None:
    """Control characters and what ends the string early are no JSON."""
    string = bytes(byte for byte in content if byte >= 32 and byte not in b'"\\')
    row = row_of_json(b'{"text": "t", ' + form.replace(b"%s", string) + b"}")
    assert row.text == b"t"
    assert len(orjson.loads(row.meta)) == 1


TIMES = [
    pa.timestamp(unit, zone)
    for unit in ("s", "ms", "us", "ns")
    for zone in (None, "UTC", "Mars/Olympus", "+25:00")
]
FIXED = [
    *(pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *TIMES,
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(
        pa.decimal128(38, 3),
        pa.decimal256(76, -4),
        pa.binary(16),
        pa.uuid(),
        pa.month_day_nano_interval(),
    ),
]


@st.composite
def arrays(draw: st.DrawFn) -> pa.Array:
    """Draw two values of any type, whatever bits they have, perhaps within other types."""
    if draw(st.booleans()):
        kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.binary()]))
        wide = "q" if kind == pa.large_string() else "i"
        first, second = draw(st.binary(max_size=6)), draw(st.binary(max_size=6))
        offsets = array.array(wide, [0, len(first), len(first) + len(second)]).tobytes()
        values = pa.Array.from_buffers(
            kind, 2, [None, pa.py_buffer(offsets), pa.py_buffer(first + second)]
        )
    else:
        kind = draw(st.sampled_from(FIXED))
        storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        content = draw(st.binary(min_size=storage.bit_width // 4, max_size=storage.bit_width // 4))
        values = pa.Array.from_buffers(storage, 2, [None, pa.py_buffer(content)])
        values = pa.ExtensionArray.from_storage(kind, values) if storage is not kind else values
    for form in draw(
        st.lists(
            st.sampled_from(["list", "struct", "twice", "map", "fixed", "dictionary"]), max_size=2
        )
    ):
        if form == "list":
            values = pa.ListArray.from_arrays(pa.array([0, 0, 2], pa.int32()), values)
        elif form == "fixed":
            values = pa.concat_arrays([pa.FixedSizeListArray.from_arrays(values, 2)] * 2)
        elif form == "struct":
            values = pa.StructArray.from_arrays([values], names=["inner"])
        elif form == "twice":
            values = pa.StructArray.from_arrays([values, values], names=["inner", "inner"])
        elif form == "map":
            values = pa.MapArray.from_arrays(
                pa.array([0, 1, 2], pa.int32()), pa.array(["k", "l"]), values
            )
        elif not isinstance(values, pa.DictionaryArray):
            values = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), values)
    return values


@given(arrays(), arrays())
def test_no_arrow_value_costs_a_document(one: pa.Array, two: pa.Array) -> None:
    for row in rows_of_arrow(one, two, names=["one", "two"]):
        meta = json.loads(row.meta, parse_constant=lambda constant: pytest.fail(constant))
        assert set(meta) == {"one", "two"}
        assert set(row.nulls) <= {"one", "two"}


def test_arrow_values_that_python_or_json_cannot_hold_become_null_and_the_others_stay() -> None:
    columns = {
        "crawled": pa.array(
            [0, 253402300800_000_000], pa.timestamp("us")
        ),  # the second is 10000-01-01
        "zone": pa.array([1, 2], pa.timestamp("s", tz="Mars/Olympus")),
        "score": pa.array([float("nan"), 0.5]),
        "took": pa.array([1, 10**18], pa.duration("s")),
        "day": pa.array([0, 3_000_000], pa.date32()),
        "name": pa.array([b"\xff", b"a"], pa.binary()).view(pa.string()),
        "all": pa.array([[1.0, float("inf")], None], pa.list_(pa.float64())),
        "map": pa.MapArray.from_arrays(
            pa.array([0, 1, 2], pa.int32()),
            pa.array(["k", "l"]),
            pa.array([2**60, 0], pa.timestamp("s")),
        ),
        "when": pa.array(
            [{"at": 2**60, "n": 1}, {"at": 0, "n": 2}],
            pa.struct([("at", pa.timestamp("s")), ("n", "i4")]),
        ),
    }
    first, second = rows_of_arrow(*columns.values(), names=list(columns))
    assert json.loads(first.meta) == {
        "crawled": "1970-01-01T00:00:00",
        "zone": None,
        "score": None,
        "took": "0:00:01",
        "day": "1970-01-01",
        "name": None,
        "all": [1.0, None],
        "map": [["k", None]],
        "when": {"at": None, "n": 1},
    }
    assert first.nulls == ("zone", "score", "name", "all", "map", "when")
    assert second.nulls == ("crawled", "zone", "took", "day")
    assert json.loads(second.meta)["map"] == [["l", "1970-01-01T00:00:00"]]
    assert json.loads(second.meta)["when"] == {"at": "1970-01-01T00:00:00", "n": 2}


def test_columns_of_one_name_become_null_and_two_texts_are_an_error_of_the_file(
    tmp_path: Path,
) -> None:
    n = pa.array([1, 2])
    rows = rows_of_arrow(n, n, n, names=["n", "n", "m"])
    assert [(row.meta, row.nulls) for row in rows] == [
        (b'{"n":null,"m":1}', ("n",)),
        (b'{"n":null,"m":2}', ("n",)),
    ]
    text = pa.array(["a", "b"])
    pq.write_table(
        pa.Table.from_arrays([text, n, text], names=["text", "n", "text"]), tmp_path / "a.parquet"
    )
    with pytest.raises(FileBroken, match=r"a\.parquet: has 2 columns named 'text'"):
        list(ParquetFiles().read_rows(tmp_path / "a.parquet", RowSettings()))


def test_any_other_failure_is_one_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "t"}\n')

    def fail(*_: object) -> Row | Reject:
        raise ZeroDivisionError("that nobody thought of")

    monkeypatch.setattr("pipeline.corpus.kinds.json_lines.json_row", fail)
    with pytest.raises(
        FileBroken, match=r"a\.jsonl: cannot be read: ZeroDivisionError: that nobody thought of"
    ):
        list(JsonLines().read_rows(path, RowSettings()))

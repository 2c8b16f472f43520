"""Reading YAML strictly, overriding one value, merging layers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.yaml_files import (
    MOST_VALUES,
    FromCommandLine,
    apply_override,
    merge,
    read_strict_json,
    read_yaml,
    to_yaml,
)
from pipeline.errors import ConfigError


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6e-4", 6e-4),
        ("1e9", 1e9),
        ("-2.5E+3", -2500.0),
        ("1_000e3", 1e6),
        ("3.e-2", 0.03),
        ("100_000", 100_000),
        ("0.5", 0.5),
        ("e4", "e4"),
        ("'6e-4'", "6e-4"),
        ("6e-4x", "6e-4x"),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, value: object) -> None:
    read_value = read(tmp_path, f"x: {text}")["x"]
    assert read_value == value
    assert type(read_value) is type(value)


@settings(max_examples=50, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["e", "E", "r"]))
def test_every_float_as_python_prints_it(number: float, style: str) -> None:
    document: dict[str, object] = {}
    apply_override(document, f"x={number!r}" if style == "r" else f"x={number:.17{style}}")
    assert document["x"] == number


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "s: {a: 1, a: 1}\n", "s:\n  t: [{a: 1, a: 2}]\n"]
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML: the key 'a' is given twice"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"a: \xff", "not valid YAML"),
        (b"? [1, 2]\n: 3\n", "not valid YAML"),
        (b"- 1\n", "must be a YAML mapping of sections"),
        (b"", "must be a YAML mapping of sections"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_yaml(path)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the file: No such file or directory"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read the file: Is a directory"):
        read_yaml(tmp_path)


def test_overrides_are_yaml_and_make_their_sections() -> None:
    document: dict[str, Any] = {"a": {"b": 1}, "empty": None}
    for override in ("a.b=2", "a.c=x=y", "new.deep.key=[p, 3]", "empty.x=true", "none=null"):
        apply_override(document, override)
    assert document == {
        "a": {"b": 2, "c": "x=y"},
        "empty": {"x": True},
        "new": {"deep": {"key": ["p", 3]}},
        "none": None,
    }
    assert isinstance(document["new"]["deep"]["key"][0], FromCommandLine)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed': an override is written section.field=value"),
        ("=3", "'=3': an override is written section.field=value"),
        ("a.b.c=3", "'a.b.c=3': b is a value, not a section"),
        ("a.b=[1", r"'a.b=\[1': the value is not valid YAML"),
    ],
)
def test_a_wrong_override_says_how_to_write_it(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_override({"a": {"b": 1}}, override)


def test_merge_goes_into_sections_and_replaces_values() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"x": 1}}
    above = {"a": {"y": [3]}, "b": {"z": 1}, "c": None}
    assert merge(below, above) == {"a": {"x": 1, "y": [3]}, "b": {"z": 1}, "c": None}
    assert below["a"] == {"x": 1, "y": [1, 2]}


def test_times_are_text() -> None:
    document: dict[str, object] = {}
    apply_override(document, "a.limit=12:30:00")
    apply_override(document, "a.minutes=90")
    assert document == {"a": {"limit": "12:30:00", "minutes": 90}}


LAUGHS = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
)
ENDLESS = {
    "aliases": LAUGHS,
    "aliases of aliases": "\n".join(
        ["a0: &a0 x", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 400))]
    ),
    "an alias within itself": "a: &a [*a]",
    "keys": "\n".join(f"k{i}: 1" for i in range(MOST_VALUES // 2 + 1)),
    "one key": "\n".join(["k: 1"] * 2000),
    "nested lists": "a: " + "[" * 20_000 + "]" * 20_000,
    "nested lists without end": "a: " + "[" * 20_000,
    "nested mappings": "a: " + "{b: " * 20_000,
    "indented mappings": "\n".join(" " * i + "a:" for i in range(1500)),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_grows_without_end_is_a_message(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, ENDLESS[name])
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 1000
    with pytest.raises(ConfigError) as error:
        apply_override({}, "a={" + ENDLESS[name].replace("\n", ", ") + "}")
    assert len(str(error.value)) < 1000


def test_a_file_that_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "a: " + "x" * 3_000_000)
    assert len(str(error.value)) < 1000


def test_an_override_of_endless_sections() -> None:
    with pytest.raises(ConfigError):
        apply_override({}, ".".join(["a"] * 20_000) + "=1")


def test_aliases_within_the_bounds_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &a {x: &x [1, 2], y: *x}\nb: [*a, *x]\n")["b"] == [
        {"x": [1, 2], "y": [1, 2]},
        [1, 2],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "no: 1",
        "2024_10: 1",
        "1e5: 1",
        "2024-10-01: 1",
        "~: 1",
        "s: {on: 1}",
        "{[1]: 2}",
        "a: .nan",
        "a: [-.inf]",
        "a: 1e999",
        "a: 2024-13-45",
        "a: " + "9" * 5000,
        "a: !!int ''",
        "a: !!bool x",
        "a: !!timestamp x",
    ],
)
def test_what_is_read_as_something_else_than_it_looks_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, text)


@pytest.mark.parametrize("key", ["no", "2024_10", "1e5", "2024-10-01"])
def test_such_a_key_in_quotes_is_text_also_when_written_again(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f'"{key}"'):
        read(tmp_path, f"{key}: 1")
    document = read(tmp_path, f'"{key}": "{key}"')
    assert document == {key: key}
    assert read(tmp_path, to_yaml(document, is_ascii=True)) == document


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": NaN}',
        '{"a": [Infinity]}',
        '{"a": 1e999}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "' + "x" * 3_000_000 + '"}',
        "[1]",
        "\x00",
    ],
)
def test_json_is_read_as_strictly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_strict_json(path)
    assert len(str(error.value)) < 6000


def test_json_as_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": [{"b": 1.5, "c": true}], "b": {"b": null}}')
    assert read_strict_json(path) == {"a": [{"b": 1.5, "c": True}], "b": {"b": None}}

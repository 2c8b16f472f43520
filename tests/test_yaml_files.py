"""Reading YAML strictly, overriding one value, merging layers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.yaml_files import FromCommandLine, apply_override, merge, read_yaml


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


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "s: {a: 1, a: 1}\n", "s:\n  t: [{a: 1, a: 2}]\n"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML: the key 'a' stands twice"):
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

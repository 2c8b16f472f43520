"""The text of a row with named fields: one field, a nested one, or several that are joined.

Pure functions on rows that were parsed already.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import is_blank

MISSING = object()
"""Stands for the value of a field that a row lacks; null is another value."""


TakenText = tuple[Any, tuple[str, ...]]
"""The text of a row before it is checked: where there is none, the value that was found instead of
it, or MISSING. Then the fields among several that are missing, null or blank, so that the text is
the others alone. A plain tuple: one is made for every row, and a named one costs ten times as much.
"""


def take_text(
    row: dict[str, Any], settings: RowSettings, is_text: Callable[[str], bool] = lambda value: True
) -> TakenText:
    """Remove the text from a row of JSON and return it.

    `is_text` tells strings from values that only stand in for others, which are no text.
    """
    if isinstance(settings.text_field, str):
        return take_field(row, settings.text_field), ()
    values = [take_field(row, name) for name in settings.text_field]
    return join_fields(values, settings, is_text)


def join_fields(
    values: Sequence[Any],
    settings: RowSettings,
    is_text: Callable[[str], bool] = lambda value: True,
) -> TakenText:
    """Join the values of several fields with the separator; leave out what is missing or blank.

    A value that is no string is returned itself, and so are missing and blank ones if there is
    nothing else.
    """
    texts: list[str] = []
    blank_fields: list[str] = []
    blank: Any = MISSING
    for name, value in zip(settings.text_fields, values, strict=True):
        if value is MISSING or value is None or (isinstance(value, str) and is_blank(value)):
            blank_fields.append(name)
            blank = value if blank is MISSING else blank
        elif not isinstance(value, str) or not is_text(value):
            return value, ()
        else:
            texts.append(value)
    if not texts:
        return blank, ()
    return settings.text_separator.join(texts), tuple(blank_fields)


def take_field(row: dict[str, Any], name: str) -> Any:
    """Remove a field from a row and return its value; MISSING where there is no such field.

    A dot in the name is a part of a key, or leads into an object. The longest key that exists comes
    first: of `{"a.b": 1, "a": {"b": 2}}`, `a.b` is 1.
    """
    if name in row:
        return row.pop(name)
    holder = _holder(row, name)
    if holder is None:
        return MISSING
    inner, key = holder
    return inner.pop(key)


def field_names(row: Mapping[str, Any], settings: RowSettings) -> Iterator[str]:
    """Yield the names that a text field of this row may have.

    Those in objects are among them where the setting leads into an object.
    """
    is_nested = any("." in name for name in settings.text_fields)
    for name, value in row.items():
        inner = value if is_nested and isinstance(value, dict) else {}
        yield from [f"{name}.{key}" for key in inner] or [name]


def _holder(row: dict[str, Any], name: str) -> tuple[dict[str, Any], str] | None:
    """Return the object that holds a field, and the field's key in it."""
    if name in row:
        return row, name
    for first, rest in dotted_splits(name):
        inner = row.get(first)
        if isinstance(inner, dict):
            holder = _holder(inner, rest)
            if holder is not None:
                return holder
    return None


def dotted_splits(name: str) -> Iterable[tuple[str, str]]:
    """Yield the divisions of a name at one of its dots, the longest first part first."""
    end = name.rfind(".")
    while end >= 0:
        yield name[:end], name[end + 1 :]
        end = name.rfind(".", 0, end)

"""Columns of Parquet files that hold the text: found by name, also within structs, and taken out."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import pyarrow as pa

from pipeline.config.urls import RawPath
from pipeline.corpus.kinds.text_fields import dotted_splits
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.rows import columns_in_words

ColumnPath: TypeAlias = tuple[str, ...]
"""Names that lead to a column: its own, or those of the structs that it is in, and its own."""


class Columns:
    """The columns of a batch, from which those that hold the text are taken."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.names: list[str] = list(batch.schema.names)
        self.arrays: list[pa.Array] = list(batch.columns)

    def take(self, path: ColumnPath) -> pa.Array:
        """Remove a column and return it; a struct keeps its other fields."""
        place = self.names.index(path[0])
        column = self.arrays[place]
        if len(path) == 1:
            del self.names[place]
            del self.arrays[place]
            return column
        taken, self.arrays[place] = _take_nested(column, path[1:])
        return taken


def _take_nested(struct: pa.StructArray, path: ColumnPath) -> tuple[pa.Array, pa.Array]:
    """Return a field of a struct, null where the struct is, and the struct without the field."""
    # `flatten` makes the fields of a null struct null; `field` does not.
    children = list(struct.flatten())
    fields = list(struct.type)
    place = [field.name for field in fields].index(path[0])
    taken = children[place]
    if len(path) > 1:
        taken, children[place] = _take_nested(taken, path[1:])
        fields[place] = pa.field(path[0], children[place].type)
    else:
        del children[place]
        del fields[place]
    if not fields:
        # An array of structs without fields has no length of its own.
        empty = [{} if is_valid else None for is_valid in struct.is_valid().to_pylist()]
        return taken, pa.array(empty, pa.struct([]))
    rest = pa.StructArray.from_arrays(children, fields=fields, mask=struct.is_null())
    return taken, rest


def text_columns(file: RawPath, schema: pa.Schema, names: Sequence[str]) -> list[ColumnPath]:
    """Return the path of each named column, which stands exactly once in the file.

    A dot in a name is part of a column's name, or leads into a struct; the longest name that exists
    comes first. Raises FileBroken where the file has no such column, or two.
    """
    if not schema.names:
        raise FileBroken(file, "has no columns")
    return [_column_path(file, list(schema), name) for name in names]


def _column_path(file: RawPath, columns: Sequence[pa.Field], name: str) -> ColumnPath:
    path = _find_path(columns, name)
    if path is None:
        listed = columns_in_words(_names(columns, is_nested="." in name))
        raise FileBroken(file, f"has no column {name!r} but {listed}: set the source's text_field")
    same = columns
    for part in path:
        number = [column.name for column in same].count(part)
        if number > 1:
            raise FileBroken(
                file,
                f"has {number} columns named {part!r}, so it is unclear which one is the text: "
                "rename the others",
            )
        same = _inner(next(column for column in same if column.name == part))
    return path


def _find_path(columns: Sequence[pa.Field], name: str) -> ColumnPath | None:
    if any(column.name == name for column in columns):
        return (name,)
    for first, rest in dotted_splits(name):
        for column in columns:
            if column.name == first:
                path = _find_path(_inner(column), rest)
                if path is not None:
                    return (first, *path)
    return None


def _inner(column: pa.Field) -> list[pa.Field]:
    """Return the fields of a struct; none of any other column."""
    if pa.types.is_struct(column.type):
        return list(column.type)
    return []


def _names(columns: Iterable[pa.Field], is_nested: bool) -> list[str]:
    """Return the names of the columns, with those of fields in structs if `is_nested`."""
    names: list[str] = []
    for column in columns:
        inner = _names(_inner(column), is_nested) if is_nested else []
        names += [f"{column.name}.{name}" for name in inner] or [column.name]
    return names

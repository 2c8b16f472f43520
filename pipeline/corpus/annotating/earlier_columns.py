"""Columns of a file of annotations that was made before, of parts that have not changed."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa

from pipeline.corpus.annotating.annotation_file import ID, open_annotations, parts_of
from pipeline.corpus.annotating.part import AnnotationPart
from pipeline.errors import DataError


class EarlierColumns:
    """Reads them batch by batch; a file that is missing, damaged or of other documents has none."""

    def __init__(
        self,
        path: Path,
        checksum: str,
        parts: Sequence[AnnotationPart],
        fingerprints: Mapping[str, str],
    ) -> None:
        """Look at the file at `path`.

        `checksum`: of the documents shard. `fingerprints`: part -> the one that its columns must have.
        """
        self._open = contextlib.ExitStack()
        self._names: dict[str, list[str]] = {}
        try:
            self._file = self._open.enter_context(open_annotations(path, checksum))
        except DataError:
            return
        stored = parts_of(self._file)
        there = {(field.name, str(field.type)) for field in self._file.schema_arrow}
        for part in parts:
            fields = [(field.name, str(field.type)) for field in part.fields()]
            if {*fields} <= there and stored.get(part.name) == fingerprints[part.name]:
                self._names[part.name] = [name for name, _ in fields]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, group: int, ids: pa.Array) -> dict[str, list[pa.Array]]:
        """Return part -> columns of a row group; empty where the file has no such rows."""
        if not self._names or group >= self._file.num_row_groups:
            return {}
        names = [name for columns in self._names.values() for name in columns]
        try:
            table = self._file.read_row_group(group, [ID.name, *names], use_threads=False)
        except (pa.ArrowException, OSError):
            self._names = {}
            return {}
        if not table[ID.name].combine_chunks().equals(ids):
            self._names = {}
            return {}
        return {
            part: [table[name].combine_chunks() for name in columns]
            for part, columns in self._names.items()
        }

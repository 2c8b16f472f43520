"""Rows of a split as lm-eval reads them from `datasets`, decoded and processed one by one.

`datasets.map` processes a whole split before the first question is asked; here a function is applied
to a row when the row is read. Reads and writes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import datasets
import pyarrow as pa
from datasets.table import InMemoryTable

Row = dict[str, Any]
"""One question: whatever columns its data set has."""
Process = Callable[[Row], Mapping[str, Any] | None]
BATCH_ROWS = 64
"""Rows that are decoded at once when all are read."""


class StoredRows(Sequence[Row]):
    """A split, with the functions that `map` was given and that a row passes when it is read.

    Has what lm-eval and the code of its tasks use of `datasets.Dataset`. Anything else is asked of a
    `datasets.Dataset` of the same rows.
    """

    def __init__(self, table: pa.Table, functions: tuple[Process, ...] = ()) -> None:
        """Wrap a table; `functions` are applied to each row in their order."""
        self._table = table
        self._functions = functions

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> list[Row]: ...
    def __getitem__(self, key: int | slice) -> Row | list[Row]:
        """Return a row, or the rows of a slice. A column's name is asked of `datasets`."""
        if isinstance(key, slice):
            return [self[position] for position in range(*key.indices(len(self)))]
        if isinstance(key, str):
            return self.as_dataset()[key]
        position = range(len(self))[key]  # negative positions, and IndexError beyond the end
        return self._processed(self._table.slice(position, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), BATCH_ROWS):
            for row in self._table.slice(start, BATCH_ROWS).to_pylist():
                yield self._processed(row)

    @property
    def features(self) -> dict[str, Any]:
        """Names of the columns, in their order; the types are not known before all rows are read."""
        if not self._functions or not len(self):
            return dict.fromkeys(self._table.schema.names)
        return dict.fromkeys(self[0])

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in their order."""
        return list(self.features)

    def map(self, function: Process, **options: Any) -> "StoredRows | datasets.Dataset":
        """Apply a function to each row when it is read; options are left to `datasets`."""
        if options:
            return self.as_dataset().map(function, **options)
        return StoredRows(self._table, (*self._functions, function))

    def as_dataset(self) -> datasets.Dataset:
        """Return all rows as `datasets` has them, processed."""
        dataset = datasets.Dataset(InMemoryTable(self._table))
        for function in self._functions:
            dataset = dataset.map(function)
        return dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.as_dataset(), name)

    def _processed(self, row: Row) -> Row:
        for function in self._functions:
            row = {**row, **(function(row) or {})}
        return row

"""Values of rows to Arrow columns. Reads and writes no file."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa

from pipeline.corpus.annotating.part import Value


def column_of(values: Sequence[Value], kind: pa.DataType) -> pa.Array:
    """Return a column of one value a row, as `part.Value` describes them; None is null."""
    if not pa.types.is_list(kind):
        return pa.array(values, kind)

    # Join the elements of all rows, with the places where rows begin.
    element = kind.value_type
    if pa.types.is_struct(element):
        parts = [
            _joined([row[place] for row in values if row is not None], field.type)
            for place, field in enumerate(element)
        ]
        elements = pa.StructArray.from_arrays(parts, fields=list(element))
        sizes = [0 if row is None else len(row[0]) for row in values]
    else:
        elements = _joined([row for row in values if row is not None], element)
        sizes = [0 if row is None else len(row) for row in values]
    offsets = pa.array(accumulate(sizes, initial=0), pa.int32())
    is_null = pa.array([row is None for row in values], pa.bool_())
    if not any(row is None for row in values):
        return pa.ListArray.from_arrays(offsets, elements, type=kind)
    return pa.ListArray.from_arrays(offsets, elements, type=kind, mask=is_null)


def _joined(rows: Sequence[Value], kind: pa.DataType) -> pa.Array:
    """Return the elements of all rows as one array."""
    if pa.types.is_string(kind):
        return pa.array([element for row in rows for element in row], kind)
    numbers = kind.to_pandas_dtype()
    if not rows:
        return pa.array(np.zeros(0, numbers), kind)
    # An undefined score becomes nan on the way to null.
    arrays = [np.asarray(row, numbers) for row in rows]
    # A huge document has a batch of its own, and is not copied.
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return pa.array(joined, kind, from_pandas=pa.types.is_floating(kind))

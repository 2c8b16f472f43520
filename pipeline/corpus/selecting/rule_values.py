"""Which documents pass a rule, from the columns of their annotations. Reads no file."""

import operator
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.curation.rules import RuleComparison, parse_comparison
from pipeline.corpus.parquet_tables import column_numbers

COMPARE: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
SCORE = "score"
"""Field of a signal of lines that holds the value of a line."""


def compared_columns(rules: Mapping[str, str]) -> list[str]:
    """Return the columns that rules read, each once, in their order."""
    return list(dict.fromkeys(parse_comparison(text).column for text in rules.values()))


def failed_rules(rules: Mapping[str, str], table: pa.Table) -> dict[str, np.ndarray]:
    """Return for each rule which documents do not pass it, `(rows,) bool`.

    `table`: the annotations of the documents. An undefined value passes no comparison.
    """
    return {name: ~passes(parse_comparison(text), table) for name, text in rules.items()}


def passes(comparison: RuleComparison, table: pa.Table) -> np.ndarray:
    """Return which documents pass a comparison, `(rows,) bool`."""
    column = table[comparison.column].combine_chunks()
    if isinstance(comparison.value, str):
        equal = pc.call_function("equal", [column, pa.scalar(comparison.value, column.type)])
        if comparison.operator == "!=":
            equal = pc.call_function("invert", [equal])
        return equal.fill_null(False).to_numpy(zero_copy_only=False)
    values = compared_values(comparison, column)
    # A comparison with nan is false, but for !=.
    return COMPARE[comparison.operator](values, comparison.value) & ~np.isnan(values)


def compared_values(comparison: RuleComparison, column: pa.Array) -> np.ndarray:
    """Return the number of each document that a comparison reads, `(rows,) float64`.

    nan where it is undefined: a null, or the mean of no line.
    """
    if comparison.summary is None:
        return column_numbers(column)
    lengths = column_numbers(pc.call_function("list_value_length", [column]))
    if comparison.summary == "count":
        return lengths
    sums = _sums_of_scores(column)
    sums[np.isnan(lengths)] = np.nan
    if comparison.summary == "sum":
        return sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / lengths


def _sums_of_scores(column: pa.Array) -> np.ndarray:
    """Return the sum of the scores in each list, in their order, `(rows,) float64`."""
    parents = column_numbers(pc.call_function("list_parent_indices", [column])).astype(np.int64)
    scores = pc.call_function("list_flatten", [column]).field(SCORE)
    values = column_numbers(scores)
    return np.bincount(parents, values, minlength=len(column)).astype(np.float64)

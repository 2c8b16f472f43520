"""Which documents pass a rule, from the columns of their annotations. Reads no file."""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.curation.rules import RuleComparison, parse_comparison
from pipeline.errors import ConfigError

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


def refuse_wrong_columns(rules: Mapping[str, str], schema: pa.Schema) -> None:
    """Raise ConfigError naming each rule that the columns of the annotations cannot answer."""
    problems: list[str] = []
    for name, text in rules.items():
        comparison = parse_comparison(text)
        where = f"select.rules, {text}" if name == text.replace(" ", "") else f"select.rules.{name}"
        if comparison.column not in schema.names:
            problems.append(f"{where}: {_no_such_column(comparison.column, schema.names)}")
            continue
        problem = _wrong_type(comparison, schema.field(comparison.column).type)
        if problem is not None:
            problems.append(f"{where}: {problem}")
    if problems:
        raise ConfigError(problems)


def holds_scores(kind: pa.DataType) -> bool:
    """Tell whether a column has a list of spans with scores for each document."""
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        return False
    return pa.types.is_struct(kind.value_type) and kind.value_type.get_field_index(SCORE) >= 0


def _no_such_column(column: str, names: Collection[str]) -> str:
    hint = f"there are {', '.join(names)};"
    close = get_close_matches(column, names, n=3, cutoff=0.6)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    return f"the annotations have no column {column}; {hint} `annotate.signals` says which are computed"


def _wrong_type(comparison: RuleComparison, kind: pa.DataType) -> str | None:
    """Return why a comparison does not fit the type of its column; None where it does."""
    column = comparison.column
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if comparison.summary is None:
            return f"{column} has a value for each line; write mean({column}), sum or count"
        if comparison.summary != "count" and not holds_scores(kind):
            return f"{column} has no values to take the {comparison.summary} of; count its parts"
        return None
    if comparison.summary is not None:
        return f"{column} has one value for each document; leave out {comparison.summary}"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if is_text != isinstance(comparison.value, str):
        return (
            f"{column} holds {'words' if is_text else 'numbers'}, which {comparison.value} is not"
        )
    if not is_text and not is_number:
        return f"{column} holds neither numbers nor words"
    return None


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
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    counts = pc.call_function("list_value_length", [column])
    lengths = counts.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
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
    parents: Sequence[int] = pc.call_function("list_parent_indices", [column]).to_numpy()
    scores = pc.call_function("list_flatten", [column]).field(SCORE)
    values = scores.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.bincount(parents, values, minlength=len(column)).astype(np.float64)

"""Whether tables of points can be compared: one held-out text, and which part of the grid is shared."""

from collections.abc import Callable, Sequence
from itertools import combinations

from pipeline.cli.study.fit_lines import amount
from pipeline.errors import ConfigError, first_of
from pipeline.planning.laws.points import SAME, LawPoint, Selection, groups_of

AMOUNTS_SHOWN = 4
"""Sizes or budgets of one table alone that are printed."""
DIGITS_SHOWN = 8
"""Digits of a fingerprint that are printed."""


def refuse_other_held_out_text(selections: Sequence[Selection]) -> None:
    """Raise ConfigError where the losses of tables are known to be of different held-out text."""
    texts = {selection.table.name: _held_out_texts(selection) for selection in selections}
    if len(set().union(*texts.values())) < 2:
        return
    listed = "; ".join(
        f"{name}: {', '.join(text[:DIGITS_SHOWN] for text in sorted(own)) or 'unknown'}"
        for name, own in texts.items()
    )
    remedy = (
        "Train all procedures on data with the same held-out documents, data.sequence_length and "
        "data.validation_sequences"
    )
    if selections[0].table.unit != "bits-per-byte":
        remedy += ". Where only their tokenizers differ, compare with --unit bits-per-byte"
    raise ConfigError(
        [
            f"the losses are of different held-out text ({listed}), so they cannot be compared. {remedy}"
        ],
        "the tables",
    )


def _held_out_texts(selection: Selection) -> set[str]:
    return {point.held_out for point in selection.kept if point.held_out}


def grid_remarks(selections: Sequence[Selection], count: str) -> list[str]:
    """Return a line for each pair of tables whose sizes or budgets differ."""
    remarks: list[str] = []
    for first, second in combinations(selections, 2):
        parts: list[str] = []
        for one, other in ((first, second), (second, first)):
            parts += _amounts_of_one(one, other, "N", lambda point: point.counts[count])
            parts += _amounts_of_one(one, other, "C", lambda point: point.flops)
        if parts:
            remarks.append(
                f"{first.table.name} and {second.table.name} do not have one grid: "
                f"{'; '.join(parts)}"
            )
    return remarks


def _amounts_of_one(
    one: Selection, other: Selection, symbol: str, amount_of: Callable[[LawPoint], float]
) -> list[str]:
    """Return which sizes or budgets only one of two tables has, in words; nothing where none."""
    others = [amount_of(point) for point in other.kept]
    alone: list[str] = []
    for group in groups_of(one.kept, amount_of):
        low = amount_of(group[0]) / SAME
        high = amount_of(group[-1]) * SAME
        if not any(low <= number <= high for number in others):
            alone.append(amount(amount_of(group[0]), 2))
    if not alone:
        return []
    return [f"only {one.table.name} has {symbol} = {first_of(alone, AMOUNTS_SHOWN)}"]

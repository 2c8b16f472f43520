"""Short names of runs: what all names share is left out, and said once. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_LETTERS = 24
"""Names of at most so many letters are shown as they are."""
MOST_LETTERS_OF_A_LABEL = 40
"""Letters of a name in a legend; of a longer one the middle is left out."""
SEPARATORS = "-_/ "


@dataclass(frozen=True)
class ShownNames:
    """Names as a page shows them."""

    names: Sequence[str]
    """One for each run, all different."""
    remark: str
    """What the names are shown without; empty where they are whole."""


def shown_names(names: Sequence[str]) -> ShownNames:
    """Return names without the beginning and the end that all share, where one is long.

    `names`: whole names, all different. A name is cut between words alone.
    """
    if max(map(len, names)) <= MOST_LETTERS:
        return ShownNames(list(names), "")
    # The beginning that all share, of words each with the separator after it.
    words = [re.split(f"(?<=[{SEPARATORS}])", name) for name in names]
    beginning = "".join(_shared(words))
    rests = [name.removeprefix(beginning) for name in names]

    # The end that all share, of words each with the separator before it.
    words = [re.split(f"(?=[{SEPARATORS}])", rest)[::-1] for rest in rests]
    end = "".join(reversed(_shared(words)))
    parts = [f"the beginning {beginning}"] if beginning else []
    if end:
        parts.append(f"the end {end}")
    if not parts:
        return ShownNames(list(names), "")
    remark = f"Names are shown without {' and '.join(parts)} that all share."
    return ShownNames([rest.removesuffix(end) for rest in rests], remark)


def _shared(names: Sequence[Sequence[str]]) -> list[str]:
    """Return the first words that all names share, without the last word of any."""
    shared: list[str] = []
    for words in zip(*[words[:-1] for words in names], strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return shared


def legend_labels(names: Sequence[str]) -> list[str]:
    """Return names for a legend: long ones without their middle, all different."""
    labels: list[str] = []
    for number, name in enumerate(names, start=1):
        label = name
        if len(name) > MOST_LETTERS_OF_A_LABEL:
            kept = MOST_LETTERS_OF_A_LABEL // 2
            label = f"{name[:kept]}…{name[-kept:]}"
        if label in labels:
            label = f"{label} ({number})"
        labels.append(label)
    return labels

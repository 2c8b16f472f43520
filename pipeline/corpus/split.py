"""The choice of the documents that are held out for validation. Pure arithmetic.

A document is held out if its hash, as a number in [0, 1), is below `prepare.validation_fraction`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

MOST_FRACTION = 0.5
"""Bound that `prepare.validation_fraction` must be below."""


def hash_position(key: bytes) -> float:
    """Return the position of a key in [0, 1): its xxh3_64 hash divided by 2^64."""
    return xxhash.xxh3_64_intdigest(key) / 2**64


def choose_split(position: float, validation_fraction: float) -> str:
    """Return `validation` for a position below the fraction, else `train`."""
    if position < validation_fraction:
        return "validation"
    return "train"


@dataclass(frozen=True)
class SplitSetting:
    """The setting that decides how much of a source is held out by hash."""

    name: str
    fraction: float


def empty_split_advice(
    documents: Mapping[str, int], smallest: float, largest: float, setting: SplitSetting
) -> str | None:
    """Return the setting that would fill an empty split, or that there is none.

    None where neither split is empty. `documents`: at least one, by split. `smallest`, `largest`:
    positions of the source's documents.
    """
    # Nothing to train on.
    total = sum(documents.values())
    fraction = setting.fraction
    now = f"(now {fraction})"
    if documents["train"] == 0:
        highest = _rounded_down(largest)
        return (
            f"all of its {total:,} documents are held out, so there is nothing to train on. Set "
            f"{setting.name} to {highest} or less {now}; 0 holds nothing out."
        )
    if documents["validation"] > 0 or fraction == 0:
        return None

    # Nothing held out, and perhaps nothing that could be.
    finding = f"none of its {total:,} documents is held out, so it will have no validation loss. "
    if smallest == largest:
        return (
            f"{finding}No {setting.name} holds out a part of it: all its documents "
            "have one hash. Add documents."
        )
    largest_allowed = math.nextafter(MOST_FRACTION, 0)
    if smallest >= largest_allowed:
        return (
            f"{finding}No {setting.name} below {MOST_FRACTION} can hold out one of "
            f"them: their smallest hash is {smallest:.3g}. Add documents."
        )
    lowest = _shortest_between(smallest, min(largest, largest_allowed))
    return f"{finding}Set {setting.name} to {lowest} or more {now}."


@dataclass(frozen=True)
class HashRange:
    """The documents of a source that are divided by their hashes."""

    documents: int
    smallest: float
    """Smallest hash, 0 to 1."""
    largest: float
    is_held_out_nowhere: bool
    """Whether no document of the source is held out."""


def shared_split_advice(sources: Mapping[str, HashRange], setting: SplitSetting) -> str | None:
    """Return what to do for the sources without held-out documents among those that share a setting.

    None where each source has some. `sources`: all that the setting holds for. The advice is the one
    value that holds out a document of each of them and leaves one of every source, or that there is
    none.
    """
    empty = {name: each for name, each in sources.items() if each.is_held_out_nowhere}
    if not empty or setting.fraction == 0:
        return None
    numbers = ", ".join(f"{name} ({each.documents:,} documents)" for name, each in empty.items())
    finding = f"nothing is held out of {numbers}: no validation loss there. "
    own = "name files by sources.NAME.validation_paths, or set sources.NAME.validation_fraction"
    smallest = max(each.smallest for each in empty.values())
    most = min(each.largest for each in sources.values())
    most = min(most, math.nextafter(MOST_FRACTION, 0))
    if smallest >= most:
        return f"{finding}No {setting.name} suits all sources that share it: {own}."
    lowest = _shortest_between(smallest, most)
    return (
        f"{finding}{setting.name} = {lowest} (now {setting.fraction}) is the least that suits all of "
        f"them, and holds out about that share of every source; or {own}."
    )


def _shortest_between(above: float, most: float) -> float:
    """Return the number with the fewest digits in (above, most]."""
    for digits in range(1, 17):
        scale = 10 ** (digits - 1 - math.floor(math.log10(max(above, 1e-12))))
        number = float(f"{(math.floor(above * scale) + 1) / scale:.{digits}g}")
        if above < number <= most:
            return number
    return most


def _rounded_down(number: float) -> float:
    """Return the largest number of two significant digits that is not above `number`."""
    if number <= 0:
        return 0.0
    scale = 10 ** (1 - math.floor(math.log10(number)))
    return math.floor(number * scale) / scale

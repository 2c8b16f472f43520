"""Which documents are held out: those whose hash, as a number in [0, 1), is below
`prepare.validation_fraction`."""

import math
from collections.abc import Mapping

import xxhash

MOST_FRACTION = 0.5
"""`prepare.validation_fraction` is below that."""


def hash_position(key: bytes) -> float:
    """Return where a key lies in [0, 1), whatever stands before or after it."""
    return xxhash.xxh3_64_intdigest(key) / 2**64


def choose_split(position: float, validation_fraction: float) -> str:
    """Return `validation` for that fraction of all positions, the smallest ones, else `train`."""
    return "validation" if position < validation_fraction else "train"


def empty_split_advice(
    documents: Mapping[str, int], smallest: float, largest: float, fraction: float
) -> str | None:
    """Say what to set where one of the two splits is empty, or that nothing can be set; None where
    neither is.

    `smallest`, `largest`: the positions of a source's documents, of which it has at least one.
    """
    total = sum(documents.values())
    now = f"(now {fraction})"
    if documents["train"] == 0:
        most = _rounded_down(largest)
        return (
            f"all of its {total:,} documents are held out, so there is nothing to train on. Set "
            f"prepare.validation_fraction to {most} or less {now}; 0 holds nothing out."
        )
    if documents["validation"] > 0 or fraction == 0:
        return None
    finding = f"none of its {total:,} documents is held out, so it will have no validation loss. "
    if smallest == largest:
        return f"{finding}No prepare.validation_fraction holds out a part of it: all of it has one hash. Add documents."
    largest_allowed = math.nextafter(MOST_FRACTION, 0)
    if smallest >= largest_allowed:
        return (
            f"{finding}No prepare.validation_fraction below {MOST_FRACTION} can hold out one of "
            "them: their smallest hash "
            f"is {smallest:.3g}. Add documents."
        )
    least = _between(smallest, min(largest, largest_allowed))
    return f"{finding}Set prepare.validation_fraction to {least} or more {now}."


def _between(above: float, most: float) -> float:
    """Return the shortest number in (above, most]."""
    for digits in range(1, 17):
        scale = 10 ** (digits - 1 - math.floor(math.log10(max(above, 1e-12))))
        number = float(f"{(math.floor(above * scale) + 1) / scale:.{digits}g}")
        if above < number <= most:
            return number
    return most


def _rounded_down(number: float) -> float:
    """Return a number of two digits at most so large."""
    if number <= 0:
        return 0.0
    scale = 10 ** (1 - math.floor(math.log10(number)))
    return math.floor(number * scale) / scale

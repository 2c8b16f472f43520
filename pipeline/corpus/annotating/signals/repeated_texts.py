"""Lines and paragraphs that occur more than once in a document. Reads and writes no file."""

import re
from collections.abc import Iterable
from typing import NamedTuple

PARAGRAPH_BREAKS = re.compile(r"\n{2,}")


class Repeats(NamedTuple):
    """Pieces of a text that have stood in it before."""

    pieces: int
    """Number of all pieces that hold more than white space."""
    repeated: int
    """Number of those that have stood in the text before."""
    characters: int
    """Characters of those that have stood in the text before."""


def count_repeats(pieces: Iterable[str]) -> Repeats:
    """Count the pieces that equal an earlier one. Pieces of white space alone are none."""
    seen: set[str] = set()
    total = 0
    repeated = 0
    characters = 0
    for piece in pieces:
        if not piece.strip():
            continue
        total += 1
        if piece in seen:
            repeated += 1
            characters += len(piece)
        seen.add(piece)
    return Repeats(total, repeated, characters)

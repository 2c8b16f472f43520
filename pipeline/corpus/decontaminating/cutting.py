"""What is left of a document when the words that it shares with questions are cut.

Source: Brown et al. 2020 (arXiv:2005.14165), appendix C: the n-gram and 200 characters around it are
removed, pieces of fewer than 200 characters are dropped, and a document that falls into more than 10
pieces is removed as a whole. Reads and writes no file.
"""

from collections.abc import Sequence

WINDOW = 200
"""Characters before and after a shared n-gram that are cut with it."""
SHORTEST_PIECE = 200
"""Characters below which what is left between two cuts is cut, too."""
MOST_PIECES = 10
Span = tuple[int, int]
"""First character, and the character after the last one."""


def spans_to_cut(shared: Sequence[Span], length: int) -> list[Span] | None:
    """Return the spans to cut, ascending and apart; None where the document is to be removed.

    `shared`: spans of shared n-grams, in any order; `length`: characters of the document.
    """
    widened = sorted((max(0, start - WINDOW), min(length, end + WINDOW)) for start, end in shared)

    # Join spans that leave too short a piece between them, or before the first and after the last.
    cuts: list[Span] = []
    end_of_last = 0
    for start, end in widened:
        if start - end_of_last < SHORTEST_PIECE:
            start = end_of_last
            if cuts:
                start = cuts.pop()[0]
        cuts.append((start, max(end, end_of_last)))
        end_of_last = cuts[-1][1]
    if cuts and length - end_of_last < SHORTEST_PIECE:
        cuts[-1] = (cuts[-1][0], length)

    pieces = len(cuts) + 1
    if cuts and cuts[0][0] == 0:
        pieces -= 1
    if cuts and cuts[-1][1] == length:
        pieces -= 1
    if pieces == 0 or pieces > MOST_PIECES:
        return None
    return cuts

"""The signals of RedPajama-v2 that have a value for each line.

Source: RedPajama-Data, app/src/core/quality_signals/lines.py. Spans are of the raw lines with their
newlines, also where a value is of the normalised line.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.number_blocks import sums_before
from pipeline.corpus.annotating.signals.signal import Signals, rounded
from pipeline.corpus.annotating.text_pieces import counts_of_characters, newline_places

TERMINAL_MARKS = (".", "!", "?", "\u201d")
"""Ends of a sentence; the last one is a closing double quotation mark."""
BULLETS = (
    "\u2022",
    "\u2023",
    "\u25b6",
    "\u25c0",
    "\u25e6",
    "\u25a0",
    "\u25a1",
    "\u25aa",
    "\u25ab",
    "\u2013",
)
"""Bullets, triangles, squares and the en dash."""
JAVASCRIPT = "javascript"


@lru_cache
def character_table(predicate: Callable[[str], bool]) -> np.ndarray:
    """Return what a predicate says of each character, by its code point, `(0x110000,) bool`."""
    return np.fromiter(map(predicate, map(chr, range(0x110000))), bool, 0x110000)


def javascript_counts(document: DocumentText) -> np.ndarray:
    """Count the words that are JAVASCRIPT."""
    if JAVASCRIPT not in document.folded:
        return np.zeros(document.line_count)
    found = document.word_ids == document.word_numbers.get(JAVASCRIPT, -1)
    before = sums_before(found, np.cumsum(document.line_words))
    return np.diff(before, prepend=0).astype(np.float64)


def ending_with_terminal_mark(document: DocumentText) -> np.ndarray:
    """Return 1 for each raw line that ends with one of TERMINAL_MARKS, white space aside."""
    ends = [line.rstrip().endswith(TERMINAL_MARKS) for line in document.lines]
    return np.array(ends, np.float64)


def num_words(document: DocumentText) -> np.ndarray:
    """Count the words."""
    return document.line_words.astype(np.float64)


def uppercase_letter_fraction(document: DocumentText) -> np.ndarray:
    """Return the share of characters of the raw line, with its newline, in upper case."""
    is_upper = character_table(str.isupper)
    counts = counts_of_characters(document.text, is_upper, document.line_ends)
    return rounded(counts / (document.line_ends - document.line_starts))


def numerical_chars_fraction(document: DocumentText) -> np.ndarray:
    """Return the share of characters of the normalised line that are numeric; 0 if it is empty."""
    ends = newline_places(document.folded)
    if len(ends) < document.line_count:
        ends = np.append(ends, len(document.folded))
    counts = counts_of_characters(document.folded, character_table(str.isnumeric), ends)

    # A normalised line is its words with a blank between two.
    after = np.cumsum(document.line_words)
    in_words = np.diff(sums_before(document.word_lengths, after), prepend=0)
    lengths = in_words + np.maximum(document.line_words - 1, 0)
    return rounded(counts / np.maximum(lengths, 1))


def start_with_bullet(document: DocumentText) -> np.ndarray:
    """Return 1 for each raw line that begins with one of BULLETS, white space aside."""
    starts = [line.lstrip().startswith(BULLETS) for line in document.lines]
    return np.array(starts, np.float64)


SIGNALS = Signals(
    {},
    {
        "rps_lines_javascript_counts": javascript_counts,
        # Published with this spelling.
        "rps_lines_ending_with_terminal_punctution_mark": ending_with_terminal_mark,
        "rps_lines_num_words": num_words,
        "rps_lines_uppercase_letter_fraction": uppercase_letter_fraction,
        "rps_lines_numerical_chars_fraction": numerical_chars_fraction,
        "rps_lines_start_with_bulletpoint": start_with_bullet,
    },
)

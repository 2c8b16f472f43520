"""The signals behind the filters that FineWeb adds to those of Gopher and C4.

Source: Penedo et al. 2024 (arXiv:2406.17557), section 3.6, and datatrove,
src/datatrove/pipeline/filters/fineweb_quality_filter.py. Lines without text do not count. Words are the raw
words of RedPajama-v2, where FineWeb used spaCy's.
"""

from collections.abc import Iterator

import regex

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.signals.repeated_texts import count_repeats
from pipeline.corpus.annotating.signals.signal import Signals, ratio

SENTENCE_END = regex.compile(r"\p{Sentence_Terminal}")
"""A character that ends sentences in some script: Unicode's property, which all but three of
datatrove's marks have."""
SHORT_LINE = 30
"""Most characters of a short line."""


def _lines(document: DocumentText) -> Iterator[str]:
    """Yield the lines with text."""
    return (line for line in document.lines if line.strip())


def _line_count(document: DocumentText) -> int:
    return sum(1 for _ in _lines(document))


def frac_lines_end_with_punctuation(document: DocumentText) -> float | None:
    """Return the share of lines whose last character ends a sentence."""
    count = _line_count(document)
    if not count:
        return None
    ends = sum(bool(SENTENCE_END.match(line[-1])) for line in _lines(document))
    return ratio(ends, count)


def frac_short_lines(document: DocumentText) -> float | None:
    """Return the share of lines of at most SHORT_LINE characters."""
    count = _line_count(document)
    if not count:
        return None
    return ratio(sum(len(line) <= SHORT_LINE for line in _lines(document)), count)


def frac_chars_dupe_lines(document: DocumentText) -> float | None:
    """Return the share of characters in lines that have stood in the document before."""
    characters = len(document) - document.text.count("\n")
    if not characters:
        return None
    return ratio(count_repeats(_lines(document)).characters, characters)


def newlines_to_words(document: DocumentText) -> float | None:
    """Return the number of newlines for each raw word."""
    if not document.raw_words.total:
        return None
    return ratio(document.text.count("\n"), document.raw_words.total)


SIGNALS = Signals(
    {
        "fineweb_frac_lines_end_with_punctuation": frac_lines_end_with_punctuation,
        "fineweb_frac_short_lines": frac_short_lines,
        "fineweb_frac_chars_dupe_lines": frac_chars_dupe_lines,
        "fineweb_newlines_to_words": newlines_to_words,
    },
    {},
)

"""The signals behind the filters of Gopher that RedPajama-v2 does not have, or defines otherwise.

Source: Rae et al. 2021 (arXiv:2112.11446), section A.1.1 and table A1. The paper does not say what a
word is: here what stands between white space of the text as it is. The share of lines that end with an
ellipsis and those of repeated n-grams are the signals of RedPajama-v2.
"""

from collections.abc import Callable

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.signals.repeated_texts import (
    PARAGRAPH_BREAKS,
    Repeats,
    count_repeats,
)
from pipeline.corpus.annotating.signals.signal import DocumentSignal, Signals, ratio

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
"""Words of which a document has to hold two."""
BULLETS = ("\u2022", "-")
"""A bullet and a hyphen. Source: datatrove, src/datatrove/pipeline/filters/gopher_quality_filter.py."""
ELLIPSES = ("...", "\u2026")


def word_count(document: DocumentText) -> float:
    """Count the words."""
    return float(document.spaced_word_count)


def mean_word_length(document: DocumentText) -> float | None:
    """Return the mean number of characters of a word, its punctuation included."""
    if not document.spaced_word_count:
        return None
    return ratio(sum(map(len, document.spaced_words)), document.spaced_word_count)


def hash_to_word_ratio(document: DocumentText) -> float | None:
    """Return the number of `#` for each word."""
    if not document.spaced_word_count:
        return None
    return ratio(document.text.count("#"), document.spaced_word_count)


def ellipsis_to_word_ratio(document: DocumentText) -> float | None:
    """Return the number of ellipses (three dots, or the character) for each word."""
    if not document.spaced_word_count:
        return None
    return ratio(sum(map(document.text.count, ELLIPSES)), document.spaced_word_count)


def frac_lines_start_with_bullet(document: DocumentText) -> float | None:
    """Return the share of lines that begin with one of BULLETS, white space aside."""
    if not document.line_count:
        return None
    starts = sum(line.lstrip().startswith(BULLETS) for line in document.lines)
    return ratio(starts, document.line_count)


def frac_words_with_letter(document: DocumentText) -> float | None:
    """Return the share of words that hold a letter of any script."""
    if not document.spaced_word_count:
        return None
    # Most words are letters alone, which is asked in one call.
    lettered = sum(word.isalpha() or any(map(str.isalpha, word)) for word in document.spaced_words)
    return ratio(lettered, document.spaced_word_count)


def stop_words(document: DocumentText) -> float:
    """Count which of STOP_WORDS occur, whatever their case and punctuation: 0 to 8."""
    return float(len(STOP_WORDS & document.word_numbers.keys()))


def _line_repeats(document: DocumentText) -> Repeats:
    return count_repeats(document.lines)


def _paragraph_repeats(document: DocumentText) -> Repeats:
    return count_repeats(PARAGRAPH_BREAKS.split(document.text.strip()))


def frac_repeated(repeats_of: Callable[[DocumentText], Repeats]) -> DocumentSignal:
    """Return the signal: the share of lines or paragraphs that have stood in the document before."""

    def fraction(document: DocumentText) -> float | None:
        repeats = repeats_of(document)
        if not repeats.pieces:
            return None
        return ratio(repeats.repeated, repeats.pieces)

    return fraction


def frac_chars_repeated(repeats_of: Callable[[DocumentText], Repeats]) -> DocumentSignal:
    """Return the signal: the share of the text's characters in them."""

    def fraction(document: DocumentText) -> float | None:
        if not document.text:
            return None
        return ratio(repeats_of(document).characters, len(document))

    return fraction


SIGNALS = Signals(
    {
        "gopher_word_count": word_count,
        "gopher_mean_word_length": mean_word_length,
        "gopher_hash_to_word_ratio": hash_to_word_ratio,
        "gopher_ellipsis_to_word_ratio": ellipsis_to_word_ratio,
        "gopher_frac_lines_start_with_bullet": frac_lines_start_with_bullet,
        "gopher_frac_words_with_letter": frac_words_with_letter,
        "gopher_stop_words": stop_words,
        "gopher_frac_dupe_lines": frac_repeated(_line_repeats),
        "gopher_frac_dupe_paragraphs": frac_repeated(_paragraph_repeats),
        "gopher_frac_chars_dupe_lines": frac_chars_repeated(_line_repeats),
        "gopher_frac_chars_dupe_paragraphs": frac_chars_repeated(_paragraph_repeats),
    },
    {},
)

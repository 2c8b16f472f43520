"""The signals of RedPajama-v2 that have one value a document and need no model or list of URLs.

Source of all: RedPajama-Data, app/src/core/quality_signals/ (natural_language.py, content.py). "Words"
are the normalised ones; "raw words" are words, and runs of punctuation, of the text as it is.
"""

import re

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.raw_words import stop_words
from pipeline.corpus.annotating.signals.signal import PRECISION, DocumentSignal, Signals, ratio
from pipeline.corpus.annotating.text_pieces import normalised_text

SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
SYMBOLS = ("#", "...", "…")
ELLIPSES = ("...", "…")
LOREM_IPSUM = re.compile("lorem ipsum", re.IGNORECASE)


def num_sentences(document: DocumentText) -> float:
    """Count the matches of SENTENCE in the text."""
    return float(sum(1 for _ in SENTENCE.finditer(document.text)))


def word_count(document: DocumentText) -> float:
    """Count the words."""
    return float(document.word_total)


def mean_word_length(document: DocumentText) -> float | None:
    """Return the mean number of characters of a word."""
    if not document.word_total:
        return None
    return ratio(int(document.word_lengths.sum()), document.word_total)


def symbol_to_word_ratio(document: DocumentText) -> float | None:
    """Return the number of SYMBOLS in the text for each raw word."""
    if not document.raw_words.total:
        return None
    return ratio(sum(map(document.text.count, SYMBOLS)), document.raw_words.total)


def frac_lines_end_with_ellipsis(document: DocumentText) -> float | None:
    """Return the share of lines that end with one of ELLIPSES, white space aside."""
    if not document.line_count:
        return None
    ends = sum(line.rstrip().endswith(ELLIPSES) for line in document.lines)
    return ratio(ends, document.line_count)


def frac_no_alph_words(document: DocumentText) -> float | None:
    """Return the share of raw words without a letter of ASCII."""
    if not document.raw_words.total:
        return None
    return round(1.0 - document.raw_words.lettered / document.raw_words.total, PRECISION)


def frac_unique_words(document: DocumentText) -> float | None:
    """Return the number of different words for each word."""
    if not document.word_total:
        return None
    return ratio(len(document.word_numbers), document.word_total)


def unigram_entropy(document: DocumentText) -> float | None:
    """Return the entropy of the distribution of the words, in nats."""
    if not document.word_total:
        return None
    shares = document.word_counts / document.word_total
    return round(float(-(shares * np.log(shares)).sum()), PRECISION)


def frac_all_caps_words(document: DocumentText) -> float | None:
    """Return the share of raw words in upper case."""
    if not document.raw_words.total:
        return None
    return ratio(document.raw_words.capitals, document.raw_words.total)


def lorem_ipsum(document: DocumentText) -> float:
    """Return the number of LOREM_IPSUM for each character of the normalised text."""
    if not document.word_total:
        return 0.0
    # What is rare is looked for first in the text that is there already.
    if "lorem" not in document.folded:
        return 0.0
    normalised = normalised_text(document.folded)
    return ratio(len(LOREM_IPSUM.findall(normalised)), len(normalised))


def curly_bracket(document: DocumentText) -> float:
    """Return the number of curly brackets for each character of the text."""
    if not document.text:
        return 0.0
    return ratio(document.text.count("{") + document.text.count("}"), len(document))


def stop_word_fraction(language: str) -> DocumentSignal:
    """Return the signal of stop words: their share of the raw words, for one language."""

    def fraction(document: DocumentText) -> float:
        if not document.word_total:
            return 0.0
        counts = document.raw_words.stop_words
        found = sum(counts[word] for word in counts.keys() & stop_words()[language])
        return ratio(found, document.raw_words.total)

    return fraction


SIGNALS = Signals(
    {
        "rps_doc_num_sentences": num_sentences,
        "rps_doc_word_count": word_count,
        "rps_doc_mean_word_length": mean_word_length,
        "rps_doc_symbol_to_word_ratio": symbol_to_word_ratio,
        "rps_doc_frac_lines_end_with_ellipsis": frac_lines_end_with_ellipsis,
        "rps_doc_frac_no_alph_words": frac_no_alph_words,
        "rps_doc_frac_unique_words": frac_unique_words,
        "rps_doc_unigram_entropy": unigram_entropy,
        "rps_doc_frac_all_caps_words": frac_all_caps_words,
        "rps_doc_lorem_ipsum": lorem_ipsum,
        "rps_doc_curly_bracket": curly_bracket,
    },
    {},
)

"""The signals of RedPajama-v2 that measure repeated n-grams of normalised words.

Source: RedPajama-Data, app/src/core/quality_signals/repetitions.py, after Rae et al. 2021
(arXiv:2112.11446), table A1.
"""

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.signals.signal import DocumentSignal, Signals, ratio

TOP_SIZES = (2, 3, 4)
REPEATED_SIZES = (5, 6, 7, 8, 9, 10)


def frac_chars_top_ngram(size: int) -> DocumentSignal:
    """Return the signal: the share of the words' characters in the most frequent n-gram.

    Its occurrences are counted as they are, overlapping ones too. 0 where no n-gram repeats.
    """

    def fraction(document: DocumentText) -> float:
        repeated = document.repeated_words(size)
        if not repeated.top_count:
            return 0.0
        place = repeated.top_place
        characters = int(document.word_lengths[place : place + size].sum())
        return ratio(characters * repeated.top_count, int(document.word_lengths.sum()))

    return fraction


def frac_chars_dupe_ngrams(size: int) -> DocumentSignal:
    """Return the signal: the share of the words' characters in n-grams that occur more than once.

    A word counts once, in however many of them it is.
    """

    def fraction(document: DocumentText) -> float:
        places = document.repeated_words(size).places
        if not len(places):
            return 0.0
        # An n-gram begins at a place once at most: the sums are from 0 to `size`.
        begins_and_ends = np.zeros(document.word_total + 1, np.int8)
        begins_and_ends[places] += 1
        begins_and_ends[places + size] -= 1
        is_repeated = np.cumsum(begins_and_ends, dtype=np.int8)[:-1] > 0
        lengths = document.word_lengths
        return ratio(int(lengths[is_repeated].sum()), int(lengths.sum()))

    return fraction


SIGNALS = Signals(
    {f"rps_doc_frac_chars_top_{size}gram": frac_chars_top_ngram(size) for size in TOP_SIZES}
    | {
        f"rps_doc_frac_chars_dupe_{size}grams": frac_chars_dupe_ngrams(size)
        for size in REPEATED_SIZES
    },
    {},
)

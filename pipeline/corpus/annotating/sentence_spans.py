"""Spans of three sentences in a row, each with a hash, as the deduplication of C4 compares them.

Every sentence but the last two begins one, so spans overlap: wherever a repeated one begins, it is
found. Reads and writes no file.

Source: Raffel et al. 2020 (JMLR 21:140), section 2.2: all but one of any three-sentence span that
occurs more than once is discarded. C4 divided text by NLTK's punkt; here the rule is simpler.
"""

import re
from typing import NamedTuple

import numpy as np
import xxhash

from pipeline.corpus.annotating.document_text import DocumentText, folded, hash_of_words

SENTENCES = 3
"""Sentences of a span. Source: Raffel et al. 2020, section 2.2."""
SENTENCE_END = re.compile(
    r"(?:(?<!\b\w)[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f\uff09]*)[^\S\n]*\n?"
)
"""Marks that end a sentence, also the full-width ones of Chinese and Japanese, with closing quotes and
brackets and the white space behind them. No end is
the dot of an initial (`J. S. Bach`), or one within a number or a name (`3.14`, `example.com`)."""


class HashedSpans(NamedTuple):
    """Spans of a text, ascending by their starts."""

    start: np.ndarray
    """`(spans,) int64`: first character."""
    end: np.ndarray
    """`(spans,) int64`: character after the last one."""
    hashes: np.ndarray
    """`(spans,) uint64`"""


def three_sentence_spans(document: DocumentText) -> HashedSpans:
    """Return each span of three sentences in a row, with the hash of their normalised words.

    A line's end ends a sentence, too. A sentence reaches to the next one, so nothing is left between
    sentences that are cut; what has no words is none, and may lie between two of them.
    """
    ends = [match.end() for match in SENTENCE_END.finditer(document.text)]
    bounds = np.unique(np.concatenate([np.array(ends, np.int64), document.line_ends]))
    start: list[int] = []
    end: list[int] = []
    digests: list[int] = []
    before = 0
    for bound in bounds.tolist():
        sentence = folded(document.text[before:bound])
        if sentence.strip():
            start.append(before)
            end.append(bound)
            digests.append(hash_of_words(sentence))
        before = bound

    # A span's hash is that of its sentences' hashes.
    count = max(0, len(start) - SENTENCES + 1)
    content = np.array(digests, "<u8").tobytes()
    hashes = [
        xxhash.xxh3_64_intdigest(content[8 * first : 8 * (first + SENTENCES)])
        for first in range(count)
    ]
    return HashedSpans(
        np.array(start[:count], np.int64),
        np.array(end[SENTENCES - 1 :], np.int64)[:count],
        np.array(hashes, np.uint64),
    )

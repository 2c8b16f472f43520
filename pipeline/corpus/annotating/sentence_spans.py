"""Spans of three sentences in a row, each with a hash, as the deduplication of C4 compares them.

Every sentence but the last two begins one, so spans overlap: wherever a repeated one begins, it is
found. Reads and writes no file.

Source: Raffel et al. 2020 (JMLR 21:140), section 2.2: all but one of any three-sentence span that
occurs more than once is discarded, after lines that do not end in a sentence's mark. Here such lines
(headings, code, verses) are no sentences, and no span crosses one. C4 divided text by NLTK's punkt; this
rule is simpler.
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

    A sentence begins where the one before ends, or a line, and ends with its mark. What has no words
    may lie between two sentences; words without a mark end a run of sentences.
    """
    ends = {match.end() for match in SENTENCE_END.finditer(document.text)}
    bounds = sorted(ends.union(document.line_ends.tolist()))
    start: list[int] = []
    end: list[int] = []
    digests: list[int] = []
    runs: list[int] = []
    run = 0
    before = 0
    for bound in bounds:
        sentence = folded(document.text[before:bound])
        has_words = bool(sentence.strip())
        if has_words and bound not in ends:
            run += 1
        elif has_words:
            start.append(before)
            end.append(bound)
            digests.append(hash_of_words(sentence))
            runs.append(run)
        before = bound

    # A span's hash is that of its sentences' hashes.
    content = np.array(digests, "<u8").tobytes()
    last = SENTENCES - 1
    firsts = [first for first in range(len(start) - last) if runs[first] == runs[first + last]]
    hashes = [
        xxhash.xxh3_64_intdigest(content[8 * first : 8 * (first + SENTENCES)]) for first in firsts
    ]
    return HashedSpans(
        np.array([start[first] for first in firsts], np.int64),
        np.array([end[first + last] for first in firsts], np.int64),
        np.array(hashes, np.uint64),
    )

"""The part `paragraphs`: a hash of each paragraph, so that repeated ones can be cut.

A paragraph is a line, as in RedPajama-v2 and Dolma. Its span includes the newline: what is left after
cutting spans has no empty lines in their place. Or it is a span of three sentences, as in C4
(`sentence_spans.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Self

import numpy as np
import pyarrow as pa

from pipeline.config.curation.annotate_section import LINES, ParagraphUnit
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText, hash_of_words
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.corpus.annotating.sentence_spans import SENTENCES, three_sentence_spans
from pipeline.store.records import Json

SPAN_HASH = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("hash", pa.uint64())])


@dataclass(frozen=True)
class ParagraphHashes(AnnotationPart):
    """xxh3 of 64 bits over the normalised words of each paragraph, joined by blanks.

    Paragraphs without words are left out.
    """

    unit: ParagraphUnit = LINES

    name = "paragraphs"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.paragraphs` is set."""
        if config.annotate is None or not config.annotate.paragraphs:
            return None
        return cls(config.annotate.paragraph_unit)

    def settings(self) -> Json:
        """Return the unit; nothing for lines, which were the only one once."""
        if self.unit == LINES:
            return None
        return [self.unit, SENTENCES]

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `paragraph_hashes`."""
        return [pa.field("paragraph_hashes", list_of(SPAN_HASH))]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return starts, ends and hashes of the paragraphs that have words."""
        if self.unit != LINES:
            return [three_sentence_spans(document)]
        has_words = document.line_words > 0
        lines = compress(document.folded_lines, has_words)
        hashes = np.fromiter(map(hash_of_words, lines), np.uint64, np.count_nonzero(has_words))
        starts = document.line_starts[has_words]
        ends = document.line_ends[has_words]
        return [(starts, ends, hashes)]

"""The part `paragraphs`: a hash of each paragraph, so that repeated ones can be cut.

A paragraph is a line, as in RedPajama-v2 and Dolma. Its span includes the newline: what is left after
cutting spans has no empty lines in their place.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import (
    PIECE_CHARACTERS,
    DocumentText,
    pieces_at_spaces,
)
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.store.records import Json

SPAN_HASH = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("hash", pa.uint64())])


class ParagraphHashes(AnnotationPart):
    """xxh3 of 64 bits over the normalised words of each paragraph, joined by blanks.

    Paragraphs without words are left out.
    """

    name = "paragraphs"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.paragraphs` is set."""
        if config.annotate is None or not config.annotate.paragraphs:
            return None
        return cls()

    def settings(self) -> Json:
        """Return nothing: the hashes depend on the text alone."""
        return None

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `paragraph_hashes`."""
        return [pa.field("paragraph_hashes", list_of(SPAN_HASH))]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return starts, ends and hashes of the paragraphs that have words."""
        lines = document.folded.split("\n")
        has_words = document.line_words > 0
        hashes = [_hash_of_words(lines[number]) for number in np.flatnonzero(has_words).tolist()]
        starts = document.line_starts[has_words]
        ends = document.line_ends[has_words]
        return [(starts, ends, np.array(hashes, np.uint64))]


def _hash_of_words(line: str) -> int:
    """Return the hash of a line's words, joined by blanks, of a long one piece by piece."""
    if len(line) <= PIECE_CHARACTERS:
        return xxhash.xxh3_64_intdigest(" ".join(line.split()).encode())
    digest = xxhash.xxh3_64()
    blank = ""
    for piece in pieces_at_spaces(line):
        words = piece.split()
        if words:
            digest.update((blank + " ".join(words)).encode())
            blank = " "
    return digest.intdigest()

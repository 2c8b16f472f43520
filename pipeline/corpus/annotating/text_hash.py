"""The part `text_hash`: documents of the same text have the same value."""

from collections.abc import Sequence
from typing import Self

import pyarrow as pa
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value
from pipeline.store.records import Json

HASH_OF_TEXT = pa.field("text_hash", pa.binary(16))
"""xxh3 of 128 bits over the text's UTF-8, most significant byte first."""


class TextHash(AnnotationPart):
    """xxh3 of 128 bits over the text's UTF-8, most significant byte first. Always made."""

    name = "text_hash"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self:
        """Return the part, which has no settings."""
        return cls()

    def settings(self) -> Json:
        """Return nothing: the hash depends on the text alone."""
        return None

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `text_hash`."""
        return [HASH_OF_TEXT]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return the hash, 16 bytes."""
        return [xxhash.xxh3_128_digest(document.text.encode())]

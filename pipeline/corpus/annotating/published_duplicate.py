"""The part `published_duplicate`: which documents a published list names as copies of others."""

from collections.abc import Sequence
from typing import Self

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value
from pipeline.corpus.trees.published_annotations import published_parts
from pipeline.store.records import Json

DUPLICATES = "duplicates"
"""Name of the lists among the parts of a published corpus."""


class PublishedDuplicate(AnnotationPart):
    """Whether the list has the document; null where there is no list."""

    name = "published_duplicate"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if a source is a tree with such lists."""
        if config.annotate is None:
            return None
        if not any(
            DUPLICATES in published_parts(config, name) for name in config.sources_with_text
        ):
            return None
        return cls()

    @property
    def reads_published(self) -> frozenset[str]:
        """The lists of duplicates."""
        return frozenset((DUPLICATES,))

    def settings(self) -> Json:
        """Return nothing: the lists decide."""
        return None

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `published_duplicate`."""
        return [pa.field("published_duplicate", pa.bool_())]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return whether the list has the document."""
        if document.published is None:
            return [None]
        return [document.published.is_duplicate]

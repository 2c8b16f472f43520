"""The part `attributes`: spans with scores that a Dolma tree has published, a column for each key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import SPAN_SCORE, AnnotationPart, Value, list_of
from pipeline.corpus.annotating.signals.published_signals import published_value
from pipeline.store.records import Json


@dataclass(frozen=True)
class PublishedAttributes(AnnotationPart):
    """The spans of each key; null where the tree has none of it for a document.

    A span that reaches beyond its text is cut at its end.
    """

    keys: tuple[str, ...]

    name = "attributes"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.attributes` names any."""
        if config.annotate is None or not config.annotate.attributes:
            return None
        return cls(config.annotate.attributes)

    @property
    def reads_published(self) -> frozenset[str]:
        """The attributes."""
        return frozenset(("attributes",))

    def settings(self) -> Json:
        """Return nothing: the published files decide, and the columns' names are hashed with them."""
        return None

    def fields(self) -> Sequence[pa.Field]:
        """Return a column for each key."""
        return [pa.field(key, list_of(SPAN_SCORE)) for key in self.keys]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return starts, ends and scores for each key."""
        record = document.published
        if record is None or record.attributes is None:
            return [None] * len(self.keys)
        found = [record.attributes.get(key) for key in self.keys]
        return [None if spans is None else published_value(spans, True) for spans in found]

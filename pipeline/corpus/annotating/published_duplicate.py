"""The part `published_duplicate`: which documents a published list names as copies of others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa

from pipeline.config.curation.annotated_columns import PUBLISHED_DUPLICATE
from pipeline.config.curation.rules import parse_comparison
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value
from pipeline.corpus.trees.published_annotations import published_parts
from pipeline.errors import ConfigError
from pipeline.store.records import Json

DUPLICATES = "duplicates"
"""Name of the lists among the parts of a published corpus."""


class PublishedDuplicate(AnnotationPart):
    """Whether the list has the document; null where there is no list."""

    name = PUBLISHED_DUPLICATE

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
        return [pa.field(PUBLISHED_DUPLICATE, pa.bool_())]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return whether the list has the document."""
        if document.published is None:
            return [None]
        return [document.published.is_duplicate]


def readers_of_lists(config: RunConfig) -> list[str]:
    """Return the settings of `select` that read the column."""
    section = config.select
    if section is None:
        return []
    readers: list[str] = []
    if "published" in section.exact_duplicates:
        readers.append("select.exact_duplicates = published")
    columns = {parse_comparison(written).column for written in section.rules.values()}
    if PUBLISHED_DUPLICATE in columns:
        readers.append("select.rules")
    return readers


def refuse_absent_lists(config: RunConfig) -> None:
    """Raise ConfigError where `select` reads lists of duplicates and the trees have none.

    Not where a path is missing: `prepare` reports that, and whether it is a tree is unknown.
    """
    readers = readers_of_lists(config)
    if not readers or PublishedDuplicate.asked_for(config) is not None:
        return
    sources = [config.sources[name] for name in config.sources_with_text]
    paths = [path for source in sources for path in (*source.paths, *source.validation_paths)]
    if all(not isinstance(path, Path) or path.exists() for path in paths):
        raise lists_are_absent(readers)


def lists_are_absent(readers: Sequence[str]) -> ConfigError:
    """Return the error of settings that read lists of duplicates where there are none."""
    return ConfigError(
        [
            f"{', '.join(readers)}: the annotations have no column {PUBLISHED_DUPLICATE}, for no "
            "source is a tree with lists of duplicates (sources.NAME.layout: redpajama-v2); leave "
            "this out"
        ]
    )

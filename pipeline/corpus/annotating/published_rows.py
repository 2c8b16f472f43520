"""What was published about the documents of a shard, handed out batch by batch.

Reads the files beside the raw files (`pipeline/corpus/trees`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.part import AnnotationPart
from pipeline.corpus.trees.published_annotations import (
    published_annotations,
    published_parts,
    side_file_identities,
    side_file_versions,
    trees_are_local,
)
from pipeline.corpus.trees.published_record import PublishedRecord
from pipeline.errors import DataError
from pipeline.store.records import Json


@dataclass(frozen=True)
class PublishedSource:
    """A source that is a published corpus with files beside its documents; it is sent to workers."""

    config: RunConfig
    source: str
    parts: frozenset[str]
    """Those of `published_record.PARTS` that its trees have, and that are asked for."""

    @classmethod
    def asked_for(
        cls, config: RunConfig, source: str, parts: Collection[AnnotationPart]
    ) -> Self | None:
        """Return the source if its trees have what some part reads, else None."""
        read = {published for part in parts for published in part.reads_published}
        there = published_parts(config, source) & read if read else frozenset[str]()
        if not there:
            return None
        return cls(config, source, there)

    def identity(self, part: AnnotationPart, shard: Path) -> Json:
        """Return what identifies the published files that a part reads for a shard; None without."""
        read = self.parts & part.reads_published
        if not read:
            return None
        return [part.published_mode, side_file_identities(self.config, self.source, shard, read)]


def describe_published(
    config: RunConfig, asked: Collection[AnnotationPart] = ()
) -> dict[str, Json]:
    """Return for each source what its trees have beside their documents; None where that is nothing.

    Of what a part that is asked for reads, a hash of the files' sizes and times of change. A tree or a
    file that was moved away after it was read makes nothing stale, nor does a server that cannot be
    asked; one that has got more, or files that were replaced, do.
    """
    read = frozenset(published for part in asked for published in part.reads_published)
    described: dict[str, Json] = {}
    for source in config.sources_with_text:
        name = f"published parts of {source}"
        described[name] = None
        try:
            parts = published_parts(config, source)
            if parts:
                described[name] = _versions(config, source, parts, read)
        except DataError:
            # `prepare`, which reads the files, reports it.
            continue
    return described


def _versions(
    config: RunConfig, source: str, parts: Collection[str], read: Collection[str]
) -> Json:
    """Return what identifies the published files of a source; None where some are missing.

    Files on servers are not asked for one by one, nor those that no part reads.
    """
    needed = {*parts} & {*read}
    if not needed or not trees_are_local(config, source):
        return sorted(parts)
    versions = side_file_versions(config, source, needed)
    if versions is None:
        return None
    return {part: versions.get(part) for part in sorted(parts)}


class PublishedRows:
    """Records of a shard, row after row; rows that nobody asks for are read past."""

    def __init__(self, source: PublishedSource | None, shard: Path) -> None:
        self._source = source
        self._shard = shard
        self._next_row = 0
        self._records: Iterator[PublishedRecord | None] | None = None

    def read(
        self, first: int, count: int, parts: Sequence[AnnotationPart]
    ) -> list[PublishedRecord | None]:
        """Return what some parts need of `count` rows from `first` on; ascending calls.

        Raises DataError as `published_annotations`, whose files are opened when a part first needs
        them.
        """
        read = {published for part in parts for published in part.reads_published}
        if self._source is None or not read & self._source.parts:
            return [None] * count
        if self._records is None:
            self._records = published_annotations(
                self._source.config, self._source.source, self._shard, self._source.parts
            )
        skipped = first - self._next_row
        self._next_row = first + count
        return list(islice(self._records, skipped, skipped + count))

"""The shards that `select` judges, in the order in which their documents come before others.

Reads the manifests of `prepare` and `annotate`, and a row of each held-out shard.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import (
    SPLITS,
    check_files,
    listed_shards,
    read_documents,
    shard_footer,
    split_of,
)
from pipeline.corpus.held_out.validation_files import FOLDER
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import Counts
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import logical_name, source_of, stem_of
from pipeline.store.records import Manifest, content_of

GROUP_BYTES = 256 * 2**20
"""Bytes of documents on the disk after which a work item takes no further shard."""
GROUP_SHARDS = 64
"""Maximum number of shards of a work item."""
ALWAYS_STAYS = 0
"""Rank of documents in files that are held out as a whole, by `validation_paths` or the layout of a
published tree: no verdict removes them."""
FOOTER_THREADS = 16
"""Files that are asked at a time: on a network file system each one waits for a server."""


class JudgedShard(NamedTuple):
    """A shard of documents."""

    name: str
    """Path below the folder of documents."""
    number: int
    """Place among all shards: by source in the order of the run file, then by name."""
    source: str
    split: str
    rank: int
    """Rank of its documents: among copies, one of a lower rank stays."""
    size: int
    """Bytes on the disk."""
    documents: str
    """What identifies the content of the documents."""
    annotations: str | None
    """Checksum of the annotations; None where none are read."""

    @property
    def identity(self) -> str:
        """What the id of a document begins with: `source/stem`."""
        return f"{self.source}/{stem_of(self.name)}"

    @property
    def always_stays(self) -> bool:
        """Whether no verdict removes its documents."""
        return self.rank == ALWAYS_STAYS


@dataclass(frozen=True)
class ShardGroup:
    """Neighbouring shards of one source, which one work item judges."""

    number: int
    shards: tuple[JudgedShard, ...]

    @property
    def name(self) -> str:
        """Name of the group, a part of names of files."""
        return f"{self.number:06d}"

    @property
    def size(self) -> int:
        """Bytes of documents on the disk."""
        return sum(shard.size for shard in self.shards)


def rank_of(source: int, split: str) -> int:
    """Return the rank of a source's documents, given its number in the run file.

    Held-out documents of a source come before those that are trained on.
    """
    return 1 + len(SPLITS) * source + int(split == "train")


def judged_shards(config: RunConfig, with_annotations: bool) -> list[JudgedShard]:
    """Return all shards in their order.

    Raises DataError where a shard is missing, or has no annotations while `with_annotations`.
    """
    # What the manifests list.
    documents = data_folder(config).documents
    listed = listed_shards(documents)
    check_files(documents, listed)
    annotations: dict[str, str] = {}
    if with_annotations:
        annotations = annotation_checksums(config)

    # Sources in the order of the run file, shards by name.
    shards: list[JudgedShard] = []
    missing: list[str] = []
    of_sources = [name for name in listed if source_of(name) in config.sources_with_text]
    staying = _held_out_as_files(documents, of_sources)
    for number, source in enumerate(config.sources_with_text):
        # They are listed by their names.
        for name, record in listed.items():
            if source_of(name) != source:
                continue
            split = split_of(name)
            rank = rank_of(number, split)
            if name in staying:
                rank = ALWAYS_STAYS
            if with_annotations and logical_name(name) not in annotations:
                missing.append(name)
            shards.append(
                JudgedShard(
                    name,
                    len(shards),
                    source,
                    split,
                    rank,
                    record["bytes"],
                    content_of(record),
                    annotations.get(logical_name(name)),
                )
            )
    if missing:
        raise DataError(
            f"{annotation_folder(config).path}: has no annotations of {len(missing):,} shards, such "
            f"as {missing[0]}. Run `pipeline annotate` first."
        )
    return shards


def annotation_checksums(config: RunConfig) -> dict[str, str]:
    """Return the checksum of each file of annotations, by its logical name.

    Raises DataError where `annotate` has not finished.
    """
    folder = annotation_folder(config)
    manifest: Manifest[Counts] | None = read_manifest(folder.manifest)
    if manifest is None:
        raise DataError(f"{folder.path}: holds no annotations. Run `pipeline annotate` first.")
    return {logical_name(name): content_of(record) for name, record in manifest["files"].items()}


def _held_out_as_files(documents: Path, names: Sequence[str]) -> set[str]:
    """Return the shards whose documents come from files that a source holds out as a whole.

    Those are the files of `validation_paths`, and what the layout of a published tree names as held
    out. `prepare` has written where each document comes from, and one shard has one kind of files.
    """

    def comes_from_such(name: str) -> bool:
        shard = documents / name
        if not shard_footer(shard).num_rows:
            return False
        (first,) = read_documents(shard, [0], ["origin_file"])
        return first["origin_file"].startswith(f"{FOLDER}/")

    held_out = [name for name in names if split_of(name) == "validation"]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        answers = list(pool.map(comes_from_such, held_out))
    return {name for name, answer in zip(held_out, answers, strict=True) if answer}


def shard_groups(shards: Sequence[JudgedShard]) -> list[ShardGroup]:
    """Divide shards into the groups of the work items; a group has shards of one source and split."""
    return [ShardGroup(number, tuple(group)) for number, group in enumerate(_neighbours(shards))]


def _neighbours(shards: Sequence[JudgedShard]) -> Iterator[list[JudgedShard]]:
    waiting: list[JudgedShard] = []
    size = 0
    for shard in shards:
        is_full = len(waiting) == GROUP_SHARDS or size >= GROUP_BYTES
        if waiting and (is_full or waiting[-1].source != shard.source):
            yield waiting
            waiting = []
            size = 0
        waiting.append(shard)
        size += shard.size
    if waiting:
        yield waiting

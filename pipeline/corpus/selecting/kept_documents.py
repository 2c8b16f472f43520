"""The documents as a run reads them: without those that `select` has removed, and with its cuts.

Everything that reads texts of documents reads them here. Reads `data_dir/documents` and, where the
run file has the section `select`, `data_dir/selection`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import (
    DocumentRow,
    listed_shards,
    open_shard,
    read_documents,
    shard_footer,
    shard_paths,
    texts_of_group,
)
from pipeline.corpus.parquet_tables import read_parquet
from pipeline.corpus.selecting.verdicts import (
    ShardVerdicts,
    apply_cuts,
    read_verdicts,
    shard_verdicts,
)
from pipeline.errors import DataError
from pipeline.store.curation.selection_folder import SELECT_AGAIN, SelectionFolder, selection_folder
from pipeline.store.files import fingerprint
from pipeline.store.layout import DataFolder, data_folder, manifest_path
from pipeline.store.manifests.moved_files import existing_place
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.records import content_of

DIGESTS = pa.schema([("shard", pa.string()), ("digest", pa.string())])
"""Columns of the file of digests: a shard's logical name, `ShardVerdicts.digest`."""


class KeptTexts(NamedTuple):
    """The documents of a row group that are read."""

    rows: np.ndarray
    """Row of each document in its shard, `(documents,) int64`."""
    texts: list[memoryview]
    """Their texts in UTF-8, with parts replaced."""


@dataclass(frozen=True)
class KeptDocuments:
    """The documents of data_dir as a run reads them."""

    folder: Path
    """Folder of the documents."""
    selection: SelectionFolder | None = None
    """Verdicts on them; None where all documents are read as they are."""

    @property
    def data_dir(self) -> Path:
        """Folder that holds the documents."""
        return self.folder.parent

    @property
    def version(self) -> tuple[int, ...]:
        """What changes when documents or verdicts are made again.

        Raises DataError where there is neither a manifest of documents nor, if they are asked for,
        verdicts.
        """
        version = _version_of(manifest_path(self.folder), "prepare")
        if self.selection is not None:
            version += _version_of(self.selection.digests, "select")
        return version

    def shards(self, source: str, split: str) -> list[Path]:
        """Return the shards of a source's split; some of their documents may be removed."""
        return shard_paths(self.folder, source, split)

    def contents(self) -> dict[str, str]:
        """Return what identifies that which is read of each shard, by its path, for fingerprints.

        Where nothing was removed it is the content of the shard. Raises DataError where `select` has
        not judged a shard.
        """
        listed = listed_shards(self.folder)
        if self.selection is None:
            return {name: content_of(record) for name, record in listed.items()}
        digests = self._digests(self.selection)
        contents: dict[str, str] = {}
        for name, record in listed.items():
            contents[name] = content_of(record)
            digest = _digest_in(digests, name, self.selection)
            if digest:
                contents[name] = fingerprint([contents[name], digest])
        return contents

    def verdicts(self, shard: Path) -> ShardVerdicts | None:
        """Return the verdicts on a shard; None where all of it is read.

        Raises DataError where they are missing or damaged, or not those that are listed.
        """
        if self.selection is None:
            return None
        name = self._name(shard)
        digest = _digest_in(self._digests(self.selection), name, self.selection)
        if not digest:
            return None
        path = existing_place(self.selection.verdicts(name))
        return _shard_verdicts(path, digest, _version_of(path, "select"))

    def reasons(self, shard: Path, row: int) -> list[str]:
        """Return all reasons for which a document is removed; empty where it is read."""
        verdicts = self.verdicts(shard)
        if self.selection is None or verdicts is None or verdicts.keep[row]:
            return []
        table = read_verdicts(self.selection.verdicts(self._name(shard)))
        return table["reasons"][row].as_py()

    def kept_rows(self, shard: Path) -> np.ndarray:
        """Return the rows of a shard that are read, `(documents,) int64`."""
        verdicts = self.verdicts(shard)
        if verdicts is None:
            return np.arange(shard_footer(shard).num_rows)
        return np.flatnonzero(verdicts.keep)

    def texts_of_group(self, shard: Path, group: int) -> KeptTexts:
        """Return the documents of a row group that are read.

        Raises DataError where the shard or its verdicts are missing or damaged.
        """
        verdicts = self.verdicts(shard)
        with open_shard(shard) as file:
            first = sum(file.metadata.row_group(number).num_rows for number in range(group))
            texts = texts_of_group(file, group)
        rows = np.arange(first, first + len(texts))
        if verdicts is None:
            return KeptTexts(rows, texts)
        kept = rows[verdicts.keep[rows]]
        return KeptTexts(kept, [_cut(texts[row - first], row, verdicts) for row in kept.tolist()])

    def iterate_shard(self, shard: Path) -> Iterator[tuple[str, str]]:
        """Yield `(id, text)` of every document of a shard that is read, a row group in memory."""
        begin = f"{source_of(self._name(shard))}/{shard.stem}"
        for group in range(shard_footer(shard).num_row_groups):
            kept = self.texts_of_group(shard, group)
            for row, text in zip(kept.rows.tolist(), kept.texts, strict=True):
                yield f"{begin}/{row}", str(text, "utf-8")

    def iterate_texts(self, source: str, split: str) -> Iterator[tuple[str, str]]:
        """Yield `(id, text)` of every document that is read, a row group in memory."""
        for shard in self.shards(source, split):
            yield from self.iterate_shard(shard)

    def read(
        self, shard: Path, rows: Sequence[int], columns: Sequence[str] | None = None
    ) -> list[DocumentRow]:
        """Return rows of a shard in the order asked for, removed ones too, with parts replaced.

        Raises IndexError for a row that the shard does not have.
        """
        documents = read_documents(shard, rows, columns)
        verdicts = self.verdicts(shard)
        if verdicts is None or (columns is not None and "text" not in columns):
            return documents
        for row, document in zip(rows, documents, strict=True):
            document["text"] = apply_cuts(document["text"], verdicts.cuts.get(row, ()))
        return documents

    def _name(self, shard: Path) -> str:
        return shard.relative_to(self.folder).as_posix()

    def _digests(self, selection: SelectionFolder) -> Mapping[str, str]:
        return _read_digests(selection.digests, _version_of(selection.digests, "select"))


def kept_documents(config: RunConfig) -> KeptDocuments:
    """Return the documents as this run reads them."""
    selection = None
    if config.select is not None:
        selection = selection_folder(config)
    return KeptDocuments(data_folder(config).documents, selection)


def all_documents(data_dir: Path) -> KeptDocuments:
    """Return the documents of data_dir, whatever was selected."""
    return KeptDocuments(DataFolder(data_dir).documents)


def _digest_in(digests: Mapping[str, str], shard: str, selection: SelectionFolder) -> str:
    """Return the hash of what is read of a shard; empty where that is all of it."""
    name = logical_name(shard)
    if name not in digests:
        raise DataError(
            f"{selection.digests}: has no verdicts on {shard}. Run `pipeline select` first."
        )
    return digests[name]


def _cut(text: memoryview, row: int, verdicts: ShardVerdicts) -> memoryview:
    cuts = verdicts.cuts.get(row)
    if not cuts:
        return text
    return memoryview(apply_cuts(str(text, "utf-8"), cuts).encode())


def _version_of(path: Path, stage: str) -> tuple[int, ...]:
    """Return what changes when a file of a stage does. Raises DataError where it is missing."""
    try:
        status = path.stat()
    except OSError:
        raise DataError(f"{path}: is missing. Run `pipeline {stage}` first.") from None
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4)
def _read_digests(path: Path, version: tuple[int, ...]) -> dict[str, str]:
    table = read_parquet(path, DIGESTS, SELECT_AGAIN)
    return dict(zip(table["shard"].to_pylist(), table["digest"].to_pylist(), strict=True))


@lru_cache(maxsize=8)
def _shard_verdicts(path: Path, digest: str, version: tuple[int, ...]) -> ShardVerdicts:
    """Return the verdicts on a shard in one version, which must have a digest."""
    verdicts = shard_verdicts(read_verdicts(path))
    if verdicts.digest != digest:
        raise DataError(f"{path}: holds other verdicts than are listed. {SELECT_AGAIN}")
    return verdicts

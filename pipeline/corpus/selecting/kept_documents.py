"""The documents as a run reads them: without those that `select` has removed, and with its cuts.

Everything that reads texts of documents reads them here. Reads `data_dir/documents` and, where the
run file has the section `select`, `data_dir/selection`.
"""

from collections.abc import Iterator, Sequence
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
    shard_paths,
    texts_of_group,
)
from pipeline.corpus.parquet_tables import read_parquet
from pipeline.corpus.selecting.verdicts import (
    SELECT_AGAIN,
    ShardVerdicts,
    apply_cuts,
    read_verdicts,
    shard_verdicts,
)
from pipeline.errors import DataError
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.files import fingerprint
from pipeline.store.layout import DataFolder
from pipeline.store.manifests.shard_places import logical_name
from pipeline.store.records import content_of

DIGESTS = pa.schema([("shard", pa.string()), ("digest", pa.string())])
"""Columns of the file of digests: a shard's logical name, `ShardVerdicts.digest`."""


class KeptTexts(NamedTuple):
    """The documents of a row group that are read."""

    rows: np.ndarray
    """Row of each document in its shard, `(documents,) int64`."""
    texts: list[memoryview]
    """Their texts in UTF-8, with what was cut and replaced."""


@dataclass(frozen=True)
class KeptDocuments:
    """The documents of data_dir as a run reads them."""

    data_dir: Path
    is_selected: bool
    """Whether the run file has the section `select`."""

    @property
    def folder(self) -> Path:
        """Folder of the documents."""
        return DataFolder(self.data_dir).documents

    def shards(self, source: str, split: str) -> list[Path]:
        """Return the shards of a source's split; documents in them may be removed."""
        return shard_paths(self.folder, source, split)

    def content(self, shard: str) -> str:
        """Return the text that identifies what is read of a shard, for fingerprints.

        `shard`: its path below the documents. Where nothing was removed it is the content of the
        shard.
        """
        content = content_of(listed_shards(self.folder)[shard])
        digest = self.digest(shard)
        if not digest:
            return content
        return fingerprint([content, digest])

    def digest(self, shard: str) -> str:
        """Return the hash of what is read of a shard; empty where that is all of it.

        Raises DataError where `select` has not judged the shard.
        """
        if not self.is_selected:
            return ""
        path = SelectionFolder(self.data_dir).digests
        digests = _read_digests(path, _version_of(path))
        if logical_name(shard) not in digests:
            raise DataError(f"{path}: has no verdicts on {shard}. Run `pipeline select` first.")
        return digests[logical_name(shard)]

    def verdicts(self, shard: Path) -> ShardVerdicts | None:
        """Return the verdicts on a shard; None where all of it is read.

        Raises DataError where they are missing or damaged, or belong to other documents.
        """
        name = shard.relative_to(self.folder).as_posix()
        digest = self.digest(name)
        if not digest:
            return None
        return _shard_verdicts(SelectionFolder(self.data_dir).verdicts(name), digest)

    def texts_of_group(self, shard: Path, group: int) -> KeptTexts:
        """Return the documents of a row group of a shard that are read.

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

    def iterate_texts(self, source: str, split: str) -> Iterator[tuple[str, str]]:
        """Yield `(id, text)` of every document that is read, holding one row group in memory."""
        for path in self.shards(source, split):
            verdicts = self.verdicts(path)
            row = -1
            with open_shard(path) as shard:
                for group in range(shard.num_row_groups):
                    table = shard.read_row_group(group, columns=["id", "text"])
                    for key, text in zip(table["id"], table["text"], strict=True):
                        row += 1
                        if verdicts is None:
                            yield key.as_py(), text.as_py()
                        elif verdicts.keep[row]:
                            cuts = verdicts.cuts.get(row, ())
                            yield key.as_py(), apply_cuts(text.as_py(), cuts)

    def read(
        self, shard: Path, rows: Sequence[int], columns: Sequence[str] | None = None
    ) -> list[DocumentRow]:
        """Return rows of a shard in the order asked for, removed ones too, with what was cut.

        Raises IndexError for a row that the shard does not have.
        """
        documents = read_documents(shard, rows, columns)
        verdicts = self.verdicts(shard)
        if verdicts is None or (columns is not None and "text" not in columns):
            return documents
        return [
            {**document, "text": apply_cuts(document["text"], verdicts.cuts.get(row, ()))}
            for row, document in zip(rows, documents, strict=True)
        ]


def kept_documents(config: RunConfig) -> KeptDocuments:
    """Return the documents as this run reads them."""
    return KeptDocuments(config.paths.data_dir, config.select is not None)


def _cut(text: memoryview, row: int, verdicts: ShardVerdicts) -> memoryview:
    cuts = verdicts.cuts.get(row)
    if not cuts:
        return text
    return memoryview(apply_cuts(str(text, "utf-8"), cuts).encode())


def _version_of(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does. Raises DataError where it is missing."""
    try:
        status = path.stat()
    except OSError:
        raise DataError(f"{path}: is missing. Run `pipeline select` first.") from None
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4)
def _read_digests(path: Path, version: tuple[int, ...]) -> dict[str, str]:
    table = read_parquet(path, DIGESTS, SELECT_AGAIN)
    return dict(zip(table["shard"].to_pylist(), table["digest"].to_pylist(), strict=True))


@lru_cache(maxsize=8)
def _shard_verdicts(path: Path, digest: str) -> ShardVerdicts:
    """Return the verdicts on a shard, which must have a digest."""
    verdicts = shard_verdicts(read_verdicts(path))
    if verdicts.digest != digest:
        raise DataError(
            f"{path}: holds other verdicts than {path.parents[1].name} lists. {SELECT_AGAIN}"
        )
    return verdicts

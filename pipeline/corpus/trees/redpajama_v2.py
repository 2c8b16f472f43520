"""The layout of RedPajama-v2: documents by crawl, number, language and bucket, with files beside them.

`documents/2023-06/0000/en_head.json.gz` is described, row by row, by
`quality_signals/2023-06/0000/en_head.signals.json.gz` and `minhash/….minhash.parquet`, and
`duplicates/….duplicates.parquet` lists the rows that repeat an earlier document. The bucket `tail`
has documents alone. Source: the data card of togethercomputer/RedPajama-Data-V2; the schemas are
those of togethercomputer/RedPajama-Data (`core/worker.py`, `bloomfilter.py`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.trees.published_record import (
    PublishedRecord,
    SourceDocument,
    wrong_document,
    wrong_row,
)
from pipeline.corpus.trees.side_rows import ParquetSideRows
from pipeline.corpus.trees.span_rows import SpanRows
from pipeline.corpus.trees.spans import Spans
from pipeline.corpus.trees.tree_layout import (
    SideFiles,
    TreeFolder,
    TreeLayout,
    has_folder,
    names_in,
    path_below,
)
from pipeline.errors import DataError

DOCUMENTS = "documents"
SNAPSHOT = re.compile(r"\d{4}-\d{2}")
FILE = re.compile(r"(?P<language>[a-z]{2,3})_(?P<partition>head|middle|tail)\.json(\.\w+)?")
ROW = re.compile(r"[0-9]{1,15}")
BARE_PARTITION = "tail"
"""The bucket without signals, signatures and list of duplicates."""
SIDE_FOLDERS = {
    "quality_signals": ("signals", ".signals.json.gz"),
    "minhash": ("minhash", ".minhash.parquet"),
    "duplicates": ("duplicates", ".duplicates.parquet"),
}
"""Folder -> what it holds about documents, and the suffix of its files."""
SIMILARITIES = ("1.0", "0.9", "0.8", "0.7")
"""Jaccard similarities for which bands of a signature are published."""
SIGNATURE_COLUMNS = {similarity: f"signature_sim{similarity}" for similarity in SIMILARITIES}
DIGEST_PREFIX = "sha1:"
"""Prefix of a digest in documents that lists of duplicates leave out."""
SHOWN_FOLDERS = 12
"""Number of folders of a crawl that are looked at for evidence."""


class RedPajamaV2(TreeLayout):
    """Documents in `documents`, described row by row in three folders beside it."""

    name = "redpajama-v2"
    looks_like = (
        "documents/2023-06/0000/en_head.json.gz, quality_signals/, minhash/ and duplicates/"
    )
    text_field = "raw_content"
    choices = ("partitions", "languages", "snapshots")
    has_side_files = True

    def evidence(self, root: RawPath) -> str:
        if not has_folder(root, DOCUMENTS):
            return ""
        beside = list(self.side_folders(root))
        if beside:
            return ", ".join(f"{folder}/" for folder in (DOCUMENTS, *beside))
        documents = path_below(root, DOCUMENTS)
        for snapshot in _snapshots(documents)[:SHOWN_FOLDERS]:
            crawl = path_below(documents, snapshot)
            for number in names_in(crawl).folders[:SHOWN_FOLDERS]:
                files = names_in(path_below(crawl, number)).files
                if any(FILE.fullmatch(name) for name in files):
                    return f"{DOCUMENTS}/{snapshot}/"
        return ""

    def folders(self, root: RawPath, source: Source) -> Sequence[TreeFolder]:
        if not source.snapshots:
            return [TreeFolder(DOCUMENTS)]
        present = _snapshots(path_below(root, DOCUMENTS))
        absent = [name for name in source.snapshots if name not in present]
        if absent:
            raise DataError(_absent("snapshots", absent, root, present))
        return [TreeFolder(f"{DOCUMENTS}/{name}") for name in dict.fromkeys(source.snapshots)]

    def why_left_out(self, below: PurePosixPath, source: Source) -> str | None:
        match = FILE.fullmatch(below.name)
        if match is None:
            return "other names"
        if source.languages and match["language"] not in source.languages:
            return f"language {match['language']}"
        if source.partitions and match["partition"] not in source.partitions:
            return f"partition {match['partition']}"
        return None

    def absent_parts(
        self, root: RawPath, files: Sequence[PurePosixPath], source: Source
    ) -> list[str]:
        problems: list[str] = []
        for setting, group in (("languages", "language"), ("partitions", "partition")):
            wanted: Sequence[str] = getattr(source, setting)
            present = _parts_of(files, group)
            absent = [name for name in wanted if name not in present]
            if absent:
                problems.append(_absent(setting, absent, root, present))
        return problems

    def note(self, root: RawPath, taken: Sequence[PurePosixPath]) -> str:
        beside = list(self.side_folders(root))
        described = "no files beside them"
        if beside:
            described = f"described by {', '.join(f'{folder}/' for folder in beside)}"
        snapshots = sorted({below.parts[1] for below in taken})
        return (
            f"{len(taken):,} files of documents/, snapshots {', '.join(snapshots)}, languages "
            f"{', '.join(_parts_of(taken, 'language'))}, partitions "
            f"{', '.join(_parts_of(taken, 'partition'))}; {described}"
        )

    def side_folders(self, root: RawPath) -> Mapping[str, str]:
        return {
            folder: part for folder, (part, _) in SIDE_FOLDERS.items() if has_folder(root, folder)
        }

    def side_file(self, folder: str, below: PurePosixPath) -> str | None:
        match = FILE.fullmatch(below.name)
        if match is None or match["partition"] == BARE_PARTITION:
            return None
        _, suffix = SIDE_FOLDERS[folder]
        return f"{folder}/{_shard(below)}{suffix}"

    def described(self, below: PurePosixPath, files: Mapping[str, RawPath]) -> SideFiles:
        parts = {SIDE_FOLDERS[folder][0]: file for folder, file in files.items()}
        return _Described(f"{_shard(below)}.json.gz", parts)


class _Described:
    """The side files of one file of documents."""

    def __init__(self, shard: str, files: Mapping[str, RawPath]) -> None:
        self._shard = shard
        self._signals: SpanRows | None = None
        self._minhash: ParquetSideRows | None = None
        self._duplicates: _Duplicates | None = None
        signals = files.get("signals")
        if signals is not None:
            self._signals = SpanRows(signals, "quality_signals")
        minhash = files.get("minhash")
        if minhash is not None:
            self._minhash = ParquetSideRows(minhash, ["id", *SIGNATURE_COLUMNS.values()])
        duplicates = files.get("duplicates")
        if duplicates is not None:
            self._duplicates = _Duplicates(duplicates, shard)

    def record(self, document: SourceDocument) -> PublishedRecord:
        signals: Mapping[str, Spans] | None = None
        minhash: Mapping[str, tuple[bytes, ...] | None] | None = None
        is_duplicate: bool | None = None
        clamped = 0
        if self._signals is not None:
            row = self._signals.row(document.row)
            self._compare_id(self._signals.file, row.fields.get("id"), document)
            self._compare_url(self._signals.file, row.fields.get("metadata"), document)
            signals, clamped = row.spans(document)
        if self._minhash is not None:
            row = self._minhash.row(document.row)
            self._compare_id(self._minhash.file, row["id"], document)
            minhash = {
                similarity: _bands(self._minhash.file, document.row, column, row[column])
                for similarity, column in SIGNATURE_COLUMNS.items()
            }
        if self._duplicates is not None:
            is_duplicate = self._duplicates.has(document)
        return PublishedRecord(signals, minhash, is_duplicate, clamped=clamped)

    def _compare_id(self, file: RawPath, published: object, document: SourceDocument) -> None:
        expected = f"{self._shard}/{document.row}"
        if published != expected:
            raise wrong_document(file, document.row, f"has the id {published}, not {expected}")

    def _compare_url(self, file: RawPath, metadata: object, document: SourceDocument) -> None:
        """Compare the address of the page, which shows a shift where ids were made anew."""
        if not isinstance(metadata, dict):
            return
        published = metadata.get("url")
        url = document.meta.get("url")
        if published and url and published != url:
            raise wrong_document(file, document.row, f"is of {published}, the document of {url}")


class _Duplicates:
    """The rows that a list of duplicates names, 8 bytes each, and the digests of those documents."""

    def __init__(self, file: RawPath, shard: str) -> None:
        self._file = file
        rows, digests = _listed_rows(file, shard)
        order = np.argsort(rows, kind="stable")
        self._rows = rows[order]
        self._digests = [digests[place] for place in order]

    def has(self, document: SourceDocument) -> bool:
        """Return whether the list has a document. Raises DataError where its digest is another's."""
        place = int(np.searchsorted(self._rows, document.row))
        if place == len(self._rows) or self._rows[place] != document.row:
            return False
        digest = document.meta.get("digest")
        listed = self._digests[place]
        if listed and isinstance(digest, str) and digest.removeprefix(DIGEST_PREFIX) != listed:
            raise wrong_document(
                self._file,
                document.row,
                f"is listed with the digest {listed}, the document has {digest}",
            )
        return True


def _listed_rows(file: RawPath, shard: str) -> tuple[np.ndarray, list[str]]:
    """Return the rows that a list of duplicates names, and the digest of each."""
    rows: list[int] = []
    digests: list[str] = []
    listed: Iterable[Mapping[str, str | None]]
    listed = ParquetSideRows(file, ["doc_id", "digest"]).all_rows()
    for place, entry in enumerate(listed):
        name, _, number = str(entry["doc_id"]).rpartition("/")
        if name != shard or not ROW.fullmatch(number):
            raise wrong_row(file, place, f"has the doc_id {entry['doc_id']}, not {shard}/ROW")
        rows.append(int(number))
        digests.append(str(entry["digest"] or "").removeprefix(DIGEST_PREFIX))
    return np.array(rows, np.int64), digests


def _bands(
    file: RawPath, row: int, column: str, value: Sequence[bytes] | None
) -> tuple[bytes, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or any(type(band) is not bytes for band in value):
        raise wrong_row(file, row, f"has other values than lists of bytes in {column}")
    return tuple(value)


def _shard(below: PurePosixPath) -> str:
    """Return the path of a file of documents without `documents/` and its suffixes."""
    inside = PurePosixPath(*below.parts[1:])
    return str(inside.with_name(inside.name.partition(".")[0]))


def _snapshots(documents: RawPath) -> list[str]:
    return [name for name in names_in(documents).folders if SNAPSHOT.fullmatch(name)]


def _parts_of(files: Iterable[PurePosixPath], group: str) -> list[str]:
    """Return the languages or the partitions of files, sorted."""
    matches = (FILE.fullmatch(below.name) for below in files)
    return sorted({match[group] for match in matches if match is not None})


def _absent(setting: str, absent: Sequence[str], root: RawPath, present: Sequence[str]) -> str:
    """Return the problem of parts that the tree does not have, with those that it has."""
    return (
        f"{root} has no {', '.join(absent)}, which {setting} names; it has "
        f"{', '.join(present) or 'none'}. Name some of these, or make several trees several sources."
    )

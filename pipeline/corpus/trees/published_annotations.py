"""What was published about the documents of a shard: a merge join of its rows with the side files.

Reads the documents, and the files beside the raw files that they were made from. Rows of a shard
come from neighbouring raw files in order, so each side file is read forward once; memory is that of
one row group of the documents and of one block of each side file.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson
import pyarrow.compute as pc

from pipeline.config.run_config import RunConfig
from pipeline.config.urls import RawPath
from pipeline.corpus.documents import open_shard
from pipeline.corpus.held_out.validation_files import FOLDER
from pipeline.corpus.source_kind import source_kind
from pipeline.corpus.trees.find_trees import Tree, trees_of
from pipeline.corpus.trees.published_record import (
    PARTS,
    PublishedRecord,
    SourceDocument,
    missing_files,
)
from pipeline.corpus.trees.side_rows import locate_side_file
from pipeline.corpus.trees.tree_layout import SideFiles, path_below
from pipeline.store.files import fingerprint
from pipeline.store.records import Json

STATUS_THREADS = 16
"""Files that are looked at at a time: on a network file system each one waits for a server."""
COLUMNS = ("origin_file", "origin_row", "meta", "text")


@dataclass(frozen=True)
class _DocumentsFile:
    """A raw file of documents in a tree."""

    tree: Tree
    below: PurePosixPath

    def side_files(self, parts: Collection[str]) -> dict[str, RawPath]:
        """Return the files beside it that hold some of `parts`, by side folder."""
        files = self.tree.side_files(self.below)
        holds = self.tree.side_folders
        return {folder: file for folder, file in files.items() if holds[folder] in parts}

    def open(self, parts: Collection[str]) -> SideFiles | None:
        """Return the reader of the files beside it; None where there should be none.

        Raises DataError naming each that is missing.
        """
        named = self.side_files(parts)
        located: dict[str, RawPath] = {}
        missing: list[RawPath] = []
        for folder, file in named.items():
            there = locate_side_file(file)
            if there is None:
                missing.append(file)
            else:
                located[folder] = there
        if missing:
            raise missing_files(missing, path_below(self.tree.root, self.below))
        if not located:
            return None
        return self.tree.layout.described(self.below, located)


def published_parts(config: RunConfig, source: str) -> frozenset[str]:
    """Return those of PARTS that some tree of a source has folders of; none for other sources.

    Raises DataError where its paths have no clear layout.
    """
    trees = trees_of(config, source)
    return frozenset(part for tree in trees for part in tree.side_folders.values())


def trees_are_local(config: RunConfig, source: str) -> bool:
    """Tell whether all trees of a source lie on this machine. Raises DataError as `published_parts`."""
    return all(isinstance(tree.root, Path) for tree in trees_of(config, source))


def published_annotations(
    config: RunConfig, source: str, shard: Path, parts: Collection[str] = PARTS
) -> Iterator[PublishedRecord | None]:
    """Yield for each row of a documents shard what was published about it.

    `shard`: a Parquet file of the source's documents. `parts`: those of PARTS that are needed; files
    of others are not opened. None for a document whose raw file has no such files beside it: the
    bucket `tail` of RedPajama-v2, or a source that is no tree. Raises DataError, naming file and row,
    where a side file is missing, shorter, belongs to other documents, or holds other values.
    """
    places = _Places(config, source)
    current: str | None = None
    described: SideFiles | None = None
    for origin_file, document in _documents(shard):
        if origin_file != current:
            current = origin_file
            file = places.find(origin_file)
            described = None
            if file is not None:
                described = file.open(parts)
        if described is None:
            yield None
        else:
            yield described.record(document)


def side_file_identities(
    config: RunConfig, source: str, shard: Path, parts: Collection[str] = PARTS
) -> list[Json]:
    """Return what tells whether the side files of a shard have changed, without reading them.

    For each file: the raw file beside which it lies, its folder, and its size and modification time
    in nanoseconds, or the server's version; null for one that is missing.
    """
    places = _Places(config, source)
    names: dict[str, None] = {}
    with open_shard(shard) as parquet:
        for group in range(parquet.num_row_groups):
            column = parquet.read_row_group(group, columns=["origin_file"])["origin_file"]
            names |= dict.fromkeys(column.unique().to_pylist())
    identities: list[Json] = []
    for origin_file in names:
        file = places.find(origin_file)
        if file is not None:
            for folder, path in file.side_files(parts).items():
                identities.append([origin_file, folder, _identity(path)])
    return identities


def side_file_versions(
    config: RunConfig, source: str, parts: Collection[str]
) -> dict[str, str] | None:
    """Return for each of `parts` a hash of all files that hold it, by names, sizes and times of change.

    All trees of the source lie on this machine. None where a file is missing, so that files that
    were moved away after they were read are no change. Raises DataError as the search for the raw
    files.
    """
    places = _Places(config, source)
    found = source_kind(config.sources[source]).find_files(config, source)
    named: list[tuple[str, str, Path]] = []
    for raw in (*found.files, *found.validation_files):
        file = places.find(raw.name)
        if file is not None:
            for folder, path in file.side_files(parts).items():
                assert isinstance(path, Path), "the tree is on this machine"
                named.append((file.tree.side_folders[folder], raw.name, path))
    with ThreadPoolExecutor(STATUS_THREADS) as pool:
        identities = list(pool.map(_identity, (path for _, _, path in named)))
    if None in identities:
        return None
    by_part: dict[str, list[Json]] = {part: [] for part in sorted(parts)}
    for (part, name, path), identity in zip(named, identities, strict=True):
        by_part[part].append([name, path.name, identity])
    return {part: fingerprint(files) for part, files in by_part.items()}


def _identity(path: RawPath) -> Json:
    located = locate_side_file(path)
    if located is None:
        return None
    if isinstance(located, Path):
        status = located.stat()
        return [status.st_size, status.st_mtime_ns]
    return str(getattr(located, "version", ""))


class _Places:
    """Finds the raw file of a document from its `origin_file`."""

    def __init__(self, config: RunConfig, source: str) -> None:
        settings = config.sources[source]
        self._trees = [tree for tree in trees_of(config, source) if tree.layout.has_side_files]
        self._entries: Sequence[RawPath] = [*settings.paths, *settings.validation_paths]

    def find(self, origin_file: str) -> _DocumentsFile | None:
        """Return the file in its tree; None where it is of no tree with side files."""
        name = origin_file.removeprefix(f"{FOLDER}/")
        for entry in self._entries:
            # A file's name begins with the last part of the entry that gave it.
            first, _, _ = name.partition("/")
            if first != entry.name:
                continue
            path = entry.parent / name
            for tree in self._trees:
                below = tree.below(path)
                if below is not None:
                    return _DocumentsFile(tree, below)
        return None


def _documents(shard: Path) -> Generator[tuple[str, SourceDocument]]:
    """Yield for each row its raw file, and what joins it with side files."""
    with open_shard(shard) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=list(COLUMNS), use_threads=False)
            lengths = pc.call_function("utf8_length", [table["text"]]).to_pylist()
            table = table.drop_columns(["text"])
            rows = zip(
                table["origin_file"].to_pylist(),
                table["origin_row"].to_pylist(),
                table["meta"],
                lengths,
                strict=True,
            )
            for origin_file, origin_row, meta, characters in rows:
                document = SourceDocument(origin_row, characters, orjson.loads(meta.as_py()))
                yield origin_file, document

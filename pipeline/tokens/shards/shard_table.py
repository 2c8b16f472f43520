"""The compact table of the tokens' shards: name, tokens and documents of each, for all sources.

The order of samples needs the length of every shard on every rank. The manifest of `tokenize` has
them among checksums and sizes of all files, half a kilobyte a shard of JSON; the table has 30 to 40
bytes a shard. Reads and writes `data_dir/tokens/.shards`.

The table follows from the manifest and is no output of the stage: it is in no fingerprint, and is
made again where it is missing or belongs to another manifest. The two are told apart by the
manifest's `output`, which stands in its first bytes.

Format: MAGIC; the xxh3 of 128 bits of all bytes after it; a zstd frame with one line of JSON
(`TableHead`), the tokens and then the documents of each shard (little-endian int64), and the names
of the shards, each ended by a line feed. Shards are sorted by source, split and name.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import xxhash
import zstandard

from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TokenizeCounts
from pipeline.store.files import write_atomic
from pipeline.store.layout import manifest_path, shard_table_path
from pipeline.store.manifests.shard_places import logical_name, placed, source_of, stem_of
from pipeline.store.records import ListedFile, Manifest
from pipeline.tokens.indexed_dataset import HEADER, with_suffix

MAGIC = b"SHARDS\x00\x01"
"""First bytes of the file; the last one is the version of its format."""
DIGEST_BYTES = 16
HEAD_BYTES = 4096
"""Bytes at the beginning of a manifest that hold its `output`."""
OUTPUT = re.compile(rb'"output": "([^"]*)"')
"""Where the manifest says which content its files have."""
ROW_BYTES = 8
"""Bytes of a document in a `.doc` file."""


class SplitCounts(TypedDict):
    """The shards of one split of a source."""

    source: str
    split: str
    shards: int


class TableHead(TypedDict):
    """The first line of the table."""

    output: str
    """`output` of the manifest that the table belongs to."""
    dtypes: dict[str, str]
    """Source -> numpy's name for the type of its ids."""
    in_parts: NotRequired[list[str]]
    """Sources whose files lie in parts of their folder, where there are any."""
    splits: list[SplitCounts]
    """In the order of the shards."""


@dataclass(frozen=True)
class Shards:
    """The shards of one split of a source, sorted by name."""

    names: Sequence[str]
    """Names without a suffix, such as `train_0a1b2c3d4e5f_000`."""
    tokens: np.ndarray
    """`(shards,) int64`"""
    documents: np.ndarray
    """`(shards,) int64`"""


@dataclass(frozen=True)
class ShardTable:
    """All shards of a finished stage `tokenize`."""

    output: str
    """`output` of the stage's manifest."""
    dtypes: Mapping[str, str]
    """Source -> numpy's name for the type of its ids."""
    shards: Mapping[tuple[str, str], Shards]
    """(source, split) -> its shards; no entry where it has none."""
    in_parts: frozenset[str] = frozenset()
    """Sources whose files lie in parts of their folder (`store/manifests/shard_places.py`)."""

    def of(self, source: str, split: str) -> Shards:
        """Return the shards of a split (`train` or `validation`), none for an unknown one."""
        none = np.zeros(0, np.int64)
        return self.shards.get((source, split), Shards((), none, none))

    def bin_files(self, tokens_dir: Path, source: str, split: str) -> list[Path]:
        """Return the `.bin` files of a split, in the order of its shards."""
        in_parts = source in self.in_parts
        return [
            tokens_dir / placed(f"{source}/{name}.bin", in_parts)
            for name in self.of(source, split).names
        ]


def read_shard_table(tokens_dir: Path) -> ShardTable:
    """Return the table of the finished tokens, read once in a process while nothing changes it.

    Where the table is missing, damaged, or of another manifest, it is made from the manifest, and
    not written. Raises DataError where tokenize is not done.
    """
    state = _state_of_manifest(tokens_dir)
    table = read_stored_table(tokens_dir)
    if table is not None and table.output == state.output:
        return table
    return _table_of_manifest(tokens_dir, state)


def keep_shard_table(tokens_dir: Path) -> None:
    """Write the table where it does not belong to the manifest, as for tokens of an older version.

    A folder that cannot be written to is left as it is: each reader then makes the table itself.
    Raises DataError where tokenize is not done.
    """
    table = read_shard_table(tokens_dir)
    stored = read_stored_table(tokens_dir)
    if stored is not None and stored.output == table.output:
        return
    try:
        write_shard_table(tokens_dir, table)
    except OSError:
        return


def read_stored_table(tokens_dir: Path) -> ShardTable | None:
    """Return the table as it is stored, whatever the manifest says; None for no intact one."""
    path = shard_table_path(tokens_dir)
    try:
        status = path.stat()
    except OSError:
        return None
    return _parsed(path, status.st_ino, status.st_size, status.st_mtime_ns)


def forget_tables() -> None:
    """Forget the tables that this process has read."""
    _parsed.cache_clear()
    _table_of_manifest.cache_clear()


def write_shard_table(tokens_dir: Path, table: ShardTable) -> None:
    """Write the table atomically."""
    parts = sorted(table.shards.items())
    head: TableHead = {
        "output": table.output,
        "dtypes": dict(table.dtypes),
        "splits": [
            {"source": source, "split": split, "shards": len(shards.names)}
            for (source, split), shards in parts
        ],
    }
    if table.in_parts:
        head["in_parts"] = sorted(table.in_parts)
    content = [json.dumps(head).encode(), b"\n"]
    content += [shards.tokens.astype("<i8").tobytes() for _, shards in parts]
    content += [shards.documents.astype("<i8").tobytes() for _, shards in parts]
    content += [f"{name}\n".encode() for _, shards in parts for name in shards.names]
    packed = zstandard.ZstdCompressor(level=3).compress(b"".join(content))
    digest = xxhash.xxh3_128_digest(packed)
    write_atomic(shard_table_path(tokens_dir), MAGIC + digest + packed)


def make_shard_table(
    output: str,
    dtypes: Mapping[str, str],
    files: Mapping[str, ListedFile],
    tokens_dir: Path,
) -> ShardTable:
    """Return the table of the files of a manifest.

    Reads the headers of linked `.idx` files, which alone have no `.doc` file beside them.
    """
    shards: dict[tuple[str, str], Shards] = {}
    in_parts: set[str] = set()
    for (source, split), paths in bin_files_of(files).items():
        itemsize = np.dtype(dtypes[source]).itemsize
        tokens = [files[path]["bytes"] // itemsize for path in paths]
        documents = [_documents_of(files, tokens_dir, path.removesuffix(".bin")) for path in paths]
        shards[source, split] = Shards(
            [stem_of(path) for path in paths],
            np.array(tokens, np.int64),
            np.array(documents, np.int64),
        )
        if paths[0] != logical_name(paths[0]):
            in_parts.add(source)
    return ShardTable(output, dict(dtypes), shards, frozenset(in_parts))


def bin_files_of(files: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return (source, split) -> paths of its `.bin` files, sorted by the names of the shards.

    `files`: the paths of token files below the stage's folder.
    """
    paths: dict[tuple[str, str], list[str]] = {}
    for path in sorted((path for path in files if path.endswith(".bin")), key=logical_name):
        split = stem_of(path).partition("_")[0]
        paths.setdefault((source_of(path), split), []).append(path)
    return paths


def _documents_of(files: Mapping[str, ListedFile], tokens_dir: Path, name: str) -> int:
    """Return the documents of a shard; -1 where a linked pair is not there now."""
    rows = files.get(f"{name}.doc")
    if rows is not None:
        return rows["bytes"] // ROW_BYTES
    try:
        with with_suffix(tokens_dir / name, ".idx").open("rb") as index:
            _, _, _, _, entries = HEADER.unpack(index.read(HEADER.size))
    except (OSError, ValueError):
        return -1
    return entries - 1


class _ManifestState(NamedTuple):
    """What tells two manifests of one path apart."""

    output: str | None
    """Their `output`; None where the first bytes do not hold it."""
    inode: int
    modified_ns: int


@lru_cache(maxsize=1)
def _table_of_manifest(tokens_dir: Path, state: _ManifestState) -> ShardTable:
    """Return the table of the manifest that is in this state."""
    manifest: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens_dir))
    if manifest is None:
        raise _not_finished(tokens_dir)
    dtypes = manifest["counts"]["dtypes"]
    return make_shard_table(manifest["output"], dtypes, manifest["files"], tokens_dir)


def _state_of_manifest(tokens_dir: Path) -> _ManifestState:
    """Read the first bytes of the manifest. Raises DataError where there is none."""
    try:
        with manifest_path(tokens_dir).open("rb") as file:
            match = OUTPUT.search(file.read(HEAD_BYTES))
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        raise _not_finished(tokens_dir) from None
    except OSError:
        # Reading the whole manifest says what is wrong with it.
        return _ManifestState(None, 0, 0)
    output = None
    if match is not None:
        output = match[1].decode()
    return _ManifestState(output, status.st_ino, status.st_mtime_ns)


def _not_finished(tokens_dir: Path) -> DataError:
    return DataError(f"{tokens_dir}: holds no finished tokens. Run `pipeline tokenize` first.")


@lru_cache(maxsize=2)
def _parsed(path: Path, inode: int, size: int, modified_ns: int) -> ShardTable | None:
    """Return the table in a file, None where it is damaged. The numbers tell files of one path apart."""
    try:
        return _table_in(path.read_bytes())
    except OSError:
        return None


def _table_in(content: bytes) -> ShardTable | None:
    """Return the table in the content of its file; None where that is not intact."""
    start = len(MAGIC) + DIGEST_BYTES
    packed = content[start:]
    if content[:start] != MAGIC + xxhash.xxh3_128_digest(packed):
        return None
    raw = zstandard.ZstdDecompressor().decompress(packed)
    line, _, _ = raw.partition(b"\n")
    head: TableHead = json.loads(line)
    count = sum(part["shards"] for part in head["splits"])
    numbers = np.frombuffer(raw, "<i8", 2 * count, len(line) + 1).reshape(2, count)
    # Not `splitlines`: the name of a linked pair may hold other ends of lines, such as U+2028.
    names = raw[len(line) + 1 + numbers.nbytes :].decode().split("\n")
    shards: dict[tuple[str, str], Shards] = {}
    first = 0
    for part in head["splits"]:
        end = first + part["shards"]
        shards[part["source"], part["split"]] = Shards(
            names[first:end], numbers[0, first:end], numbers[1, first:end]
        )
        first = end
    in_parts = frozenset(head.get("in_parts", ()))
    return ShardTable(head["output"], head["dtypes"], shards, in_parts)

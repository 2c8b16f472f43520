"""The `.keys` file beside each documents shard: sorted hashes of the original ids and urls.

Writes and reads it. Layout, little-endian: 8 bytes `DOC-KEYS`; the version and the number of
entries as uint64; then for all entries the xxh3_64 hash of the key in UTF-8 as uint64, ascending;
then for all entries the row in the shard as uint32, ascending among equal hashes.
"""

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import isqrt
from pathlib import Path

import numpy as np
import orjson
import xxhash

from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.meta import NO_META
from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.manifests.moved_files import stage_folder_of
from pipeline.store.records import FileRecord, Json

KEYS_SUFFIX = ".keys"
MAGIC = b"DOC-KEYS"
VERSION = 1
HEADER = struct.Struct("<8sQQ")
HASH = np.dtype("<u8")
ROW = np.dtype("<u4")
LIKELY_DEVIATIONS = 4
"""Standard deviations around its expected place within which a hash is searched first."""


def keys_path(shard: Path) -> Path:
    """Return the path of a shard's `.keys` file; hidden, so that readers of Parquet folders skip it."""
    return shard.with_name(f".{shard.stem}{KEYS_SUFFIX}")


def original_keys(meta: bytes) -> list[str]:
    """Return the strings and integers that a document's meta holds as `id`, `url` or `*_id`.

    `meta`: a JSON object. An integer is returned as its digits; no key is returned twice.
    """
    # Most rows of RedPajama's books and code have no such key: they are not parsed.
    if b'"url"' not in meta and b'id"' not in meta:
        return []
    try:
        fields: dict[str, Json] = orjson.loads(meta)
    except orjson.JSONDecodeError:
        fields = loads_exactly(meta)

    # A dictionary without values: a set that keeps its order.
    keys: dict[str, None] = {}
    for name, value in fields.items():
        if name == "url" or name == "id" or name.endswith("_id"):
            # An integer beyond 64 bits has become a float.
            if type(value) is float:
                value = loads_exactly(meta)[name]
            if type(value) is int:
                value = str(value)
            if type(value) is str and value:
                keys[value] = None
    return list(keys)


def hash_key(key: str) -> int:
    """Return the hash of a key; a key with half a surrogate pair, which JSON cannot hold, has one."""
    return xxhash.xxh3_64_intdigest(key.encode(errors="surrogatepass"))


class ShardKeys:
    """Collects the entries of one shard while it is written: 12 bytes each, sorted at the end."""

    def __init__(self) -> None:
        self._hashes = [np.zeros(0, HASH)]
        self._rows = [np.zeros(0, ROW)]

    def add(self, metas: Sequence[bytes], first_row: int) -> None:
        """Add the keys of consecutive documents, given by their metas."""
        hashes = []
        rows = []
        for row, meta in enumerate(metas, first_row):
            # Short documents without meta pay for a call.
            if meta == NO_META:
                continue
            for key in original_keys(meta):
                hashes.append(hash_key(key))
                rows.append(row)
        if rows:
            self._hashes.append(np.array(hashes, HASH))
            self._rows.append(np.array(rows, ROW))

    def write(self, path: Path) -> FileRecord:
        """Write the file, which takes its name when complete; return its size and checksum."""
        hashes = np.concatenate(self._hashes)
        rows = np.concatenate(self._rows)
        # Rows were added in ascending order: a stable sort keeps it among equal hashes.
        order = np.argsort(hashes, kind="stable")
        temporary = temporary_path(path)
        try:
            with ChecksummedFile(temporary) as file:
                file.write(HEADER.pack(MAGIC, VERSION, len(hashes)))
                file.write(hashes[order].data)
                file.write(rows[order].data)
                file.fsync()
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return file.record()


def find_rows(path: Path, key: str) -> list[int]:
    """Return the rows with an entry of the key's hash, ascending: their documents may have the key.

    Reads the header, about 32 bytes times the square root of the number of entries, and the rows
    found. Raises DataError where the file is missing, is not a `.keys` file, or has another size
    than its header says.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise unusable_index(path, "is missing") from None
    try:
        count = _count(path, descriptor)
        first, end = _equal_range(path, descriptor, count, hash_key(key))
        if first == end:
            return []
        offset = HEADER.size + HASH.itemsize * count
        rows = _read(path, descriptor, offset, ROW, first, end)
        return sorted(set(rows.tolist()))
    finally:
        os.close(descriptor)


def unusable_index(path: Path, why: str) -> DataError:
    """Return the error to raise for a `.keys` file that cannot be used."""
    return DataError(
        f"{path}: {why}, so documents of this shard cannot be found by their original id or url. "
        f"Delete it and {manifest_path(stage_folder_of(path))}, then run `pipeline prepare`: it makes "
        "this shard anew and keeps the others."
    )


def _count(path: Path, descriptor: int) -> int:
    """Return the number of entries; raises DataError unless the header and the size are right."""
    header = os.pread(descriptor, HEADER.size, 0)
    size = os.fstat(descriptor).st_size
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise unusable_index(path, "is not a .keys file (another beginning)")
    _, version, count = HEADER.unpack(header)
    if version != VERSION:
        raise unusable_index(path, f"has the format version {version} and not {VERSION}")
    expected = HEADER.size + (HASH.itemsize + ROW.itemsize) * count
    if size != expected:
        raise unusable_index(
            path, f"has {size:,} bytes and not the {expected:,} of its {count:,} entries"
        )
    return count


def _equal_range(path: Path, descriptor: int, count: int, target: int) -> tuple[int, int]:
    """Return where the entries of a hash begin and end."""
    # Hashes are spread evenly: of n hashes, n x p lie below the fraction p of their range, with a
    # standard deviation of sqrt(n x p x (1 - p)), which is at most sqrt(n) / 2.
    expected = (target * count) >> 64
    reach = LIKELY_DEVIATIONS * (isqrt(count) // 2 + 1)
    start = max(0, expected - reach)
    end = min(count, expected + reach)
    near = _read(path, descriptor, HEADER.size, HASH, start, end)
    first = start + int(np.searchsorted(near, HASH.type(target), "left"))
    last = start + int(np.searchsorted(near, HASH.type(target), "right"))
    if (start < first or start == 0) and (last < end or end == count):
        return first, last

    # Many documents with the same key reach beyond that part: search all entries.
    entries = range(count)

    def hash_at(entry: int) -> int:
        return int(_read(path, descriptor, HEADER.size, HASH, entry, entry + 1)[0])

    return bisect_left(entries, target, key=hash_at), bisect_right(entries, target, key=hash_at)


def _read(
    path: Path, descriptor: int, offset: int, dtype: np.dtype, start: int, end: int
) -> np.ndarray:
    size = (end - start) * dtype.itemsize
    content = os.pread(descriptor, size, offset + start * dtype.itemsize)
    if len(content) != size:
        raise unusable_index(path, "ends while it is read")
    return np.frombuffer(content, dtype)

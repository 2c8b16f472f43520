"""The `.keys` file beside each documents shard: the hashes of its documents' original ids and urls,
sorted.

Layout, little-endian: 8 bytes `DOC-KEYS`, the version and the number of entries as uint64; the
xxh3_64 hash of every entry's key in UTF-8 as uint64, ascending; then its row in the shard as
uint32, ascending among equal hashes.
"""

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import isqrt
from pathlib import Path

import numpy as np
import xxhash

from pipeline.corpus.exact_json import loads_exactly
from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.records import FileRecord

MAGIC = b"DOC-KEYS"
VERSION = 1
HEADER = struct.Struct("<8sQQ")
HASH = np.dtype("<u8")
ROW = np.dtype("<u4")
LIKELY_DEVIATIONS = 4
"""A hash is looked for, at first, so many standard deviations around where it should stand."""


def keys_path(shard: Path) -> Path:
    """Return the place of a shard's `.keys` file: hidden, so that readers of a folder of Parquet do
    not open it."""
    return shard.with_name(f".{shard.stem}.keys")


def original_keys(meta: bytes) -> list[str]:
    """Return what a document's meta, a JSON object, gives as `id`, `url` and every `*_id`: strings
    and integers."""
    if b'"url"' not in meta and b'id"' not in meta:  # neither have RedPajama's books and code
        return []
    named = loads_exactly(meta).items()
    values = [
        value for name, value in named if name == "url" or name == "id" or name.endswith("_id")
    ]
    return list(
        dict.fromkeys(str(value) for value in values if type(value) in (str, int) and value != "")
    )


def hash_key(key: str) -> int:
    """Return the hash that stands for a key; one that no JSON can hold (half a surrogate pair) has
    one, too."""
    return xxhash.xxh3_64_intdigest(key.encode(errors="surrogatepass"))


class ShardKeys:
    """The entries of one shard while it is written: 12 bytes for each, sorted at the end."""

    def __init__(self) -> None:
        self._hashes, self._rows = [np.zeros(0, HASH)], [np.zeros(0, ROW)]

    def add(self, metas: Sequence[bytes], first_row: int) -> None:
        """Take the keys of documents that stand one after another."""
        hashes = []
        rows = []
        for row, meta in enumerate(metas, first_row):
            for key in original_keys(meta):
                hashes.append(hash_key(key))
                rows.append(row)
        if rows:
            self._hashes.append(np.array(hashes, HASH))
            self._rows.append(np.array(rows, ROW))

    def write(self, path: Path) -> FileRecord:
        """Write the file, under its name only once it is complete, and return `{"bytes",
        "checksum"}`."""
        hashes = np.concatenate(self._hashes)
        rows = np.concatenate(self._rows)
        order = np.argsort(hashes, kind="stable")  # rows were added in their order
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
    """Return the rows whose entries have the key's hash, ascending: they may have the key.

    Reads the header, about 32 bytes times the square root of the number of entries, and the rows
    found. Raises DataError if the file is missing, not such a file, or not of the size that it
    says.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise unusable_index(path, "is missing") from None
    try:
        count = _count(path, descriptor)
        first, end = _equal_range(path, descriptor, count, hash_key(key))
        at = HEADER.size + HASH.itemsize * count
        return (
            sorted(set(_read(path, descriptor, at, ROW, first, end).tolist()))
            if first < end
            else []
        )
    finally:
        os.close(descriptor)


def unusable_index(path: Path, why: str) -> DataError:
    """Return what to raise for an index that cannot be used."""
    return DataError(
        f"{path}: {why}, so documents of this shard cannot be found by their original id or url. "
        "Delete it and "
        f"{manifest_path(path.parent.parent)}, then run `pipeline prepare`: it makes this shard anew "
        "and keeps the others."
    )


def _count(path: Path, descriptor: int) -> int:
    header = os.pread(descriptor, HEADER.size, 0)
    size = os.fstat(descriptor).st_size
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise unusable_index(path, "does not begin like a .keys file")
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
    # Hashes are spread evenly: of n of them n x p stand before the fraction p of their range, give
    # or take sqrt(n x p x (1 - p)), which is at most sqrt(n) / 2.
    around = (target * count) >> 64
    reach = LIKELY_DEVIATIONS * (isqrt(count) // 2 + 1)
    start = max(0, around - reach)
    end = min(count, around + reach)
    near = _read(path, descriptor, HEADER.size, HASH, start, end)
    first, last = (
        start + int(np.searchsorted(near, HASH.type(target), side)) for side in ("left", "right")
    )
    if (start < first or start == 0) and (last < end or end == count):
        return first, last
    # Not so if many documents share a key.
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

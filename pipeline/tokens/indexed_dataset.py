"""Write and read Megatron-LM's indexed dataset, byte for byte.

`.bin` holds the ids of all documents, `.idx` the place of each document in `.bin`. `.idx` is
little-endian: magic `MMIDIDX\\0\\0`, version uint64 = 1, dtype code uint8, sequences uint64,
document entries uint64 (documents + 1), then sequence lengths in tokens int32[sequences], offsets in
bytes int64[sequences], and the first sequence of each document int64[documents + 1]. A document that
is written here is one sequence. A third file, `.doc`, holds each document's row in the Parquet shard
of the same name, int64 little-endian, without a header.

Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash

from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.manifests.moved_files import existing_place, stage_folder_of
from pipeline.store.records import FileRecord

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODE_OF_DTYPE = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
DTYPE_OF_CODE = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}
"""Megatron's and GPT-NeoX's codes of integers; they disagree on 6 and 7, which are float types."""
SUFFIXES = (".bin", ".idx", ".doc")
PAIR = (".bin", ".idx")
"""Suffixes of the files that training reads; their records in the manifest have `samples`."""
BLOCK_DOCUMENTS = 1 << 16
"""Documents whose index entries are held in memory at once."""
SAMPLED_BLOCKS = 16
"""Blocks of a file that `sample_checksum` reads."""
SAMPLED_BLOCK_BYTES = 4096


def token_dtype(vocab_size: int) -> np.dtype:
    """Return uint16 below 65,500 ids, else int32 (Megatron's `DType.optimal_dtype`)."""
    if vocab_size < 65500:
        return np.dtype(np.uint16)
    return np.dtype(np.int32)


def with_suffix(prefix: Path, suffix: str) -> Path:
    """Return a shard's file; unlike `Path.with_suffix`, this keeps dots in the prefix."""
    return prefix.with_name(prefix.name + suffix)


def sample_checksum(path: Path) -> str:
    """Return the xxh3_128 of SAMPLED_BLOCKS blocks, spread evenly from the first to the last one.

    A file smaller than the blocks together is read as a whole.
    """
    digest = xxhash.xxh3_128()
    last = SAMPLED_BLOCKS - 1
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size < SAMPLED_BLOCKS * SAMPLED_BLOCK_BYTES:
            digest.update(read_at(file.fileno(), size, 0))
        else:
            for place in range(SAMPLED_BLOCKS):
                offset = place * (size - SAMPLED_BLOCK_BYTES) // last
                digest.update(read_at(file.fileno(), SAMPLED_BLOCK_BYTES, offset))
    return digest.hexdigest()


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Return `count` bytes from an offset, fewer only where the file ends."""
    content = b""
    while len(content) < count:
        # A network file system may give fewer bytes than it was asked for.
        part = os.pread(descriptor, count - len(content), offset + len(content))
        if not part:
            break
        content += part
    return content


class ShardWriter:
    """Writes one shard, batch by batch; memory does not grow with the documents.

    Use as a context manager: `finish` gives the files their names, `.idx` last. Left without
    `finish`, no file remains.
    """

    def __init__(self, prefix: Path, dtype: np.dtype) -> None:
        self.documents = 0
        self.tokens = 0
        self._prefix = prefix
        self._dtype = dtype
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = {
            suffix: temporary_path(with_suffix(prefix, suffix)) for suffix in SUFFIXES
        }
        self._lengths_path = temporary_path(with_suffix(prefix, ".lengths"))
        self._stack = ExitStack()

    def __enter__(self) -> "ShardWriter":
        self._bin = self._open(".bin")
        self._doc = self._open(".doc")
        self._lengths = self._stack.enter_context(self._lengths_path.open("w+b"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        for path in (*self._temporary.values(), self._lengths_path):
            path.unlink(missing_ok=True)

    def add(self, ids: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> None:
        """Append documents.

        `ids`: `(tokens,)`. `lengths`: tokens of each document, `(documents,)`. `rows`: row of each
        document in the Parquet shard, `(documents,)`.
        """
        self._bin.write(ids.astype(self._dtype, copy=False).data)
        self._doc.write(rows.astype("<i8").data)
        self._lengths.write(lengths.astype("<i4").data)
        self.documents += len(lengths)
        self.tokens += len(ids)

    def finish(self) -> dict[str, FileRecord]:
        """Complete the files; return the record of each by its suffix."""
        # The index: header, lengths, offsets in bytes, first sequences.
        index = self._open(".idx")
        index.write(
            HEADER.pack(MAGIC, 1, CODE_OF_DTYPE[self._dtype], self.documents, self.documents + 1)
        )
        for lengths in self._written_lengths():
            index.write(lengths.data)
        offset = 0
        for lengths in self._written_lengths():
            ends = offset + np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
            index.write((ends - lengths.astype(np.int64) * self._dtype.itemsize).astype("<i8").data)
            offset = int(ends[-1])
        for first in range(0, self.documents + 1, BLOCK_DOCUMENTS):
            index.write(
                np.arange(first, min(first + BLOCK_DOCUMENTS, self.documents + 1), dtype="<i8").data
            )

        # Give the files their names, `.idx` last: it makes the shard complete.
        files = {".bin": self._bin, ".doc": self._doc, ".idx": index}
        for file in files.values():
            file.fsync()
            file.close()
        paths = {suffix: with_suffix(self._prefix, suffix) for suffix in SUFFIXES}
        for suffix in files:
            self._temporary[suffix].replace(paths[suffix])

        # Describe the files for the manifest; the samples are still in the page cache.
        records = {suffix: files[suffix].record() for suffix in SUFFIXES}
        for suffix in PAIR:
            records[suffix]["samples"] = sample_checksum(paths[suffix])
        return records

    def _open(self, suffix: str) -> ChecksummedFile:
        return self._stack.enter_context(ChecksummedFile(self._temporary[suffix]))

    def _written_lengths(self) -> Iterator[np.ndarray]:
        self._lengths.seek(0)
        while True:
            block = self._lengths.read(4 * BLOCK_DOCUMENTS)
            if not block:
                return
            yield np.frombuffer(block, "<i4")


@dataclass(frozen=True)
class Shard:
    """One indexed dataset, memory-mapped."""

    prefix: Path
    ids: np.ndarray
    """Ids of all sequences, one after another, `(tokens,)`."""
    lengths: np.ndarray
    """Length of each sequence in tokens, `(sequences,) int32`."""
    offsets: np.ndarray
    """Offset of each sequence in bytes, `(sequences,) int64`."""
    documents: np.ndarray
    """First sequence of each document, then the number of sequences, `(documents + 1,) int64`."""

    def document(self, index: int) -> np.ndarray:
        """Return one document's ids, its end-of-document id last."""
        first = self.documents[index]
        last = self.documents[index + 1]
        start = int(self.offsets[first]) // self.ids.itemsize
        return self.ids[start : start + int(self.lengths[first:last].sum(dtype=np.int64))]

    def document_lengths(self) -> np.ndarray:
        """Return the tokens of each document, of all its sequences, `(documents,) int64`."""
        ends = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        return np.diff(ends[self.documents])

    def rows(self) -> np.ndarray:
        """Return each document's row in the Parquet shard, `(documents,) int64`."""
        return _mapped(with_suffix(self.prefix, ".doc"), "<i8")


def made_again(path: Path) -> str:
    """Return how a wrong file of data_dir/tokens is made again.

    Both have to be deleted: a finished stage checks no file, a finished task no content.
    """
    delete = f"{manifest_path(stage_folder_of(path))}"
    if os.path.lexists(path):
        delete = f"{path} and {delete}"
    return f"Delete {delete}, then run `pipeline tokenize`: it makes that shard again."


def read(prefix: Path, remedy: str | None = None) -> Shard:
    """Open a shard.

    Raises DataError where a file is missing, of another format or too short. The message ends with
    `remedy`; without one, the shard is taken to lie in data_dir/tokens, where `made_again` helps.
    """
    # The files, and the end of a message about one of them.
    index = existing_place(with_suffix(prefix, ".idx"))
    prefix = index.with_name(prefix.name)
    data = with_suffix(prefix, ".bin")

    def ending(wrong: Path) -> str:
        return remedy or made_again(wrong)

    # Map the index's parts and the ids.
    try:
        with index.open("rb") as file:
            magic, version, code, sequences, entries = HEADER.unpack(file.read(HEADER.size))
        if magic != MAGIC or version != 1:
            raise DataError(
                f"{index}: is not a Megatron indexed dataset (version 1). {ending(index)}"
            )
        if code not in DTYPE_OF_CODE:
            raise DataError(
                f"{index}: its data type, code {code}, is not one of token ids. {ending(index)}"
            )
        lengths = _mapped(index, "<i4", HEADER.size, sequences)
        offsets = _mapped(index, "<i8", HEADER.size + 4 * sequences, sequences)
        documents = _mapped(index, "<i8", HEADER.size + 12 * sequences, entries)
        ids = _mapped(data, np.dtype(DTYPE_OF_CODE[code]))
    except (OSError, ValueError, struct.error) as error:
        raise DataError(f"{index}: cannot be read ({error}). {ending(index)}") from None

    # GPT-NeoX's merge_file_ copies no document entries: each sequence is a document then.
    if len(documents) and documents[-1] < sequences:
        documents = np.arange(sequences + 1)

    # Index and ids have to be of one shard.
    if len(ids) != int(lengths.sum(dtype=np.int64)):
        raise DataError(
            f"{data}: holds {len(ids)} tokens, but its index {lengths.sum(dtype=np.int64)}. "
            f"{ending(data)}"
        )
    return Shard(prefix, ids, lengths, offsets, documents)


def _mapped(
    path: Path, dtype: np.dtype | str, offset: int = 0, count: int | None = None
) -> np.ndarray:
    """Map a file, or `count` values from byte `offset`.

    What is empty cannot be mapped; it becomes an empty array.
    """
    if count == 0 or path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r", offset, count)

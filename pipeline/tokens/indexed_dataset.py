"""Megatron-LM's indexed dataset, byte for byte: `.bin` holds the ids, `.idx` where each document lies.

`.idx`, little-endian: magic `MMIDIDX\\0\\0`, version uint64 = 1, dtype code uint8, sequences uint64, document entries
uint64 (documents + 1), then sequence lengths in tokens int32[sequences], offsets in bytes int64[sequences], and
the first sequence of each document int64[documents + 1]. Here each document is one sequence. Beside them, `.doc` holds
each document's row in the Parquet shard of the same name, int64, as a NumPy `.npy` array.
Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODE_OF_DTYPE = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
DTYPE_OF_CODE = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    6: np.float64,
    7: np.float32,
    8: np.uint16,
}
SUFFIXES = (".bin", ".idx", ".doc")


def token_dtype(vocab_size: int) -> np.dtype:
    """Return uint16 below 65,500 ids, else int32 (Megatron's `DType.optimal_dtype`)."""
    return np.dtype(np.uint16) if vocab_size < 65500 else np.dtype(np.int32)


def write(
    prefix: Path, batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], dtype: np.dtype
) -> dict[str, int]:
    """Write one shard from batches of (ids `(tokens,)`, document lengths `(documents,)`, Parquet rows `(documents,)`).

    Files appear under their names only when all are complete, `.idx` last. Returns documents and tokens.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    temporary = {suffix: prefix.with_name(f".{prefix.name}{suffix}.partial") for suffix in SUFFIXES}
    all_lengths, all_rows = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    with temporary[".bin"].open("wb") as file:
        for ids, lengths, rows in batches:
            file.write(ids.astype(dtype, copy=False).data)
            all_lengths.append(lengths.astype(np.int32))
            all_rows.append(rows.astype(np.int64))
        os.fsync(file.fileno())
    lengths = np.concatenate(all_lengths)
    offsets = np.zeros(len(lengths), np.int64)
    np.cumsum(lengths[:-1], dtype=np.int64, out=offsets[1:])
    with temporary[".idx"].open("wb") as file:
        file.write(HEADER.pack(MAGIC, 1, CODE_OF_DTYPE[dtype], len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write((offsets * dtype.itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())
        os.fsync(file.fileno())
    with temporary[".doc"].open("wb") as file:
        np.save(file, np.concatenate(all_rows), allow_pickle=False)
        os.fsync(file.fileno())
    for suffix in (".bin", ".doc", ".idx"):
        temporary[suffix].replace(prefix.with_name(prefix.name + suffix))
    return {"documents": len(lengths), "tokens": int(lengths.sum(dtype=np.int64))}


@dataclass(frozen=True)
class Shard:
    """One indexed dataset, memory-mapped."""

    prefix: Path
    ids: np.ndarray
    """`(tokens,)`, all documents one after another."""
    lengths: np.ndarray
    """`(documents,) int32`, in tokens."""

    def document(self, index: int) -> np.ndarray:
        """Return one document's ids, its end-of-document id last."""
        start = int(self.lengths[:index].sum(dtype=np.int64))
        return self.ids[start : start + int(self.lengths[index])]

    def rows(self) -> np.ndarray:
        """Return each document's row in the Parquet shard, `(documents,) int64`."""
        return np.load(self.prefix.with_name(self.prefix.name + ".doc"), mmap_mode="r")


def read(prefix: Path) -> Shard:
    """Open a shard. Raises DataError where a file is missing, is of another format or is too short."""
    index, data = (prefix.with_name(prefix.name + suffix) for suffix in (".idx", ".bin"))
    try:
        with index.open("rb") as file:
            magic, version, code, sequences, _ = HEADER.unpack(file.read(HEADER.size))
        if magic != MAGIC or version != 1:
            raise DataError(f"{index}: is not a Megatron indexed dataset (version 1)")
        lengths = (
            np.memmap(index, np.dtype("<i4"), "r", HEADER.size, (sequences,)) if sequences else np.zeros(0, np.int32)
        )
        dtype = np.dtype(DTYPE_OF_CODE[code])
        ids = np.memmap(data, dtype, "r") if data.stat().st_size else np.zeros(0, dtype)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise DataError(f"{index}: cannot be read ({error}). Run `pipeline tokenize` again.") from None
    if len(ids) != int(lengths.sum(dtype=np.int64)):
        raise DataError(
            f"{data}: holds {len(ids)} tokens, its index says {lengths.sum(dtype=np.int64)}. Delete it, tokenize again."
        )
    return Shard(prefix, ids, lengths)

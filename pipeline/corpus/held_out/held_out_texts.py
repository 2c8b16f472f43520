"""Hashes of texts that are held out in any source, sorted in a file that all tasks read.

8 bytes a text, little-endian: the same hash (xxh3_64) by which `split.py` divides documents.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from pipeline.store.files import write_atomic

HASH = np.dtype("<u8")


class HeldOutTexts:
    """The texts that every source holds out."""

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes

    def __contains__(self, text_hash: int) -> bool:
        """Return whether the text with this hash is held out."""
        place = int(np.searchsorted(self._hashes, HASH.type(text_hash)))
        return place < len(self._hashes) and int(self._hashes[place]) == text_hash


def write_hashes(path: Path, hashes: Iterable[int]) -> None:
    """Write hashes, sorted, each once."""
    write_atomic(path, np.unique(np.fromiter(hashes, HASH)).tobytes())


def join_hashes(paths: Iterable[Path]) -> np.ndarray:
    """Return the hashes in several files, sorted, each once."""
    parts = [np.zeros(0, HASH), *(np.fromfile(path, HASH) for path in paths)]
    return np.unique(np.concatenate(parts))


def digest_of(hashes: np.ndarray) -> str:
    """Return what identifies a set of hashes."""
    return xxhash.xxh3_128_hexdigest(hashes.tobytes())


@lru_cache(maxsize=1)
def read_held_out_texts(path: Path) -> HeldOutTexts:
    """Return the texts in a file whose name has their digest."""
    return HeldOutTexts(np.fromfile(path, HASH))

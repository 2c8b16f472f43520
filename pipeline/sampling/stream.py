"""Token streams on disk: all documents of one source and split, one after another, read by position."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from pipeline.artifacts import read_manifest
from pipeline.errors import DataError
from pipeline.tokens.indexed_dataset import made_again

OPEN_SHARDS = 256
"""Memory maps kept open per stream; the least recently used one is closed."""


class TokenStream:
    """The ids of several `.bin` files as one array."""

    def __init__(self, shards: Sequence[tuple[Path, int]], dtype: np.dtype) -> None:
        """Take files with their number of tokens, in order. Nothing is opened yet."""
        self._files = [path for path, tokens in shards if tokens]
        self._starts = [0, *accumulate(tokens for _, tokens in shards if tokens)]
        self._dtype = dtype
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, count: int) -> np.ndarray:
        """Return ids `[start, start + count)` as `(count,) int64`; they may lie in several files."""
        out = np.empty(count, np.int64)
        filled = 0
        while filled < count:
            shard = bisect_right(self._starts, start + filled) - 1
            offset = start + filled - self._starts[shard]
            piece = self._shard(shard)[offset : offset + count - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
        return out

    def _shard(self, index: int) -> np.ndarray:
        if index in self._open:
            self._open.move_to_end(index)
            return self._open[index]
        path, expected = self._files[index], self._starts[index + 1] - self._starts[index]
        try:
            ids = np.memmap(path, self._dtype, "r")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). {made_again(path)}") from None
        if len(ids) != expected:
            raise DataError(f"{path}: holds {len(ids)} tokens instead of {expected}. {made_again(path)}")
        self._open[index] = ids
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return ids


def open_streams(tokens_dir: Path, sources: Sequence[str], split: str) -> dict[str, TokenStream]:
    """Open each source's stream of a split (`train` or `validation`) from the tokens' manifest."""
    manifest = read_manifest(tokens_dir / "manifest.json")
    if manifest is None:
        raise DataError(f"{tokens_dir}: holds no finished tokens. Run `pipeline tokenize` first.")
    streams = {}
    for source in sources:
        dtype = np.dtype(manifest["counts"]["dtypes"][source])
        prefix = f"{source}/{split}_"
        names = sorted(n for n in manifest["files"] if n.startswith(prefix) and n.endswith(".bin"))
        shards = [(tokens_dir / n, manifest["files"][n]["bytes"] // dtype.itemsize) for n in names]
        streams[source] = TokenStream(shards, dtype)
    return streams

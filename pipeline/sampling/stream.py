"""Token streams on disk: all documents of one source and split, one after another, read by
position.

Files are read with `pread`, not mapped: a file that was cut short is an error instead of a signal
that kills the process, the interpreter's lock is free while a slow file system answers, and nothing
but what was asked for is read ahead.
"""

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TokenizeCounts
from pipeline.store.layout import manifest_path
from pipeline.store.records import Manifest
from pipeline.tokens.indexed_dataset import made_again

MOST_OPEN_FILES = 4096
"""Of a process, all sources together; the one used longest ago is closed. Fewer where the system
allows fewer."""


class OpenFiles:
    """Open files, the last used ones, shared by the threads that read."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: OrderedDict[Path, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        """Fill a buffer from a byte offset on; returns the bytes that were there. Raises DataError
        where it cannot."""
        try:
            file = self._get(
                path
            )  # kept in a name: another thread may drop it, and the last reference closes it
            return os.preadv(file.fileno(), [buffer], offset)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}). {made_again(path)}"
            ) from None

    def _get(self, path: Path) -> FileIO:
        with self._lock:
            file = self._open.get(path)
            if file is not None:
                self._open.move_to_end(path)
                return file
        file = FileIO(path)
        with self._lock:
            self._open[path] = file
            if len(self._open) > self._most:
                self._open.popitem(last=False)
        return file


@cache
def shared_files() -> OpenFiles:
    """Return this process' open token files; the limit on open files is raised as far as the system
    allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return OpenFiles(
        MOST_OPEN_FILES if soft == resource.RLIM_INFINITY else min(MOST_OPEN_FILES, soft // 2)
    )


class TokenStream:
    """The ids of several `.bin` files as one array."""

    def __init__(
        self, shards: Sequence[tuple[Path, int]], dtype: np.dtype, files: OpenFiles | None = None
    ) -> None:
        """Take files with their number of tokens, in order. Nothing is opened yet."""
        self.paths = [path for path, tokens in shards if tokens]
        self.starts = np.array([0, *accumulate(tokens for _, tokens in shards if tokens)], np.int64)
        """`(files + 1,)`: the first token of each file, and the number of tokens."""
        self.dtype = dtype
        self._files = files or shared_files()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read_pieces(self, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the ids of pieces `[start, start + count)`, one after another, `(sum of counts,)`
        of the stream's type.

        A piece may lie in several files.
        """
        ends = np.cumsum(counts)
        out = np.empty(int(ends[-1]) if len(ends) else 0, self.dtype)
        size = self.dtype.itemsize
        view = out.data.cast("B")
        shards = np.searchsorted(self.starts, starts, side="right") - 1
        offsets = (starts - self.starts[shards]) * size
        read = self._files.read_into
        paths = self.paths
        for shard, offset, end, count in zip(
            shards.tolist(),
            offsets.tolist(),
            (ends * size).tolist(),
            (counts * size).tolist(),
            strict=True,
        ):
            piece = view[end - count : end]
            if read(paths[shard], piece, offset) != count:
                self._read_on(shard, piece, offset)
        return out

    def read(self, start: int, count: int) -> np.ndarray:
        """Return ids `[start, start + count)` as `(count,) int64`."""
        return self.read_pieces(np.array([start]), np.array([count])).astype(np.int64)

    def _read_on(self, shard: int, piece: memoryview, offset: int) -> None:
        """Read a piece that reaches into the next files. Raises DataError where a file is shorter
        than recorded."""
        filled = 0
        while filled < len(piece):
            if shard == len(self.paths):
                raise DataError(
                    f"{self.paths[-1]}: {len(piece) - filled} bytes were read beyond its end"
                )
            path = self.paths[shard]
            size = int(self.starts[shard + 1] - self.starts[shard]) * self.dtype.itemsize
            left = min(len(piece) - filled, size - offset)
            while left:
                found = self._files.read_into(path, piece[filled : filled + left], offset)
                if not found:
                    raise DataError(
                        f"{path}: ends after {offset} bytes instead of {size}. {made_again(path)}"
                    )
                filled = filled + found
                offset = offset + found
                left = left - found
            shard = shard + 1
            offset = 0


class RecordedFile(TypedDict):
    """What a run has recorded of a token file's content; it has a checksum or an identity."""

    bytes: int
    """Size in bytes."""
    checksum: NotRequired[str]
    """xxh3 of 128 bits over all bytes, in hexadecimal."""
    identity: NotRequired[str]
    """Changes when a linked file is replaced or written to."""


class TokenTypes(TypedDict):
    """The types of token ids."""

    dtypes: dict[str, str]
    """Source -> numpy's name of the type of its ids."""


class RecordedTokens(TypedDict):
    """Which token files a run reads, as it has recorded them at its start."""

    output: str
    """Hash of the content of all files that there were."""
    counts: TokenTypes
    files: dict[str, RecordedFile]
    """Path below `data_dir/tokens` -> content."""


def open_streams(
    tokens_dir: Path,
    sources: Sequence[str],
    split: str,
    files: OpenFiles | None = None,
    recorded: RecordedTokens | None = None,
) -> dict[str, TokenStream]:
    """Open each source's stream of a split (`train` or `validation`) from the tokens' manifest.

    Or from what a run has recorded of it (`recorded_tokens.py`): the manifest may have more files
    now.
    """
    finished: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens_dir))
    manifest = recorded or finished
    if manifest is None:
        raise DataError(f"{tokens_dir}: holds no finished tokens. Run `pipeline tokenize` first.")
    names: dict[str, list[str]] = {source: [] for source in sources}
    for name in manifest["files"]:
        source, _, shard = name.partition("/")
        if source in names and shard.startswith(f"{split}_") and shard.endswith(".bin"):
            names[source].append(name)
    streams = {}
    for source, own in names.items():
        dtype = np.dtype(manifest["counts"]["dtypes"][source])
        shards = [
            (tokens_dir / name, manifest["files"][name]["bytes"] // dtype.itemsize)
            for name in sorted(own)
        ]
        streams[source] = TokenStream(shards, dtype, files)
    return streams

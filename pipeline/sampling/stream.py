"""Token streams: all documents of one source and split as one array of ids, read by position.

Reads the table of shards in `data_dir/tokens` and its `.bin` files. Files are read with `pread`, not
mapped: a file that was cut short is an error instead of a signal that kills the process; the
interpreter's lock is free while a slow file system answers; and nothing is read ahead.
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
from pipeline.store.manifests.moved_files import existing_place
from pipeline.tokens.indexed_dataset import made_again
from pipeline.tokens.shards.shard_table import bin_files_of, read_shard_table

MOST_OPEN_FILES = 4096
"""Files that a process keeps open, for all sources; the one used longest ago is closed.

Fewer where the system allows fewer.
"""


class OpenFiles:
    """The files used last, kept open and shared by the threads that read."""

    def __init__(self, most_open: int) -> None:
        self._most_open = most_open
        self._open: OrderedDict[Path, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        """Read into a buffer from a byte offset; return the number of bytes read.

        Raises DataError where the file cannot be read.
        """
        try:
            # The name holds a reference: another thread may drop the file from the cache, and the
            # last reference closes it.
            file = self._get(path)
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
        try:
            file = FileIO(path)
        except FileNotFoundError:
            # While a job reads, text may be added, and its source's files be moved.
            file = FileIO(existing_place(path))
        with self._lock:
            self._open[path] = file
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return file


@cache
def shared_files() -> OpenFiles:
    """Return the open token files of this process.

    Raises the process's limit on open files as far as needed and allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted
        if hard != resource.RLIM_INFINITY:
            soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return OpenFiles(MOST_OPEN_FILES)
    return OpenFiles(min(MOST_OPEN_FILES, soft // 2))


class TokenStream:
    """The ids of several `.bin` files, read as one array."""

    def __init__(
        self, shards: Sequence[tuple[Path, int]], dtype: np.dtype, files: OpenFiles | None = None
    ) -> None:
        """Open nothing yet. `shards`: each file and its number of tokens, in order."""
        self.paths = [path for path, tokens in shards if tokens]
        self.starts = np.array([0, *accumulate(tokens for _, tokens in shards if tokens)], np.int64)
        """`(files + 1,) int64`: the first token of each file, and the number of all tokens."""
        self.dtype = dtype
        self._files = files or shared_files()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read_pieces(self, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the ids of pieces `[start, start + count)`, one after another.

        `starts`, `counts`: `(pieces,) int64`. Returns `(sum of counts,)` ids of the stream's type.
        A piece may lie in several files. Raises DataError where a file is too short, and for pieces
        outside of the stream.
        """
        self._refuse_outside(starts, counts)
        ends = np.cumsum(counts)
        out = np.empty(int(counts.sum()), self.dtype)
        size = self.dtype.itemsize
        view = out.data.cast("B")
        shards = np.searchsorted(self.starts, starts, side="right") - 1
        offsets = (starts - self.starts[shards]) * size
        read = self._files.read_into
        paths = self.paths
        shard: int
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

    def _refuse_outside(self, starts: np.ndarray, counts: np.ndarray) -> None:
        """Raise DataError unless all pieces lie within the stream."""
        if not len(starts):
            return
        first = int(starts.min())
        end = int((starts + counts).max())
        if first < 0 or end > len(self):
            folders = {path.parent for path in self.paths}
            raise DataError(
                f"{', '.join(map(str, sorted(folders)))}: tokens {first:,} to {end:,} were requested "
                f"of {len(self):,}"
            )

    def read(self, start: int, count: int) -> np.ndarray:
        """Return ids `[start, start + count)` as `(count,) int64`."""
        return self.read_pieces(np.array([start]), np.array([count])).astype(np.int64)

    def _read_on(self, shard: int, piece: memoryview, offset: int) -> None:
        """Read a piece that reaches into the next files, from `offset` bytes of a file on.

        Raises DataError where a file is shorter than recorded.
        """
        filled = 0
        while filled < len(piece):
            path = self.paths[shard]
            size = int(self.starts[shard + 1] - self.starts[shard]) * self.dtype.itemsize
            left = min(len(piece) - filled, size - offset)
            while left:
                read = self._files.read_into(path, piece[filled : filled + left], offset)
                if not read:
                    raise DataError(
                        f"{path}: ends after {offset} bytes instead of {size}. {made_again(path)}"
                    )
                filled += read
                offset += read
                left -= read
            shard += 1
            offset = 0


class RecordedFile(TypedDict):
    """What a run recorded of the content of a token file: size, and a checksum or an identity."""

    bytes: int
    """Size in bytes."""
    checksum: NotRequired[str]
    """xxh3 of 128 bits over all bytes, in hexadecimal."""
    identity: NotRequired[str]
    """Identity of a linked file; it changes when the file is replaced or written to."""


class TokenTypes(TypedDict):
    """The types of token ids."""

    dtypes: dict[str, str]
    """Source -> numpy's name for the type of the source's ids."""


class RecordedTokens(TypedDict):
    """The token files that a run reads, recorded at its start."""

    output: str
    """Hash of the content of all token files at that time."""
    counts: TokenTypes
    files: dict[str, RecordedFile]
    """Path relative to `data_dir/tokens` -> size, and checksum or identity, of the file; in the run's
    record its logical name, which does not change where the file is moved."""


def open_streams(
    tokens_dir: Path,
    sources: Sequence[str],
    split: str,
    files: OpenFiles | None = None,
    recorded: RecordedTokens | None = None,
) -> dict[str, TokenStream]:
    """Open each source's stream of a split (`train` or `validation`).

    The files are those of the tokens' manifest, by the table of its shards, or those in `recorded`,
    what a run recorded of it (`recorded_tokens.py`): the manifest may have more files now. Raises
    DataError where tokenize is not done.
    """
    streams: dict[str, TokenStream] = {}
    if recorded is None:
        table = read_shard_table(tokens_dir)
        for source in sources:
            paths = table.bin_files(tokens_dir, source, split)
            lengths: list[int] = table.of(source, split).tokens.tolist()
            dtype = np.dtype(table.dtypes[source])
            streams[source] = TokenStream(list(zip(paths, lengths, strict=True)), dtype, files)
        return streams

    names = bin_files_of(recorded["files"])
    for source in sources:
        dtype = np.dtype(recorded["counts"]["dtypes"][source])
        shards = [
            (tokens_dir / name, recorded["files"][name]["bytes"] // dtype.itemsize)
            for name in names.get((source, split), [])
        ]
        streams[source] = TokenStream(shards, dtype, files)
    return streams

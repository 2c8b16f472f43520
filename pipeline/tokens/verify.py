"""Files of data_dir against their manifests: a sample of every token file before training, every
byte when asked to.

The sampled check reads of a shard both sizes, the index's header and end, and 16 blocks of `.bin`
and of `.idx`: at most 35 reads, on a slow file system many shards at once. It finds what is
truncated, swapped, of another format or written over; a few wrong bytes between the blocks it does
not find. Nothing is written.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.logs import human_bytes, progress
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import file_record
from pipeline.store.layout import DataFolder, manifest_path
from pipeline.tokens import existing, existing_pairs
from pipeline.tokens.indexed_dataset import (
    DTYPE_OF_CODE,
    HEADER,
    MAGIC,
    PAIR,
    made_again,
    read_at,
    sample_checksum,
)

THREADS = 16
"""Shards looked at at once: they wait for the file system, not for a core."""
MOST_PROBLEMS = 20
"""The sampled check stops there: the rest is most likely wrong in the same way."""

Record = Mapping[str, Any]


def check_shard(tokens_dir: Path, name: str, manifest: Record) -> list[str]:
    """Look at a sample of the pair `<source>/<shard>`.

    Returns at most one line a file, the first thing that is wrong with it: path, found, expected,
    remedy.
    """
    data, index = (manifest["files"][f"{name}{suffix}"] for suffix in PAIR)
    dtype = np.dtype(manifest["counts"]["dtypes"][name.split("/")[0]])

    def index_problem(path: Path, record: Record) -> str | None:
        return _index_problem(path, dtype, data["bytes"], "link_to" in record) or _sample_problem(
            path, record
        )

    found = (
        _file_problem(tokens_dir, f"{name}.bin", data, _sample_problem),
        _file_problem(tokens_dir, f"{name}.idx", index, index_problem),
    )
    return [problem for problem in found if problem]


def check_sampled(
    tokens_dir: Path,
    sources: Sequence[str] | None = None,
    threads: int = THREADS,
    part: tuple[int, int] = (0, 1),
) -> list[str]:
    """Look at a sample of all shards of some sources, or of all, train and validation; returns
    `check_shard`'s lines.

    `part`: `(rank, ranks)`, of which the parts have no shard in common and all shards together.
    Ends at MOST_PROBLEMS.
    """
    manifest = read_manifest(manifest_path(tokens_dir))
    if manifest is None:
        raise DataError(f"{tokens_dir}: holds no finished tokens. Run `pipeline tokenize` first.")
    names = shard_names(manifest, sources)[part[0] :: part[1]]
    problems: list[str] = []
    pool = ThreadPoolExecutor(threads)
    try:
        for looked_at, found in enumerate(
            pool.map(partial(check_shard, tokens_dir, manifest=manifest), names), 1
        ):
            problems += found
            if len(problems) >= MOST_PROBLEMS and looked_at < len(names):
                left = f"{looked_at:,} of {len(names):,} shards were looked at"
                return [
                    *problems,
                    f"{tokens_dir}: {left}. `pipeline inspect --verify` looks at every file.",
                ]
    finally:
        pool.shutdown(cancel_futures=True)
    return problems


def shard_names(manifest: Record, sources: Sequence[str] | None = None) -> list[str]:
    """Return `<source>/<shard>` of all pairs in a manifest, or of some sources, sorted."""
    names = sorted(name.removesuffix(".bin") for name in manifest["files"] if name.endswith(".bin"))
    return [name for name in names if sources is None or name.split("/")[0] in sources]


class BackgroundCheck:
    """`check_sampled` in a thread, from construction on, beside whatever else a job does before its
    first step."""

    def __init__(
        self, tokens_dir: Path, sources: Sequence[str] | None = None, part: tuple[int, int] = (0, 1)
    ) -> None:
        self._problems: list[str] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._check, args=(tokens_dir, sources, part), daemon=True
        )
        self._thread.start()

    def finish(self) -> list[str]:
        """Wait for the check and return its problems; what went wrong in the thread is raised
        here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._problems

    def _check(
        self, tokens_dir: Path, sources: Sequence[str] | None, part: tuple[int, int]
    ) -> None:
        try:
            self._problems = check_sampled(tokens_dir, sources, part=part)
        except BaseException as error:  # raised where it is waited for
            self._error = error


@dataclass(frozen=True)
class FolderCheck:
    """What reading a stage's folder gave."""

    folder: Path
    files: int
    """Read in full, where they have their size."""
    bytes: int
    seconds: float
    links: int
    """Files of pairs that existed: only their identity and a sample were compared."""
    problems: tuple[str, ...]


def stage_folders(data_dir: Path) -> list[Path]:
    """Return the folders that `check_fully` looks at, each with its manifest."""
    data = DataFolder(data_dir)
    return [data.documents, data.tokenizer, data.tokens]


def check_fully(data_dir: Path, threads: int = THREADS) -> list[FolderCheck]:
    """Read every byte of the documents, the tokenizer and the tokens, of what is finished, with a
    progress bar.

    Raises DataError where nothing is.
    """
    manifests = {folder: read_manifest(manifest_path(folder)) for folder in stage_folders(data_dir)}
    finished = {folder: manifest for folder, manifest in manifests.items() if manifest is not None}
    if not finished:
        raise DataError(
            f"{data_dir}: holds nothing that is finished. Run `pipeline prepare` first."
        )
    records = [record for manifest in finished.values() for record in manifest["files"].values()]
    total = sum(record["bytes"] for record in records if "link_to" not in record)
    with progress("verify", total, "bytes") as update:
        add = _counter(update)
        return [
            _check_folder(folder, manifest, threads, add) for folder, manifest in finished.items()
        ]


def _check_folder(
    folder: Path, manifest: Record, threads: int, add: Callable[[int], None]
) -> FolderCheck:
    started = time.monotonic()
    files = sorted(
        (name, record) for name, record in manifest["files"].items() if "link_to" not in record
    )
    links = [name for name in manifest["files"] if "link_to" in manifest["files"][name]]
    pairs = [name.removesuffix(".bin") for name in sorted(links) if name.endswith(".bin")]

    def whole(item: tuple[str, Record]) -> str | None:
        name, record = item
        return _file_problem(folder, name, record, partial(_content_problem, add=add))

    with ThreadPoolExecutor(threads) as pool:
        problems = [problem for problem in pool.map(whole, files) if problem]
        problems += [
            p
            for found in pool.map(partial(check_shard, folder, manifest=manifest), pairs)
            for p in found
        ]
    size = sum(record["bytes"] for _, record in files)
    return FolderCheck(
        folder, len(files), size, time.monotonic() - started, len(links), tuple(problems)
    )


def _counter(update: Callable[[float, str], None]) -> Callable[[int], None]:
    """Return a function for any thread that adds bytes to a progress bar."""
    started = time.monotonic()
    lock = threading.Lock()
    done = 0

    def add(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            update(done, f"{human_bytes(done / max(time.monotonic() - started, 1e-3))}/s")

    return add


def _file_problem(
    folder: Path, name: str, record: Record, look: Callable[[Path, Record], str | None]
) -> str | None:
    """Return the line about a file that is missing, unreadable, of another size, or in which `look`
    finds something."""
    path = folder / name
    try:
        size = path.stat().st_size
        found = (
            f"has {size:,} bytes instead of {record['bytes']:,}"
            if size != record["bytes"]
            else look(path, record)
        )
    except FileNotFoundError:
        found = "is missing"
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
    if found:
        return f"{path}: {found}. {_remedy(folder, name, record)}"
    return None


def _content_problem(path: Path, record: Record, add: Callable[[int], None]) -> str | None:
    if file_record(path, add)["checksum"] != record["checksum"]:
        return "has other bytes than were written"
    return None


def _sample_problem(path: Path, record: Record) -> str | None:
    if "identity" in record and existing.identity(path.name, path) != record["identity"]:
        return "was changed or replaced since `pipeline tokenize` checked it"
    if sample_checksum(path) != record["samples"]:
        return "has the size, but not the bytes, of the file that `pipeline tokenize` left there"
    return None


def _index_problem(path: Path, dtype: np.dtype, data_bytes: int, is_link: bool) -> str | None:
    """Look at an index's header and at where its last sequence ends.

    Others' files may go on behind what the header counts, and their last sequence need not lie
    last.
    """
    # The header: format, version, type of the ids.
    with path.open("rb", buffering=0) as file:
        header = read_at(file.fileno(), HEADER.size, 0)
        magic, version, code, sequences, entries = HEADER.unpack(header.ljust(HEADER.size, b"\0"))
        if magic != MAGIC or version != 1:
            return "does not begin as a Megatron indexed dataset (version 1)"
        if code not in DTYPE_OF_CODE or np.dtype(DTYPE_OF_CODE[code]) != dtype:
            found = (
                np.dtype(DTYPE_OF_CODE[code]).name if code in DTYPE_OF_CODE else "none of token ids"
            )
            return f"holds ids of type {found} (code {code}) instead of {dtype.name}"

        # The size that the header's counts ask for.
        size = os.fstat(file.fileno()).st_size
        needed = HEADER.size + 12 * sequences + 8 * entries
        if size < needed or (size > needed and not is_link):
            return (
                f"counts {sequences:,} sequences and {entries:,} document entries, {needed:,} bytes, "
                f"and has {size:,}"
            )

        # Where the last sequence ends.
        end = 0
        if sequences:
            lengths = HEADER.size
            offsets = HEADER.size + 4 * sequences
            length = int.from_bytes(
                read_at(file.fileno(), 4, lengths + 4 * (sequences - 1)), "little"
            )
            end = int.from_bytes(read_at(file.fileno(), 8, offsets + 8 * (sequences - 1)), "little")
            end += length * dtype.itemsize
    if end > data_bytes or (end < data_bytes and not is_link):
        return f"has its last sequence end at byte {end:,} of a .bin of {data_bytes:,} bytes"
    return None


def _remedy(folder: Path, name: str, record: Record) -> str:
    """Say what makes a file right again: a finished stage looks at no file, a finished task at
    sizes only."""
    path = folder / name
    manifest = manifest_path(folder)
    if folder.name == "tokenizer":
        return (
            f"Restore it from a copy, or delete {manifest}, then run `pipeline train-tokenizer`: "
            "it makes all files of the "
            f"tokenizer again, the same ones if no text was added since."
        )
    if folder.name == "documents":
        delete = f"{path} and {manifest}" if os.path.lexists(path) else f"{manifest}"
        return f"Delete {delete}, then run `pipeline prepare`: it reads the raw files of that shard again."
    if "link_to" not in record or not path.is_symlink():
        return made_again(path)
    source = name.split("/")[0]
    split = name.split("/")[1].split("_")[0]
    restore = (
        f"It is a link to {record['link_to']}: restore that (`cp -p` keeps its time of change), or"
    )
    if not path.exists():
        return f"{restore} take it out of sources.{source}.{existing_pairs.FIELDS[split]} and run `pipeline tokenize`."
    return f"{restore} delete {path} and {manifest}, then run `pipeline tokenize`, to train on it as it is."

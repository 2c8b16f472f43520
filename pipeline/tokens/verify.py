"""Compare the files of data_dir with their manifests.

Before training, a sample of every token file is compared; when asked to, every byte. The sampled
check reads both sizes of a shard, the index's header and end, and 16 blocks of `.bin` and of
`.idx`: at most 35 reads, for many shards at once. It finds files that are missing, truncated, swapped, of
another format or written over, but not a few wrong bytes between the blocks. Writes nothing.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.logs import human_bytes, progress
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import Counts, TokenizeCounts
from pipeline.store.curation.annotation_folder import AnnotationFolder
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.files import file_record
from pipeline.store.layout import DataFolder, manifest_path
from pipeline.store.manifests.shard_places import source_of, stem_of
from pipeline.store.records import ListedFile, Manifest, content_of
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
"""Shards that are checked at once: they wait for the file system, not for a core."""
MADE_AGAIN = {
    "documents": ("prepare", "it reads the raw files of that shard again"),
    "annotations": ("annotate", "it describes the documents of that shard again"),
    "selection": ("select", "it judges all documents again, with the same verdicts"),
}
"""Folder -> the stage that makes a file of it again once that is deleted, and how."""
MOST_PROBLEMS = 20
"""Problems after which the sampled check ends: the rest is most likely wrong in the same way."""


def check_shard(tokens_dir: Path, name: str, manifest: Manifest[TokenizeCounts]) -> list[str]:
    """Check a sample of the pair `<source>/<shard>`.

    Returns at most one line for each file, about the first thing that is wrong with it: path, what
    was found, what was expected, remedy.
    """
    data, index = (manifest["files"][f"{name}{suffix}"] for suffix in PAIR)
    dtype = np.dtype(manifest["counts"]["dtypes"][source_of(name)])

    def index_problem(path: Path, record: ListedFile) -> str | None:
        problem = _index_problem(path, dtype, data["bytes"], "link_to" in record)
        return problem or _sample_problem(path, record)

    problems = (
        _file_problem(tokens_dir, f"{name}.bin", data, _sample_problem),
        _file_problem(tokens_dir, f"{name}.idx", index, index_problem),
    )
    return [problem for problem in problems if problem]


def check_sampled(
    tokens_dir: Path,
    sources: Sequence[str] | None = None,
    threads: int = THREADS,
    part: tuple[int, int] = (0, 1),
) -> list[str]:
    """Check a sample of all shards of all sources, or of some; return the lines of `check_shard`.

    `part`: `(rank, ranks)`; the parts of all ranks have no shard in common, and cover all shards.
    Ends at MOST_PROBLEMS. Raises DataError where `tokenize` has not finished.
    """
    manifest: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens_dir))
    if manifest is None:
        raise DataError(f"{tokens_dir}: holds no finished tokens. Run `pipeline tokenize` first.")
    names = shard_names(manifest, sources)[part[0] :: part[1]]
    problems: list[str] = []
    pool = ThreadPoolExecutor(threads)
    try:
        of_shards = pool.map(partial(check_shard, tokens_dir, manifest=manifest), names)
        for checked, of_shard in enumerate(of_shards, 1):
            problems += of_shard
            if len(problems) >= MOST_PROBLEMS and checked < len(names):
                return [
                    *problems,
                    f"{tokens_dir}: {checked:,} of {len(names):,} shards were looked at. "
                    "`pipeline inspect --verify` looks at every file.",
                ]
    finally:
        pool.shutdown(cancel_futures=True)
    return problems


def shard_names(
    manifest: Manifest[TokenizeCounts], sources: Sequence[str] | None = None
) -> list[str]:
    """Return `<source>/<shard>` of all pairs in a manifest, or of those of some sources, sorted."""
    names = sorted(name.removesuffix(".bin") for name in manifest["files"] if name.endswith(".bin"))
    return [name for name in names if sources is None or source_of(name) in sources]


class BackgroundCheck:
    """`check_sampled` in a thread that starts at once, while a job prepares its first step."""

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
        """Wait for the check and return its problems; raise the error that ended it, if any."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._problems

    def _check(
        self, tokens_dir: Path, sources: Sequence[str] | None, part: tuple[int, int]
    ) -> None:
        try:
            self._problems = check_sampled(tokens_dir, sources, part=part)
        except BaseException as error:  # raised by `finish`
            self._error = error


@dataclass(frozen=True)
class FolderCheck:
    """Result of comparing a stage's folder with its manifest."""

    folder: Path
    files: int
    """Files that were read in full, or had another size."""
    bytes: int
    """Size of these files in the manifest."""
    seconds: float
    links: int
    """Files of pairs that existed already: only their identity and a sample were compared."""
    problems: tuple[str, ...]
    """Lines of path, what was found, and the remedy."""


def stage_folders(data_dir: Path) -> list[Path]:
    """Return the folders that `check_fully` compares with their manifests.

    Those of annotations and verdicts only where they exist: a run file need not ask for them.
    """
    data = DataFolder(data_dir)
    curation = (AnnotationFolder(data_dir).path, SelectionFolder(data_dir).path)
    asked = [folder for folder in curation if folder.exists()]
    return [data.documents, *asked, data.tokenizer, data.tokens]


def check_fully(data_dir: Path, threads: int = THREADS) -> list[FolderCheck]:
    """Compare every byte of what stages have finished in data_dir, with a progress bar.

    Raises DataError where no stage has finished.
    """
    finished: dict[Path, Manifest[Counts]] = {}
    for folder in stage_folders(data_dir):
        manifest = read_manifest(manifest_path(folder))
        if manifest is not None:
            finished[folder] = manifest
    if not finished:
        raise DataError(
            f"{data_dir}: holds nothing that is finished. Run `pipeline prepare` first."
        )
    records = [record for manifest in finished.values() for record in manifest["files"].values()]
    total = sum(record["bytes"] for record in records if "link_to" not in record)
    with progress("verify", total, "bytes") as update:
        add = _counter(update)
        return [
            _check_folder(folder, manifest["files"], threads, add)
            for folder, manifest in finished.items()
        ]


def _check_folder(
    folder: Path, files: Mapping[str, ListedFile], threads: int, add: Callable[[int], None]
) -> FolderCheck:
    """Compare one folder with its manifest. `add`: gets the bytes of each block that is read."""
    # Files of the stage itself are read in full.
    started = time.monotonic()
    own = {name: files[name] for name in sorted(files) if "link_to" not in files[name]}
    look = partial(_content_problem, add=add)

    def own_problem(name: str) -> str | None:
        return _file_problem(folder, name, own[name], look)

    with ThreadPoolExecutor(threads) as pool:
        problems = [problem for problem in pool.map(own_problem, own) if problem]

    # Pairs that existed already have no checksum of all their bytes.
    links = sorted(files.keys() - own.keys())
    pairs = [name.removesuffix(".bin") for name in links if name.endswith(".bin")]
    if pairs:
        problems += _check_pairs(folder, pairs, threads)
    size = sum(record["bytes"] for record in own.values())
    seconds = time.monotonic() - started
    return FolderCheck(folder, len(own), size, seconds, len(links), tuple(problems))


def _check_pairs(tokens_dir: Path, names: Sequence[str], threads: int) -> list[str]:
    """Check a sample of some pairs."""
    manifest: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens_dir))
    assert manifest is not None, "the names are from this manifest"
    with ThreadPoolExecutor(threads) as pool:
        of_pairs = pool.map(partial(check_shard, tokens_dir, manifest=manifest), names)
        return [*chain.from_iterable(of_pairs)]


def _counter(update: Callable[[float, str], None]) -> Callable[[int], None]:
    """Return a function that adds bytes to a progress bar; any thread may call it."""
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
    folder: Path, name: str, record: ListedFile, look: Callable[[Path, ListedFile], str | None]
) -> str | None:
    """Return the line about a file that differs from its record; None where it does not.

    `look`: returns what is wrong with the content of a file that has its size.
    """
    path = folder / name
    try:
        size = path.stat().st_size
        if size == record["bytes"]:
            problem = look(path, record)
        else:
            problem = f"has {size:,} bytes instead of {record['bytes']:,}"
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is None:
        return None
    return f"{path}: {problem}. {_remedy(folder, name, record)}"


def _content_problem(path: Path, record: ListedFile, add: Callable[[int], None]) -> str | None:
    """Read the whole file. `add`: gets the bytes of each block that is read."""
    if file_record(path, add)["checksum"] != content_of(record):
        return "has content that differs from what was written"
    return None


def _sample_problem(path: Path, record: ListedFile) -> str | None:
    """Compare the identity of a linked file, and blocks of any token file."""
    if "identity" in record and existing.link_identity(path.name, path) != record["identity"]:
        return "was changed or replaced since `pipeline tokenize` checked it"
    if sample_checksum(path) != record.get("samples"):
        return "has the size, but not the bytes, of the file that `pipeline tokenize` left there"
    return None


def _index_problem(path: Path, dtype: np.dtype, data_bytes: int, is_link: bool) -> str | None:
    """Check an index's header and where its last sequence ends; return the problem, or None.

    `is_link`: whether the files are linked, made by another program. Then the index may be longer
    than the counts in its header require, and `.bin` may go on after the last sequence.
    """
    # The header: format, version, type of the ids.
    with path.open("rb", buffering=0) as file:
        header = read_at(file.fileno(), HEADER.size, 0)
        magic, version, code, sequences, entries = HEADER.unpack(header.ljust(HEADER.size, b"\0"))
        if magic != MAGIC or version != 1:
            return "does not begin as a Megatron indexed dataset (version 1)"
        if code not in DTYPE_OF_CODE or np.dtype(DTYPE_OF_CODE[code]) != dtype:
            name = "unknown"
            if code in DTYPE_OF_CODE:
                name = np.dtype(DTYPE_OF_CODE[code]).name
            return f"holds ids of type {name} (code {code}) instead of {dtype.name}"

        # The size that the header's counts ask for.
        size = os.fstat(file.fileno()).st_size
        needed = HEADER.size + 12 * sequences + 8 * entries
        if size < needed or (size > needed and not is_link):
            return (
                f"counts {sequences:,} sequences and {entries:,} document entries, {needed:,} "
                f"bytes, and has {size:,}"
            )

        # Where the last sequence ends.
        end = 0
        if sequences:
            last_length = HEADER.size + 4 * (sequences - 1)
            last_offset = HEADER.size + 4 * sequences + 8 * (sequences - 1)
            length = int.from_bytes(read_at(file.fileno(), 4, last_length), "little")
            offset = int.from_bytes(read_at(file.fileno(), 8, last_offset), "little")
            end = offset + length * dtype.itemsize
    if end > data_bytes or (end < data_bytes and not is_link):
        return f"has its last sequence end at byte {end:,} of a .bin of {data_bytes:,} bytes"
    return None


def _remedy(folder: Path, name: str, record: ListedFile) -> str:
    """Return how to repair a file.

    A manifest has to be deleted, too: a finished stage checks no file, a finished task only sizes.
    """
    # Files that a stage writes are made again.
    path = folder / name
    manifest = manifest_path(folder)
    if folder.name == "tokenizer":
        return (
            f"Restore it from a copy, or delete {manifest}, then run `pipeline train-tokenizer`: "
            "it makes all files of the tokenizer again, the same ones if no text was added since."
        )
    if folder.name in MADE_AGAIN:
        delete = f"{manifest}"
        if os.path.lexists(path):
            delete = f"{path} and {manifest}"
        stage, how = MADE_AGAIN[folder.name]
        return f"Delete {delete}, then run `pipeline {stage}`: {how}."
    if "link_to" not in record or not path.is_symlink():
        return made_again(path)

    # A linked file belongs to the user: only its owner can restore it.
    split = stem_of(name).partition("_")[0]
    setting = f"sources.{source_of(name)}.{existing_pairs.FIELDS[split]}"
    restore = (
        f"It is a link to {record['link_to']}: restore that (`cp -p` keeps its time of change), or"
    )
    if not path.exists():
        return f"{restore} remove it from {setting} and run `pipeline tokenize`."
    return (
        f"{restore} delete {path} and {manifest}, then run `pipeline tokenize`, to train on it as "
        "it is."
    )

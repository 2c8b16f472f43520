"""The raw files of each source: found, named, fingerprinted, grouped into tasks. Reads folders, no file's content."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import fingerprint
from pipeline.config import RunConfig
from pipeline.corpus.local_machine import GATHERER_VERSION
from pipeline.errors import DataError

FOLDER_SUFFIXES = {
    "jsonl": tuple(
        f"{form}{packed}" for form in (".jsonl", ".json", ".ndjson") for packed in ("", ".gz", ".zst", ".zstd")
    ),
    "parquet": (".parquet",),
    "text": ("",),
}
"""What is taken from a folder that is searched; a file that is named, or matched by a glob, is taken anyway."""
GROUP_BYTES = 64 * 2**20
"""Neighbouring files are read by one task up to this many raw bytes: RedPajama has thousands of tiny files."""
GROUP_FILES = 1000


@dataclass(frozen=True)
class InputFile:
    """A raw file; its name does not depend on where the corpus lies."""

    path: Path
    name: str
    size: int
    modified_ns: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What changes when the file does; its content, possibly terabytes, is not read for it."""
        return self.name, self.size, self.modified_ns


def find_files(source: str, kind: str, paths: Sequence[Path]) -> list[InputFile]:
    """Expand files, globs and folders to files sorted by path; raises DataError naming each path that gives none."""
    found: list[Path] = []
    problems = []
    for path in paths:
        # An absolute pattern has no folder for Path.glob to start from.
        matches = [path] if path.exists() else [Path(m) for m in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        try:
            files = [file for match in matches for file in (_walk(match, kind) if match.is_dir() else [match])]
        except OSError as error:
            problems.append(
                f"sources.{source}.paths: {error.filename} cannot be read: {error.strerror}. Correct its permissions."
            )
            continue
        if not files:
            what = (
                f"holds no file named {' or '.join(f'*{s}' for s in FOLDER_SUFFIXES[kind])}"
                if matches
                else "does not exist"
            )
            if glob.has_magic(str(path)) and not matches:
                what = "matches no file"
            problems.append(
                f"sources.{source}.paths: {path} {what}. Correct the path in the run file, or put the text there."
            )
        found += files
    if problems:
        raise DataError("\n".join(problems))
    once = {path.resolve(): path for path in sorted(found, reverse=True)}  # a link may lead to a file a second time
    return _described(source, sorted(once.values()))


def input_files(config: RunConfig) -> dict[str, list[InputFile]]:
    """Return the files of each source that names paths; raises one DataError with all that is missing."""
    files: dict[str, list[InputFile]] = {}
    problems = []
    for name, source in config.sources.items():
        if source.kind == "local-machine":
            continue
        try:
            files[name] = find_files(name, source.kind, source.paths)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return files


def inventory(config: RunConfig) -> dict[str, Any]:
    """Describe what `prepare` reads from outside, for its fingerprint; raises DataError for missing files.

    The text of `local-machine` is gathered once and then kept: installing a package makes no corpus stale.
    """
    described = {
        f"files of {name}": fingerprint([file.identity for file in files])
        for name, files in input_files(config).items()
    }
    gathered = {
        f"files of {name}": f"gathered by version {GATHERER_VERSION}"
        for name, source in config.sources.items()
        if source.kind == "local-machine"
    }
    return described | gathered


def group_files(files: Sequence[InputFile]) -> Iterator[list[InputFile]]:
    """Yield neighbouring files together, up to `GROUP_BYTES` and `GROUP_FILES`; a larger file stays alone."""
    group: list[InputFile] = []
    size = 0
    for file in files:
        if group and (size + file.size > GROUP_BYTES or len(group) == GROUP_FILES):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _walk(folder: Path, kind: str) -> Iterator[Path]:
    """Yield the files below a folder, through links, each folder once; hidden ones are no data."""

    def stop(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and name.lower().endswith(FOLDER_SUFFIXES[kind]):
                yield Path(root) / name


def _described(source: str, paths: Sequence[Path]) -> list[InputFile]:
    parent = Path(os.path.commonpath([path.parent for path in paths]))
    files = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            message = f"sources.{source}.paths: {path} cannot be read: {error.strerror}. Restore the file or remove it."
            raise DataError(message) from None
        files.append(InputFile(path, path.relative_to(parent).as_posix(), status.st_size, status.st_mtime_ns))
    return files

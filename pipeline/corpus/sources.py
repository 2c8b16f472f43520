"""The raw files of each source: found, named, fingerprinted. Reads folders, no file's content."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import fingerprint
from pipeline.config import RunConfig
from pipeline.corpus.local_machine import GATHERER_VERSION
from pipeline.corpus.raw_files import COMPRESSIONS
from pipeline.errors import DataError

FOLDER_SUFFIXES = {
    "jsonl": tuple(f"{form}{packed}" for form in (".jsonl", ".json", ".ndjson") for packed in ("", *COMPRESSIONS)),
    "parquet": (".parquet",),
    "text": ("",),
}
"""What is taken from a folder that is searched; a file that is named, or matched by a glob, is taken anyway."""


@dataclass(frozen=True)
class InputFile:
    """A raw file."""

    path: Path
    name: str
    """Relative to the entry of `paths` that gave it: a folder's files begin with the folder's own name, a named file has
    its bare name, a glob's files are relative to its deepest folder without a magic character. So it depends neither
    on where the corpus lies nor on what other files there are."""
    size: int
    modified_ns: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What changes when the file does; its content, possibly terabytes, is not read for it."""
        return self.name, self.size, self.modified_ns


def find_files(source: str, kind: str, paths: Sequence[Path]) -> list[InputFile]:
    """Expand files, globs and folders to files sorted by name, each file once.

    A file that several entries give has its name from the first of them; one that an entry gives twice, through links,
    the first of its names. Raises DataError naming each entry that gives nothing, and each name of two files.
    """
    files: dict[Path, tuple[str, Path]] = {}  # by path without links
    problems = []
    for entry in paths:
        try:
            found = sorted(_expand(entry, kind))
        except OSError as error:
            problems.append(
                f"sources.{source}.paths: {error.filename} cannot be read: {error.strerror}. Correct its permissions."
            )
            continue
        if not found:
            problems.append(f"sources.{source}.paths: {_why_nothing(entry, kind)}")
        for name, path in found:
            files.setdefault(path.resolve(), (name, path))
    problems += _same_names(source, files.values())
    if problems:
        raise DataError("\n".join(problems))
    return [_described(source, path, name) for name, path in sorted(files.values())]


def input_files(config: RunConfig) -> dict[str, list[InputFile]]:
    """Return the files of each source that names paths; raises one DataError with all that is missing."""
    files: dict[str, list[InputFile]] = {}
    problems = []
    for name, source in config.sources.items():
        if source.kind == "local-machine" or not source.has_documents:
            continue
        try:
            files[name] = find_files(name, source.kind, source.paths)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return files


def inventory(config: RunConfig) -> dict[str, Any]:
    """Describe what `prepare` reads from outside, for its fingerprint.

    None for a source whose paths are all gone; where only some are, or files clash, what is wrong: so a mistyped path
    beside a good one makes the stage stale, and running it tells. The text of `local-machine` is gathered once and
    then kept: installing a package makes no corpus stale.
    """
    described: dict[str, Any] = {}
    for name, source in config.sources.items():
        if source.kind == "local-machine":
            described[f"files of {name}"] = f"gathered by version {GATHERER_VERSION}"
        elif source.has_documents:
            described[f"files of {name}"] = _identity_of(name, source.kind, source.paths)
    return described


def _identity_of(name: str, kind: str, paths: Sequence[Path]) -> str | None:
    try:
        return fingerprint([file.identity for file in find_files(name, kind, paths)])
    except DataError as error:
        return str(error) if any(_has_files(path, kind) for path in paths) else None


def _has_files(path: Path, kind: str) -> bool:
    try:
        return next(_expand(path, kind), None) is not None
    except OSError:  # something is there, and cannot be read
        return True


def _expand(entry: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """Yield `(name, path)` of the files of an entry of `paths`."""
    base, matches = entry.parent, [entry]
    if not entry.exists():
        # An absolute pattern has no folder for Path.glob to start from.
        matches = [Path(match) for match in glob.glob(str(entry), recursive=True)]  # noqa: PTH207
        while glob.has_magic(str(base)):
            base = base.parent
    for match in matches:
        for path in walk_files(match, FOLDER_SUFFIXES[kind]) if match.is_dir() else [match]:
            # Names of files are bytes, those of documents' origins text; what is no UTF-8 is shown escaped.
            yield os.fsencode(path.relative_to(base)).decode(errors="backslashreplace"), path


def _why_nothing(entry: Path, kind: str) -> str:
    what = "matches no file" if glob.has_magic(str(entry)) else "does not exist"
    if entry.is_dir():
        what = f"holds no file named {' or '.join(f'*{suffix}' for suffix in FOLDER_SUFFIXES[kind])}"
    return f"{entry} {what}. Correct the path in the run file, or put the text there."


def _same_names(source: str, files: Iterable[tuple[str, Path]]) -> list[str]:
    """Describe the first two files that have one name, if any; there may be as many as files."""
    first: dict[str, Path] = {}
    clashes = [(name, before, path) for name, path in files if (before := first.setdefault(name, path)) is not path]
    if not clashes:
        return []
    name, before, path = clashes[0]
    more = f" ({len(clashes) - 1} more such pairs)" if len(clashes) > 1 else ""
    return [
        f"sources.{source}.paths: {before} and {path} would both be named {name}{more}, by which documents are "
        f"told apart. Make them two sources, or name their common parent folder {os.path.commonpath([before, path])}."
    ]


def walk_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder whose names end so in either case, through links, each folder once.

    Hidden ones are no data. Raises OSError for a folder that cannot be read.
    """

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
            if not name.startswith(".") and name.lower().endswith(suffixes):
                yield Path(root) / name


def _described(source: str, path: Path, name: str) -> InputFile:
    try:
        status = path.stat()
    except OSError as error:
        message = f"sources.{source}.paths: {path} cannot be read: {error.strerror}. Restore the file or remove it."
        raise DataError(message) from None
    return InputFile(path, name, status.st_size, status.st_mtime_ns)

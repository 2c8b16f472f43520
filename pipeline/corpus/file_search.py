"""The raw files that the paths of a source give: found, named, told apart. Reads folders, no file's
content."""

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import layouts
from pipeline.corpus.folders import (
    Entry,
    count_left_out,
    counts_in_words,
    expand_pattern,
    search_folder,
)
from pipeline.corpus.raw_files import COMPRESSIONS, kind_of_file
from pipeline.errors import DataError


@dataclass(frozen=True)
class InputFile:
    """A raw file."""

    path: Path
    name: str
    """Relative to the entry of `paths` that gave it: a folder's files begin with the folder's own
    name, a named file has its bare name, a glob's files are relative to its deepest folder without
    a magic character. So it depends neither on where the corpus lies nor on what other files there
    are."""
    size: int
    modified_ns: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What changes when the file does; its content, possibly terabytes, is not read for it."""
        return self.name, self.size, self.modified_ns


@dataclass(frozen=True)
class SourceFiles:
    """What the paths of a source hold."""

    files: list[InputFile]
    """Sorted by name."""
    left_out: list[Entry]
    """What a folder that was searched holds besides."""
    held_out: list[Path]
    """Those of `files` that folders or globs gave, and whose names say that others hold them
    out."""


NO_FILES = SourceFiles([], [], [])


@dataclass(frozen=True)
class _Named:
    """A file as an entry of `paths` gives it."""

    name: str
    path: Path
    below: Path | None
    """Where it lies below the folder that was searched, or where a glob begins; None where the
    entry is the file."""


def search_files(
    source: str,
    suffixes: Sequence[str],
    paths: Sequence[Path],
    own: Sequence[Path] = (),
    names_splits: bool = True,
) -> SourceFiles:
    """Expand files, globs and folders to files sorted by name, each file once; nothing below the
    folders `own`. From a folder files with one of the suffixes are taken.

    A file that several entries give has its name from the first of them; one that an entry gives
    twice, through links, the first of its names. Raises DataError naming each entry that gives
    nothing, each name of two files, each file that stands there twice (plain and compressed), what
    is no file, and trees whose other folders hold no documents.
    """
    files: dict[str, _Named] = {}  # by path without links
    left_out: dict[Path, Entry] = {}
    problems = []
    for entry in paths:
        try:
            named, others = _expand(entry, suffixes, own)
        except OSError as error:
            problems.append(
                f"sources.{source}.paths: {error.filename} cannot be read: {error.strerror}. "
                "Correct its permissions."
            )
            continue
        if not named:
            problems.append(f"sources.{source}.paths: {_why_nothing(entry, suffixes, others)}")
        for file in sorted(named, key=lambda file: file.name):
            files.setdefault(os.path.realpath(file.path), file)
        left_out |= {other.path: other for other in others}
    found = list(files.values())
    problems += _same_names(source, found)
    problems += _same_content(source, found)
    searched = [(file.path, file.below) for file in found if file.below is not None]
    problems += layouts.side_folder_problems(source, searched)
    if problems:
        raise DataError("\n".join(problems))
    held_out = layouts.held_out_files(searched) if names_splits else []
    return SourceFiles(_described(source, found), list(left_out.values()), held_out)


def has_files(path: Path, suffixes: Sequence[str], own: Sequence[Path]) -> bool:
    """Tell whether an entry of `paths` gives a file."""
    try:
        return bool(_expand(path, suffixes, own)[0])
    except OSError:  # something is there, and cannot be read
        return True


def _expand(
    entry: Path, suffixes: Sequence[str], own: Sequence[Path]
) -> tuple[list[_Named], list[Entry]]:
    """Return the files of an entry of `paths`, and what a folder that is searched for it holds
    besides."""
    base, matches = expand_pattern(entry)
    others_folders = [folder for folder in own if not base.is_relative_to(folder)]
    files = []
    left_out = []
    for match in matches:
        if match != entry and any(match.is_relative_to(folder) for folder in others_folders):
            continue
        found = (
            search_folder(match, tuple(suffixes), others_folders)
            if match.is_dir()
            else [Entry(match)]
        )
        for item in found:
            if item.left_out is not None:
                left_out.append(item)
                continue
            # Names of files are bytes, those of documents' origins text; what is no UTF-8 is shown
            # escaped.
            name = os.fsencode(item.path.relative_to(base)).decode(errors="backslashreplace")
            below = (
                None
                if item.path == entry
                else item.path.relative_to(entry if match == entry else base)
            )
            files.append(_Named(name, item.path, below))
    return files, left_out


def _why_nothing(entry: Path, suffixes: Sequence[str], left_out: Sequence[Entry]) -> str:
    base, _ = expand_pattern(entry)
    what = "matches no file" if glob.has_magic(str(entry.relative_to(base))) else "does not exist"
    if entry.is_dir():
        names = " or ".join(f"*{suffix}" for suffix in suffixes)
        what = f"holds no file named {names}"
    beside = f" ({counts_in_words(count_left_out(left_out))} there)" if left_out else ""
    return f"{entry} {what}{beside}. Correct the path in the run file, or put the text there."


def _same_names(source: str, files: Iterable[_Named]) -> list[str]:
    """Describe the first two files that have one name, if any; there may be as many as files."""
    first: dict[str, Path] = {}
    clashes = []
    for file in files:
        before = first.setdefault(file.name, file.path)
        if before is not file.path:
            clashes.append((file.name, before, file.path))
    if not clashes:
        return []
    name, before, path = clashes[0]
    more = f" ({len(clashes) - 1} more such pairs)" if len(clashes) > 1 else ""
    return [
        f"sources.{source}.paths: {before} and {path} would both be named {name}{more}, by which "
        "documents are "
        "told apart. Make them two sources, or name their common parent folder "
        f"{os.path.commonpath([before, path])}."
    ]


def _same_content(source: str, files: Iterable[_Named]) -> list[str]:
    """Describe the first file that lies there plain and compressed, or compressed twice: its text
    would be doubled."""
    first: dict[tuple[Path, str], Path] = {}
    clashes = []
    for file in files:
        name = file.path.name.lower()
        suffix = Path(name).suffix
        key = file.path.parent, name.removesuffix(suffix) if suffix in COMPRESSIONS else name
        before = first.setdefault(key, file.path)
        if before is not file.path and before.name.lower() != name:
            clashes.append((before, file.path))
    if not clashes:
        return []
    before, path = clashes[0]
    more = f" ({len(clashes) - 1} more such pairs)" if len(clashes) > 1 else ""
    return [
        f"sources.{source}.paths: {before} and {path} lie beside each other{more}, one text in two "
        "forms, and would be "
        "read twice. Remove or move one of them, rename it if its text is another, or let a glob "
        "match one form only."
    ]


def _described(source: str, files: Sequence[_Named]) -> list[InputFile]:
    described = []
    problems = []
    for file in sorted(files, key=lambda file: (file.name, file.path)):
        try:
            status = file.path.stat()
        except OSError as error:
            problems.append(
                f"{file.path} cannot be read: {error.strerror}. Restore the file or remove it."
            )
            continue
        if stat.S_ISREG(status.st_mode):
            described.append(InputFile(file.path, file.name, status.st_size, status.st_mtime_ns))
        else:
            problems.append(
                f"{file.path} is {kind_of_file(status.st_mode)}. Write its content into a file."
            )
    if problems:
        raise DataError("\n".join(f"sources.{source}.paths: {problem}" for problem in problems))
    return described

"""The search of folders for the raw files of a source: what it takes, and what it leaves out.

Reads the names and types of files; opens no file.
"""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.urls import RawPath
from pipeline.corpus.raw_files import kind_of_file

UNFINISHED_SUFFIXES = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".incomplete",
    ".aria2",
    ".tmp",
)
"""Suffixes that download programs give to files which are not complete yet."""
SUFFIX = re.compile(r"\.[a-z0-9_+-]{1,12}")
"""A suffix under which files that are left out are counted."""
HIDDEN = "hidden"
OWN = "written by the pipeline"
OTHER_NAMES = "other names"


@dataclass(frozen=True)
class Entry:
    """A file or folder that a search met."""

    path: RawPath
    left_out: str | None = None
    """None for an entry that is taken; else the label it is counted under: its suffix, `hidden`,
    `a FIFO`, ..."""

    @property
    def is_special(self) -> bool:
        """Whether the entry is a FIFO, socket or device: perhaps meant as text, but never opened."""
        return self.left_out is not None and self.left_out.startswith("a ")


def search_folder(
    folder: Path, suffixes: tuple[str, ...], own: Sequence[Path] = ()
) -> Iterator[Entry]:
    """Yield the entries below a folder, through links, each folder once.

    Takes files whose names end with one of `suffixes`, in either case. Leaves out hidden files and
    folders, unfinished downloads, what is not a regular file, and the folders `own`, which the
    pipeline itself writes. A broken link is taken, so that opening it reports it. Raises OSError
    for a folder that cannot be read.
    """
    # Folders are compared by device and inode: links may give one folder several paths.
    own_folders = {_identity(path) for path in own if path.is_dir()} - {_identity(folder)}
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        root = waiting.pop()
        identity = _identity(root)
        if identity in own_folders:
            yield Entry(root, OWN)
        if identity in seen or identity in own_folders:
            continue
        seen.add(identity)
        # Sorted, so that the same tree gives the same order on every file system.
        with os.scandir(root) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        folders: list[Path] = []
        for entry in entries:
            if entry.name.startswith("."):
                yield Entry(root / entry.name, HIDDEN)
            elif _is_folder(entry):
                folders.append(root / entry.name)
            else:
                yield Entry(root / entry.name, _why_left_out(entry, suffixes))
        # Popped from the end: reversed, the folders are searched in the order of their names.
        waiting += reversed(folders)


def count_left_out(entries: Iterable[Entry]) -> dict[str, int]:
    """Count the entries that were left out by their labels, the most frequent first."""
    counted = Counter(entry.left_out for entry in entries if entry.left_out is not None)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Return counts in words, for example `3 .part, 1 hidden`."""
    return ", ".join(f"{count:,} {what.removeprefix('a ')}" for what, count in counts.items())


def walk_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder that `search_folder` takes."""
    for entry in search_folder(folder, suffixes):
        if entry.left_out is None:
            assert isinstance(entry.path, Path), "a folder holds no URLs"
            yield entry.path


def expand_pattern(pattern: Path) -> tuple[Path, list[Path]]:
    """Return the folder where a pattern begins, and the paths that it matches.

    A path that exists is not a pattern. As much of the path as exists is taken literally, so that
    a pattern can match files in a folder named `d[1]`.
    """
    if os.path.lexists(pattern):
        return pattern.parent, [pattern]
    base = pattern.parent
    while not base.is_dir():
        base = base.parent
    matches = glob.glob(str(pattern.relative_to(base)), root_dir=base, recursive=True)  # noqa: PTH207
    return base, [base / match for match in matches]


def _why_left_out(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> str | None:
    """Return the label under which an entry is left out; None for an entry that is taken."""
    return _special_kind(entry) or why_name_left_out([entry.name], suffixes)


def why_name_left_out(parts: Sequence[str], suffixes: tuple[str, ...]) -> str | None:
    """Return the label under which a file is left out because of its name; None if it is taken.

    `parts`: the names of folders below the searched one, and of the file.
    """
    if any(part.startswith(".") for part in parts):
        return HIDDEN
    name = parts[-1].lower()
    if name.endswith(suffixes) and not name.endswith(UNFINISHED_SUFFIXES):
        return None
    suffix = Path(name).suffix
    if SUFFIX.fullmatch(suffix):
        return suffix
    return OTHER_NAMES


def _special_kind(entry: os.DirEntry[str]) -> str | None:
    """Return the kind of an entry that is not a regular file; None for a file or a broken link."""
    try:
        # The folder's own listing answers this for all but links, without a call for each file.
        if entry.is_file():
            return None
        mode = entry.stat().st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):
        return None
    return kind_of_file(mode)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino

"""Folders, searched for the raw files of a source: what is taken, and what is left out as what.

Reads the names and kinds of files, and opens none.
"""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
"""What programs that download end the names of files with until they are whole."""
SUFFIX = re.compile(r"\.[a-z0-9_+-]{1,12}")
HIDDEN = "hidden"
OWN = "written by the pipeline"


@dataclass(frozen=True)
class Entry:
    """What a search found in a folder."""

    path: Path
    left_out: str | None = None
    """None where it is taken, else as what it is counted: its suffix, `hidden`, `a FIFO`, ..."""

    @property
    def is_special(self) -> bool:
        """Whether it may be meant as text, and cannot be read as a file."""
        return self.left_out is not None and self.left_out.startswith("a ")


def search_folder(
    folder: Path, suffixes: tuple[str, ...], own: Sequence[Path] = ()
) -> Iterator[Entry]:
    """Yield what is below a folder, through links, each folder once; taken are files whose names
    end so in either case.

    Left out are hidden files and folders, unfinished downloads, what is no file, and the folders
    `own`, which the pipeline itself writes. A link to nothing is taken, so that it is missed.
    Raises OSError for a folder that cannot be read.
    """
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
        with os.scandir(root) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                yield Entry(root / entry.name, HIDDEN)
            elif _is_folder(entry):
                folders.append(root / entry.name)
            else:
                yield Entry(root / entry.name, _why_left_out(entry, suffixes))
        waiting += reversed(folders)


def count_left_out(entries: Iterable[Entry]) -> dict[str, int]:
    """Count what was left out by what it is, the most frequent first."""
    counted = Counter(entry.left_out for entry in entries if entry.left_out is not None)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Return counts by what was counted in words, for example `3 .part, 1 hidden`."""
    return ", ".join(f"{count:,} {what.removeprefix('a ')}" for what, count in counts.items())


def walk_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder that `search_folder` takes."""
    return (entry.path for entry in search_folder(folder, suffixes) if entry.left_out is None)


def expand_pattern(pattern: Path) -> tuple[Path, list[Path]]:
    """Return the folder where a pattern begins and what it matches; a path that exists is no
    pattern.

    As much of it as exists is taken literally, so that a folder named `d[1]` can hold what a
    pattern matches.
    """
    if os.path.lexists(pattern):
        return pattern.parent, [pattern]
    base = pattern.parent
    while not base.is_dir():
        base = base.parent
    matches = glob.glob(str(pattern.relative_to(base)), root_dir=base, recursive=True)  # noqa: PTH207
    return base, [base / match for match in matches]


def _why_left_out(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> str | None:
    name = entry.name.lower()
    kind = _special_kind(entry)
    if kind is not None:
        return kind
    if name.endswith(suffixes) and not name.endswith(UNFINISHED_SUFFIXES):
        return None
    suffix = Path(name).suffix
    return suffix if SUFFIX.fullmatch(suffix) else "other names"


def _special_kind(entry: os.DirEntry[str]) -> str | None:
    """Return what an entry is that is no file; None of a file, and of a link to nothing."""
    try:
        if entry.is_file():  # of all but links the folder knows: they are not looked up
            return None
        mode = entry.stat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else kind_of_file(mode)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino

"""What the person at the terminal is told about the search for raw files: what may not be meant so,
what was left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.folders import Entry, count_left_out, counts_in_words
from pipeline.errors import first_of
from pipeline.logs import warn

SHOWN_NAMES = 3
"""File names in a warning, at most."""


def warn_about_files(files: Mapping[str, SourceFiles]) -> None:
    """Warn, before hours of reading, of what a search took or left that may not be meant so."""
    special = {
        entry.path: entry
        for found in files.values()
        for entry in found.left_out
        if entry.is_special
    }
    if special:
        shown = [f"{path} ({entry.left_out})" for path, entry in sorted(special.items())]
        warn(f"prepare: not read, as they are no files: {first_of(shown, SHOWN_NAMES)}")
    for (one, other), paths in _taken_twice(files).items():
        warn(
            f"sources {one} and {other} both read {len(paths):,} files, whose text is doubled: "
            f"{first_of(paths, SHOWN_NAMES)}"
        )
    for name, found in files.items():
        if found.held_out:
            names = first_of(list(map(str, found.held_out)), SHOWN_NAMES)
            warn(
                f"source {name}: {len(found.held_out):,} of its {len(found.files):,} files are "
                "named as splits that are "
                f"held out, and are trained on like the others: {names}. If they shall "
                f"not, name the others in sources.{name}.paths, as a folder or a glob."
            )


def left_out_by_source(files: Mapping[str, SourceFiles]) -> dict[str, list[Entry]]:
    """Return what the search of each source left out and no other source takes."""
    taken = {file.path for found in files.values() for file in found.files}
    return {
        name: [e for e in found.left_out if e.path not in taken] for name, found in files.items()
    }


def count_empty_files(found: SourceFiles) -> int:
    """Count files without a byte; a compressed file is never one."""
    return sum(file.size == 0 for file in found.files)


def summarise_left_out(left_out: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Return one line that counts all of it by suffix, each file once; none where nothing was left
    out."""
    counts = count_left_out(
        {entry.path: entry for entries in left_out.values() for entry in entries}.values()
    )
    return (
        [f"not read in the folders that were searched: {counts_in_words(counts)}"] if counts else []
    )


def _taken_twice(files: Mapping[str, SourceFiles]) -> dict[tuple[str, str], list[str]]:
    """Return the files that two sources take, by the names of the sources."""
    taken: dict[Path, str] = {}
    twice: dict[tuple[str, str], list[str]] = {}
    for name, found in files.items():
        for file in found.files:
            first = taken.setdefault(file.path, name)
            if first != name:
                twice.setdefault((first, name), []).append(str(file.path))
    return twice

"""Warnings and closing lines about the search for raw files. Reads no file."""

from collections.abc import Mapping, Sequence

from pipeline.config.urls import RawPath
from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.folders import Entry, count_left_out, counts_in_words
from pipeline.errors import first_of
from pipeline.logs import warn

SHOWN_NAMES = 3
"""Maximum number of file names in one warning."""


def warn_about_files(files: Mapping[str, SourceFiles]) -> None:
    """Warn, before hours of reading, about files that the search may have taken or left by mistake."""
    # FIFOs, sockets and devices are never opened.
    special = {
        entry.path: entry
        for source_files in files.values()
        for entry in source_files.left_out
        if entry.is_special
    }
    if special:
        names = sorted(f"{path} ({entry.left_out})" for path, entry in special.items())
        warn(f"prepare: not read, as they are not regular files: {first_of(names, SHOWN_NAMES)}")

    # The same file in two sources.
    for (one, other), paths in _taken_twice(files).items():
        warn(
            f"sources {one} and {other} both read {len(paths):,} files, so their text is doubled: "
            f"{first_of(paths, SHOWN_NAMES)}"
        )

    # Files that their corpus holds out.
    for name, source_files in files.items():
        held_out = [str(path) for path in source_files.held_out]
        if held_out:
            warn(
                f"source {name}: {len(held_out):,} of its {len(source_files.files):,} files are "
                "named as held-out splits, and are trained on like the others: "
                f"{first_of(held_out, SHOWN_NAMES)}. To hold them out, name them in "
                f"sources.{name}.validation_paths; to leave them out, name only the other files in "
                f"sources.{name}.paths, as a folder or a glob."
            )


def tree_lines(files: Mapping[str, SourceFiles]) -> list[str]:
    """Return a line for each published corpus: its layout, and what of it is read."""
    return [
        f"source {name}: {line}"
        for name, source_files in files.items()
        for line in source_files.notes
    ]


def left_out_by_source(files: Mapping[str, SourceFiles]) -> dict[str, list[Entry]]:
    """Return the entries that the search of each source left out and that no other source takes."""
    taken = {
        file.path
        for source_files in files.values()
        for file in [*source_files.files, *source_files.validation_files]
    }
    return {
        name: [entry for entry in source_files.left_out if entry.path not in taken]
        for name, source_files in files.items()
    }


def count_empty_files(files: SourceFiles) -> int:
    """Count the files of a source that have no bytes at all."""
    return sum(file.size == 0 for file in [*files.files, *files.validation_files])


def summarise_left_out(left_out: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Return a line that counts entries that were left out by suffix; no line if there are none.

    An entry that several sources left out counts once.
    """
    counts = count_left_out(
        {entry.path: entry for entries in left_out.values() for entry in entries}.values()
    )
    return (
        [f"not read in the folders that were searched: {counts_in_words(counts)}"] if counts else []
    )


def _taken_twice(files: Mapping[str, SourceFiles]) -> dict[tuple[str, str], list[str]]:
    """Return the files that two sources take, for each pair of sources."""
    taken: dict[RawPath, str] = {}
    twice: dict[tuple[str, str], list[str]] = {}
    for name, source_files in files.items():
        for file in source_files.files:
            first = taken.setdefault(file.path, name)
            if first != name:
                twice.setdefault((first, name), []).append(str(file.path))
    return twice

"""The files of a tree: which hold documents, which are held out, which are left out.

Reads folders, but the content of no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.folders import (
    Entry,
    count_left_out,
    counts_in_words,
    search_folder,
    why_name_left_out,
)
from pipeline.corpus.remote.listing import list_url
from pipeline.corpus.trees.find_trees import Tree
from pipeline.corpus.trees.tree_layout import path_below
from pipeline.errors import DataError


@dataclass(frozen=True)
class TreeFile:
    """A file of documents of a tree."""

    path: RawPath
    below: PurePosixPath
    """Path below the root."""
    is_held_out: bool
    """Whether the corpus holds it out for validation."""


@dataclass
class TreeFiles:
    """What the search of one tree has found."""

    files: list[TreeFile] = field(default_factory=list[TreeFile])
    left_out: list[Entry] = field(default_factory=list[Entry])
    note: str = ""
    """What is read, in words."""


def search_tree(
    tree: Tree, source: Source, suffixes: tuple[str, ...], own: Sequence[Path] = ()
) -> TreeFiles:
    """Return the files of a tree that the source takes.

    Raises DataError for parts that the source asks for and the tree does not have; OSError for a
    folder that cannot be read.
    """
    # Find what lies in the folders of documents, and choose among it.
    result = TreeFiles()
    present: list[PurePosixPath] = []
    for folder in tree.layout.folders(tree.root, source):
        for entry in _entries(path_below(tree.root, folder.below), suffixes, own):
            below = tree.below(entry.path)
            assert below is not None, "it lies below the root"
            if entry.left_out is not None:
                result.left_out.append(entry)
                continue
            present.append(below)
            reason = tree.layout.why_left_out(below, source)
            if reason is None:
                result.files.append(TreeFile(entry.path, below, folder.is_held_out))
            else:
                result.left_out.append(Entry(entry.path, reason))

    # Refuse a choice that finds nothing.
    problems = tree.layout.absent_parts(tree.root, present, source)
    if present and not result.files:
        problems.append(_why_nothing_taken(tree, result.left_out))
    if problems:
        raise DataError("\n".join(problems))
    taken = [file.below for file in result.files]
    result.note = f"{tree.root} has layout {tree.layout.name}: {tree.layout.note(tree.root, taken)}"
    return result


def _why_nothing_taken(tree: Tree, left_out: Sequence[Entry]) -> str:
    others = counts_in_words(count_left_out(left_out))
    return (
        f"{tree.root} has layout {tree.layout.name}, but no file of its documents is taken ({others} "
        f"there); they are named like {tree.layout.looks_like}. Correct what the source chooses, or "
        "name the folder of the documents itself in paths."
    )


def _entries(folder: RawPath, suffixes: tuple[str, ...], own: Sequence[Path]) -> Iterable[Entry]:
    if isinstance(folder, Path):
        return search_folder(folder, suffixes, own)
    entries: list[Entry] = []
    for listed in list_url(folder).files:
        inside = PurePosixPath(listed.below or listed.file.name)
        entries.append(Entry(listed.file, why_name_left_out(inside.parts, suffixes)))
    return entries

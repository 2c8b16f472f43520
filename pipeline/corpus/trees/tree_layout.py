"""The interface of a layout: how a published corpus lies in the folder that it was downloaded to.

Each layout is one class in a file of its own, listed in `pipeline.config.kinds`. Reads the names of
files and folders, on this machine or on a server.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.remote.listing import FolderNames, names_at
from pipeline.corpus.trees.published_record import PublishedRecord, SourceDocument

CHOICES = ("partitions", "languages", "snapshots")
"""Settings of a source that choose parts of a tree."""


@dataclass(frozen=True)
class TreeFolder:
    """A folder of a tree that holds documents."""

    below: str
    """Path below the root of the tree."""
    is_held_out: bool = False
    """Whether the corpus holds its documents out for validation."""


class SideFiles(Protocol):
    """The open files that describe the documents of one raw file."""

    def record(self, document: SourceDocument) -> PublishedRecord:
        """Return what was published about a document; its rows must be asked for in order.

        Raises DataError, with the file and the row, where a file is shorter, belongs to other
        documents, or holds no values of its kind.
        """
        ...


class TreeLayout(ABC):
    """One layout; an object without state."""

    name: str
    looks_like: str
    """The paths below the root, for messages."""
    text_field = "text"
    """Key of a row that holds its text."""
    chooses_files = True
    """Whether only some of the folders hold documents; else the whole root is searched."""
    choices: Collection[str] = ()
    """Those of CHOICES that this layout has."""
    has_side_files = False
    """Whether files beside the documents describe them."""

    @abstractmethod
    def evidence(self, root: RawPath) -> str:
        """Return the folders that show that `root` has this layout, in words; empty if none does."""

    def fits(self, root: RawPath) -> bool:
        """Return whether `root` may be read in this layout where the run file names it."""
        return bool(self.evidence(root))

    def folders(self, root: RawPath, source: Source) -> Sequence[TreeFolder]:
        """Return the folders with documents that the source takes.

        Raises DataError for parts that the source asks for and the tree does not have.
        """
        raise AssertionError(f"layout {self.name} is searched as a whole")

    def why_left_out(self, below: PurePosixPath, source: Source) -> str | None:
        """Return the label under which a file of `folders` is left out; None if it is taken."""
        return None

    def absent_parts(
        self, root: RawPath, files: Sequence[PurePosixPath], source: Source
    ) -> list[str]:
        """Return a line for each part that the source asks for and no file belongs to.

        `files`: paths below the root of all files of `folders`, also of those left out.
        """
        return []

    def note(self, root: RawPath, taken: Sequence[PurePosixPath]) -> str:
        """Return in words what is read of a tree."""
        return self.looks_like

    def side_folders(self, root: RawPath) -> Mapping[str, str]:
        """Return the folders of a tree that describe documents, and which of PARTS each holds."""
        return {}

    def side_file(self, folder: str, below: PurePosixPath) -> str | None:
        """Return the file in a side folder that describes the rows of a file of documents.

        Both are paths below the root. None where such files are not published for it.
        """
        return None

    def described(self, below: PurePosixPath, files: Mapping[str, RawPath]) -> SideFiles:
        """Return the reader of the side files of a file of documents, by side folder.

        Only those folders are given that are needed.
        """
        raise AssertionError(f"layout {self.name} has no side files")


def names_in(folder: RawPath) -> FolderNames:
    """Return the names directly in a folder; none where it does not exist or is a file.

    Raises OSError for a folder that cannot be read.
    """
    if not isinstance(folder, Path):
        return names_at(folder)
    if not folder.is_dir():
        return FolderNames([], [])
    folders: list[str] = []
    files: list[str] = []
    # The listing tells folders from files without a call for each entry.
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry.name)
    return FolderNames(sorted(folders), sorted(files))


def has_folder(root: RawPath, name: str) -> bool:
    """Return whether a tree has a folder of this name at its top."""
    if isinstance(root, Path):
        # Not listed: a plain folder may hold a million files.
        return (root / name).is_dir()
    return name in names_in(root).folders


def path_below(root: RawPath, below: PurePosixPath | str) -> RawPath:
    """Return a path below a folder on this machine or on a server."""
    return root / str(below)

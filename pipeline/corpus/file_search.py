"""The raw files that the `paths` of a source give: how they are found, named and checked.

Reads folders, but the content of no file.
"""

import glob
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath, Url
from pipeline.corpus.folders import (
    Entry,
    count_left_out,
    counts_in_words,
    expand_pattern,
    search_folder,
    why_name_left_out,
)
from pipeline.corpus.raw_files import COMPRESSIONS, kind_of_file
from pipeline.corpus.remote.connection import Unreachable
from pipeline.corpus.remote.listing import ServerFile, list_url
from pipeline.corpus.trees.find_trees import Tree, note_of_inner_trees
from pipeline.corpus.trees.named_splits import held_out_files, side_folder_problems
from pipeline.corpus.trees.tree_search import search_tree
from pipeline.errors import DataError


@dataclass(frozen=True)
class InputFile:
    """A raw file."""

    path: RawPath
    name: str
    """Name relative to the entry of `paths` that gave the file. Files of a folder begin with the
    folder's own name; a named file has its bare name; files of a glob are relative to the deepest
    folder without a magic character. So the name depends neither on where the corpus lies nor on
    other files."""
    size: int
    """Bytes."""
    version: int | str
    """Modification time in nanoseconds since the epoch; of a file on a server what the server
    offers, most often the etag."""

    @property
    def identity(self) -> tuple[str, int, int | str]:
        """Name, size and version, which detect a changed file without reading it."""
        return self.name, self.size, self.version


@dataclass(frozen=True)
class SourceFiles:
    """The files that the paths of a source give."""

    files: list[InputFile]
    """Sorted by name."""
    left_out: list[Entry]
    """Entries of searched folders that are not taken."""
    held_out: list[RawPath]
    """Files among `files`, from folders or globs, whose names mark a held-out split."""
    validation_files: list[InputFile] = field(default_factory=list[InputFile])
    """Files that are held out as a whole, sorted by name."""
    notes: list[str] = field(default_factory=list[str])
    """What is read of published corpora, in words."""


@dataclass(frozen=True)
class Trees:
    """The published corpora among the paths of a source."""

    source: Source
    trees: Mapping[RawPath, Tree]
    """Entry of `paths` -> the tree of which it is the root."""


@dataclass(frozen=True)
class _Named:
    """A file that an entry of a source's `paths` refers to."""

    name: str
    path: RawPath
    below: PurePath | None
    """Path relative to the searched folder, or to the folder where the glob begins; None where the
    entry is the file itself; and of a published corpus, whose layout chooses the files."""
    is_held_out: bool = False
    """Whether the layout of its corpus holds the file out."""


def search_files(
    setting: str,
    suffixes: Sequence[str],
    paths: Sequence[RawPath],
    own: Sequence[Path] = (),
    names_splits: bool = True,
    published: Trees | None = None,
) -> SourceFiles:
    """Expand files, globs and folders to files sorted by name, each file once.

    `published`: the entries of `paths` of which a layout says which files hold documents.

    A search of a folder takes files with one of the suffixes; nothing is taken from below the
    folders `own`. A file that several entries give has its name from the first of them; a file that
    one entry gives twice, through links, has the first of its names. Raises DataError naming each
    entry that gives no file, each name that two files share, each text that lies there twice
    (plain and compressed), each path that is not a regular file, and each tree with side folders
    that hold no documents; Unreachable instead where a server is among the problems.
    """
    # Expand each entry; a file's key is its path without links.
    files: dict[str, _Named] = {}
    left_out: dict[RawPath, Entry] = {}
    notes: list[str] = []
    problems: list[str] = []
    refused: type[DataError] = DataError
    for entry in paths:
        try:
            if published is not None and entry in published.trees:
                named, others = _expand_tree(entry, published, suffixes, own, notes)
            else:
                named, others = _expand(entry, suffixes, own)
                notes += _inner_trees(entry, published)
        except OSError as error:
            problems.append(
                f"sources.{setting}: {error.filename} cannot be read: {error.strerror}. "
                "Correct its permissions."
            )
            continue
        except DataError as error:
            problems.append(f"sources.{setting}: {error}")
            if isinstance(error, Unreachable):
                refused = Unreachable
            continue
        if not named:
            problems.append(f"sources.{setting}: {_why_nothing(entry, suffixes, others)}")
        for file in sorted(named, key=lambda file: file.name):
            files.setdefault(identity_of_path(file.path), file)
        left_out |= {other.path: other for other in others}

    # Refuse what would be read twice, or holds no documents.
    expanded = list(files.values())
    problems += _same_names(setting, expanded)
    problems += _same_content(setting, expanded)
    searched = [(file.path, file.below) for file in expanded if file.below is not None]
    problems += side_folder_problems(setting, searched)
    if problems:
        raise refused("\n".join(problems))

    # Held-out splits are read like other files; the stage warns about them.
    held_out: list[RawPath] = []
    if names_splits:
        held_out = held_out_files(searched)
    return SourceFiles(
        _read_status(setting, [file for file in expanded if not file.is_held_out]),
        list(left_out.values()),
        held_out,
        _read_status(setting, [file for file in expanded if file.is_held_out]),
        notes,
    )


def identity_of_path(path: RawPath) -> str:
    """Return what is the same for two paths of one file: the path without links, or the URL."""
    if isinstance(path, Path):
        return os.path.realpath(path)
    return path.text


def has_files(path: RawPath, suffixes: Sequence[str], own: Sequence[Path]) -> bool:
    """Return whether an entry of `paths` gives any file."""
    try:
        return bool(_expand(path, suffixes, own)[0])
    except OSError:
        # Something is there, though it cannot be read.
        return True
    except DataError:
        return False


def _expand(
    entry: RawPath, suffixes: Sequence[str], own: Sequence[Path]
) -> tuple[list[_Named], list[Entry]]:
    """Return the files of an entry of `paths`, and what its searched folders hold besides."""
    if not isinstance(entry, Path):
        return _expand_url(entry, tuple(suffixes))

    # A pattern that begins below one of the pipeline's own folders asks for files in it.
    base, matches = expand_pattern(entry)
    folders_to_skip = [folder for folder in own if not base.is_relative_to(folder)]

    files: list[_Named] = []
    left_out: list[Entry] = []
    for match in matches:
        if match != entry and any(match.is_relative_to(folder) for folder in folders_to_skip):
            continue
        # A folder is searched; a file that is named or matched is taken as it is.
        items: Iterable[Entry] = [Entry(match)]
        if match.is_dir():
            items = search_folder(match, tuple(suffixes), folders_to_skip)
        for item in items:
            assert isinstance(item.path, Path), "a folder holds no URLs"
            if item.left_out is None:
                files.append(_named_file(item.path, entry, match, base))
            else:
                left_out.append(item)
    return files, left_out


def _expand_tree(
    entry: RawPath,
    published: Trees,
    suffixes: Sequence[str],
    own: Sequence[Path],
    notes: list[str],
) -> tuple[list[_Named], list[Entry]]:
    """Return the files of a published corpus, named like those of any searched folder.

    Appends to `notes` what is read of it.
    """
    tree = published.trees[entry]
    if tree.layout.chooses_files:
        searched = search_tree(tree, published.source, tuple(suffixes), own)
        notes.append(searched.note)
        files = [
            _Named(
                _name_of(PurePosixPath(entry.name) / file.below), file.path, None, file.is_held_out
            )
            for file in searched.files
        ]
        return files, searched.left_out
    notes.append(f"{entry} has layout {tree.layout.name}: all files in it are read")
    return _expand(entry, suffixes, own)


def _inner_trees(entry: RawPath, published: Trees | None) -> list[str]:
    """Return the line about trees in a folder that is read as plain files, if there are any."""
    if published is None:
        return []
    note = note_of_inner_trees(entry, published.source)
    return [] if note is None else [note]


def _expand_url(entry: Url, suffixes: tuple[str, ...]) -> tuple[list[_Named], list[Entry]]:
    """Return the files of a URL among `paths`, chosen and named like those of a path."""
    files: list[_Named] = []
    left_out: list[Entry] = []
    for listed in list_url(entry).files:
        reason = None
        # A file that is named or matched is taken as it is.
        if listed.match.text != listed.file.text:
            inside = listed.file.text.removeprefix(listed.match.text)
            reason = why_name_left_out(PurePosixPath(inside).parts, suffixes)
        if reason is not None:
            left_out.append(Entry(listed.file, reason))
        elif listed.below is None:
            files.append(_Named(listed.file.name, listed.file, below=None))
        else:
            below = PurePosixPath(listed.below)
            name = listed.below
            if not entry.is_pattern:
                name = f"{entry.name}/{name}"
            files.append(_Named(name, listed.file, below))
    return files, left_out


def _named_file(path: Path, entry: Path, match: Path, base: Path) -> _Named:
    """Name a file that `match`, one match of `entry`, gave; `base`: where the pattern begins."""
    name = _name_of(path.relative_to(base))
    if path == entry:
        return _Named(name, path, below=None)
    searched = entry if match == entry else base
    return _Named(name, path, path.relative_to(searched))


def _name_of(relative: PurePath) -> str:
    """Return a path as the name of a file in documents.

    File names are bytes, names in documents are text: bytes that are not UTF-8 are escaped.
    """
    return os.fsencode(relative).decode(errors="backslashreplace")


def _why_nothing(entry: RawPath, suffixes: Sequence[str], left_out: Sequence[Entry]) -> str:
    """Return why an entry of `paths` gives no file, and a remedy."""
    if not isinstance(entry, Path):
        return _why_url_gives_nothing(entry, suffixes, left_out)
    base, _ = expand_pattern(entry)
    if entry.is_dir():
        names = " or ".join(f"*{suffix}" for suffix in suffixes)
        reason = f"holds no file named {names}"
    elif glob.has_magic(str(entry.relative_to(base))):
        reason = "matches no file"
    else:
        reason = "does not exist"
    if left_out:
        reason += f" ({counts_in_words(count_left_out(left_out))} there)"
    return f"{entry} {reason}. Correct the path in the run file, or put the text there."


def _why_url_gives_nothing(entry: Url, suffixes: Sequence[str], left_out: Sequence[Entry]) -> str:
    names = " or ".join(f"*{suffix}" for suffix in suffixes)
    reason = "does not exist"
    missing = list_url(entry).missing
    if left_out:
        there = counts_in_words(count_left_out(left_out))
        reason = f"holds no file named {names} ({there} there)"
    elif entry.is_pattern:
        reason = "matches no file"
    if missing:
        reason += f": {missing} does not exist"
    return f"{entry} {reason}. Correct the URL in the run file, or put the text there."


def _same_names(setting: str, files: Iterable[_Named]) -> list[str]:
    """Return the problem of the first two files with the same name, if there are any.

    Only the first pair is named: there may be as many pairs as files.
    """
    first: dict[str, RawPath] = {}
    clashes: list[tuple[str, RawPath, RawPath]] = []
    for file in files:
        before = first.setdefault(file.name, file.path)
        if before is not file.path:
            clashes.append((file.name, before, file.path))
    if not clashes:
        return []
    name, before, path = clashes[0]
    remedy = "Make them two sources"
    if isinstance(before, Path) and isinstance(path, Path):
        remedy += f", or name their common parent folder {os.path.commonpath([before, path])}"
    return [
        f"sources.{setting}: {before} and {path} would both be named {name}"
        f"{_more_pairs(len(clashes))}, but documents are told apart by this name. {remedy}."
    ]


def _same_content(setting: str, files: Iterable[_Named]) -> list[str]:
    """Return the problem of the first text that lies there plain and compressed, if there is any.

    The same holds for two compressed forms of one text: it would be read twice.
    """
    first: dict[tuple[str, str], RawPath] = {}
    clashes: list[tuple[RawPath, RawPath]] = []
    for file in files:
        name = file.path.name.lower()
        plain_name = name
        if Path(name).suffix in COMPRESSIONS:
            plain_name = name.removesuffix(Path(name).suffix)
        before = first.setdefault((str(file.path.parent), plain_name), file.path)
        if before is not file.path and before.name.lower() != name:
            clashes.append((before, file.path))
    if not clashes:
        return []
    before, path = clashes[0]
    return [
        f"sources.{setting}: {before} and {path} lie beside each other"
        f"{_more_pairs(len(clashes))}, so one text would be read twice, in two forms. Remove or "
        "move one of them, rename it if it holds another text, or let a glob match one form only."
    ]


def _more_pairs(pairs: int) -> str:
    if pairs == 1:
        return ""
    return f" ({pairs - 1} more such pairs)"


def _read_status(setting: str, files: Sequence[_Named]) -> list[InputFile]:
    """Return the files with their sizes and modification times, sorted by name.

    Raises DataError naming each path that cannot be read or is not a regular file.
    """
    regular: list[InputFile] = []
    problems: list[str] = []
    for file in sorted(files, key=lambda file: (file.name, str(file.path))):
        if isinstance(file.path, ServerFile):
            listed = file.path
            regular.append(InputFile(listed, file.name, listed.size, listed.version))
            continue
        assert isinstance(file.path, Path), "URLs give files that were listed"
        try:
            status = file.path.stat()
        except OSError as error:
            problems.append(
                f"{file.path} cannot be read: {error.strerror}. Restore the file or remove it."
            )
            continue
        if stat.S_ISREG(status.st_mode):
            regular.append(InputFile(file.path, file.name, status.st_size, status.st_mtime_ns))
        else:
            problems.append(
                f"{file.path} is {kind_of_file(status.st_mode)}. Write its content into a file."
            )
    if problems:
        raise DataError("\n".join(f"sources.{setting}: {problem}" for problem in problems))
    return regular

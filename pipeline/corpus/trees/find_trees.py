"""Which of a source's paths are roots of published corpora, and in which layout.

Looks at the names of a few folders below each path; opens no file.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from pathlib import Path, PurePosixPath

from pipeline.config.kinds import SOURCE_KINDS, TREE_LAYOUTS
from pipeline.config.run_config import RunConfig
from pipeline.config.source_section import Source
from pipeline.config.urls import WEB_SCHEMES, RawPath
from pipeline.corpus.raw_files import COMPRESSIONS
from pipeline.corpus.remote.connection import Unreachable
from pipeline.corpus.trees.tree_layout import CHOICES, TreeLayout, names_in, path_below
from pipeline.errors import DataError

AUTO = "auto"
PLAIN = "plain"
MOST_INNER = 50
"""Folders in a plain folder that are looked at for trees."""
PLAIN_SUFFIXES = (".json", ".jsonl", ".ndjson")
"""Suffixes of URLs that are taken for files without asking."""


@dataclass(frozen=True)
class Tree:
    """A published corpus in a folder."""

    root: RawPath
    layout: TreeLayout

    def below(self, path: RawPath) -> PurePosixPath | None:
        """Return where a file lies below the root; None where it lies elsewhere."""
        inside = str(path).removeprefix(f"{self.root}{os.sep}")
        if inside == str(path):
            return None
        return PurePosixPath(inside)

    @cached_property
    def side_folders(self) -> Mapping[str, str]:
        """The folders that describe documents, and what each holds."""
        return self.layout.side_folders(self.root)

    def side_files(self, below: PurePosixPath) -> dict[str, RawPath]:
        """Return the files that must describe a file of documents, by side folder."""
        files: dict[str, RawPath] = {}
        for folder in self.side_folders:
            name = self.layout.side_file(folder, below)
            if name is not None:
                files[folder] = path_below(self.root, name)
        return files


def tree_at(setting: str, entry: RawPath, source: Source) -> Tree | None:
    """Return the tree of which an entry of `paths` is the root; None for a plain path.

    None also for one that does not exist, which the search reports. `setting`: name of the source.
    Raises DataError where the folder has another layout than `layout` says, where it has two, and
    where `layout` names one and the entry is no folder.
    """
    wanted = source.layout
    if wanted == PLAIN or not _takes_layout(source) or _is_missing(entry):
        return None
    found = _layouts_of(entry)
    if wanted == AUTO and not found:
        return None
    where = f"sources.{setting}.layout = {wanted}: {entry}"
    if wanted != AUTO:
        layout: TreeLayout = TREE_LAYOUTS[wanted]
        if wanted in found or (not found and layout.fits(entry)):
            return Tree(entry, layout)
        raise DataError(f"{where} {_why_not(entry, layout, found)}")
    if len(found) > 1:
        both = " and ".join(f"{name} ({shown})" for name, shown in found.items())
        raise DataError(
            f"{where} has the folders of {len(found)} layouts, {both}. Set sources.{setting}.layout "
            f"to the one that it is to be read in, or to {PLAIN}, or name one of its folders."
        )
    return Tree(entry, TREE_LAYOUTS[next(iter(found))])


def trees_in_paths(name: str, source: Source) -> dict[RawPath, Tree]:
    """Return the trees of which entries of `paths` are the roots, by entry.

    `name`: of the source. Raises DataError with the problems of all its paths; Unreachable where a
    server is among them.
    """
    trees: dict[RawPath, Tree] = {}
    problems: list[str] = []
    refused: type[DataError] = DataError
    for entry in source.paths:
        try:
            tree = tree_at(name, entry, source)
        except DataError as error:
            problems.append(str(error))
            if isinstance(error, Unreachable):
                refused = Unreachable
            continue
        if tree is not None:
            trees[entry] = tree
    if not problems:
        problems = _mixed_trees(name, source, list(trees.values()))
    if problems:
        raise refused("\n".join(problems))
    return trees


def trees_of(config: RunConfig, name: str) -> list[Tree]:
    """Return the trees that the `paths` and `validation_paths` of a source name.

    Raises DataError with the problems of all its paths.
    """
    source = config.sources[name]
    return [*trees_in_paths(name, source).values(), *held_out_trees(source)]


def held_out_trees(source: Source) -> list[Tree]:
    """Return the trees with files beside their documents that `validation_paths` names.

    Of other layouts a folder of `validation_paths` is held out as it is.
    """
    if source.layout == PLAIN or not _takes_layout(source):
        return []
    trees: list[Tree] = []
    for entry in source.validation_paths:
        names = [name for name in _layouts_of(entry) if TREE_LAYOUTS[name].has_side_files]
        if len(names) == 1 and source.layout in (AUTO, names[0]):
            trees.append(Tree(entry, TREE_LAYOUTS[names[0]]))
    return trees


def wrong_choices(name: str, source: Source, takes_layout: bool) -> list[str]:
    """Return a line for each setting of layouts that a source cannot have, whatever its files."""
    if not takes_layout and source.layout not in (AUTO, PLAIN):
        return [
            f"sources.{name}.layout = {source.layout}: kind {source.kind} has no layouts; only jsonl "
            "has them; leave it out, or correct kind"
        ]
    # A tree of another layout says more than that the layout has no such setting.
    mismatched = _other_layouts(name, source) if takes_layout else []
    if mismatched:
        return mismatched
    may_be_chosen: Collection[str] = ()
    if takes_layout and source.layout == AUTO:
        may_be_chosen = CHOICES
    elif takes_layout and source.layout != PLAIN:
        may_be_chosen = TREE_LAYOUTS[source.layout].choices
    return [
        f"sources.{name}.{setting}: only layout redpajama-v2 of kind jsonl has this setting; leave "
        "it out"
        for setting in CHOICES
        if getattr(source, setting) and setting not in may_be_chosen
    ]


def _other_layouts(name: str, source: Source) -> list[str]:
    """Return a line for each folder of another layout than a source with unfit choices names."""
    if source.layout in (AUTO, PLAIN):
        return []
    layout: TreeLayout = TREE_LAYOUTS[source.layout]
    unfit = [
        setting for setting in CHOICES if getattr(source, setting) and setting not in layout.choices
    ]
    if not unfit:
        return []
    problems: list[str] = []
    for entry in source.paths:
        found = _layouts_of(entry) if isinstance(entry, Path) else {}
        if found and source.layout not in found:
            where = f"sources.{name}.layout = {source.layout}: {entry}"
            problems.append(f"{where} {_why_not(entry, layout, found)}")
    return problems


def note_of_inner_trees(entry: RawPath, source: Source) -> str | None:
    """Return a line that names the trees directly in a folder that is read as it is; None without any.

    Only with layout `auto`, which recognises roots: whoever writes `plain` means it.
    """
    if source.layout != AUTO or not _takes_layout(source):
        return None
    if not isinstance(entry, Path) or not entry.is_dir():
        return None
    inner = {name: _layouts_of(entry / name) for name in names_in(entry).folders[:MOST_INNER]}
    trees = {name: " or ".join(found) for name, found in inner.items() if found}
    if not trees:
        return None
    first = next(iter(trees))
    return (
        f"{entry} is read as plain files, and trees lie in it: "
        f"{', '.join(f'{name} ({layout})' for name, layout in trees.items())}. To read a tree by its "
        f"layout, name its root, in a source of its own: paths: [{entry / first}]"
    )


def _mixed_trees(name: str, source: Source, trees: Sequence[Tree]) -> list[str]:
    """Return the problems of trees that one source cannot read together, and of its choices."""
    if any(_is_missing(entry) for entry in source.paths):
        # The search says so; what else is wrong cannot be known.
        return []
    problems: list[str] = []
    keys = {tree.layout.text_field for tree in trees}
    if len(trees) < len(source.paths):
        keys.add(TreeLayout.text_field)
    if len(keys) > 1:
        each = ", ".join(f"{tree.root} ({tree.layout.name})" for tree in trees)
        problems.append(
            f"sources.{name}.paths: {each}: their rows have the text in {' and '.join(sorted(keys))}, "
            "and a source has one text_field. Make them two sources."
        )
    layouts = sorted({tree.layout.name for tree in trees}) or [PLAIN]
    for setting in CHOICES:
        if getattr(source, setting) and not any(setting in tree.layout.choices for tree in trees):
            problems.append(
                f"sources.{name}.{setting}: layout {' and '.join(layouts)} has no such setting; only "
                "redpajama-v2 has it. Leave it out, or correct paths."
            )
    return problems


def as_published(config: RunConfig) -> RunConfig:
    """Return the settings with what follows from the layouts of the sources' trees.

    That is the `text_field`, and that of a tree with held-out files of its own nothing else is held
    out. A source whose paths have a problem stays as it is: the search reports it.
    """
    sources = {name: _published_source(config, name) for name in config.sources}
    return config.model_copy(update={"sources": sources})


def _published_source(config: RunConfig, name: str) -> Source:
    source = config.sources[name]
    try:
        trees = trees_of(config, name)
    except DataError:
        return source
    changes: dict[str, object] = {}
    for tree in trees:
        if source.text_field == TreeLayout.text_field:
            changes["text_field"] = tree.layout.text_field
        holds_out = tree.layout.chooses_files and any(
            folder.is_held_out for folder in tree.layout.folders(tree.root, source)
        )
        if holds_out and source.validation_fraction is None:
            changes["validation_fraction"] = 0.0
    if not changes:
        return source
    return source.model_copy(update=changes)


def _is_missing(entry: RawPath) -> bool:
    """Return whether an entry is a path of this machine, no glob, that nothing has."""
    return isinstance(entry, Path) and not os.path.lexists(entry) and not has_magic(str(entry))


def _takes_layout(source: Source) -> bool:
    return bool(SOURCE_KINDS[source.kind].takes_layout)


def _layouts_of(entry: RawPath) -> dict[str, str]:
    """Return the layouts that a folder shows, and the folders that show each."""
    if not _may_be_folder(entry):
        return {}
    try:
        shown = {name: TREE_LAYOUTS[name].evidence(entry) for name in TREE_LAYOUTS.paths}
    except OSError:
        # The search names the folder that cannot be read.
        return {}
    return {name: evidence for name, evidence in shown.items() if evidence}


def _may_be_folder(entry: RawPath) -> bool:
    """Return whether to look into an entry of `paths`; of a web server it would be its content."""
    if isinstance(entry, Path):
        return entry.is_dir()
    is_file = entry.suffix.lower() in (*COMPRESSIONS, *PLAIN_SUFFIXES)
    return not is_file and not entry.is_pattern and entry.scheme not in WEB_SCHEMES


def _why_not(entry: RawPath, layout: TreeLayout, found: dict[str, str]) -> str:
    """Return why an entry is not read in the layout that the run file names, and a remedy."""
    if found:
        names = " and ".join(f"{name} ({shown})" for name, shown in found.items())
        return f"has layout {names}. Set layout to that, or to {AUTO}; or correct paths."
    if layout.evidence(entry.parent):
        return f"is a folder of such a tree. Name its root in paths: {entry.parent}."
    return (
        f"is not the root of such a tree, which has {layout.looks_like}. Correct paths, or leave "
        "layout out."
    )

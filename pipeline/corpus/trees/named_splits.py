"""What a plain search of folders would take too much of in published corpora.

They have side folders without documents, and splits that are meant to be held out. Looks for
folders; reads no file.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.config.urls import RawPath

SIDE_FOLDERS = {
    "quality_signals": "RedPajama-v2's",
    "minhash": "RedPajama-v2's",
    "duplicates": "RedPajama-v2's",
    "attributes": "Dolma's",
}
"""Folders beside `documents/` that describe its rows -> the corpus that has them. Sources: the data
cards of togethercomputer/RedPajama-Data-V2 and allenai/dolma."""
HELD_OUT = re.compile(
    r"(?P<start>^|[-_. ])(test|testing|validation|valid|val|dev|eval|evaluation)(?=[-_. ]|\d|$)",
    re.I,
)
"""Names of held-out splits. Source: huggingface.co/docs/datasets/repository_structure."""
TRAIN = re.compile(r"(^|[-_. ])(train|training)(?=[-_. ]|\d|$)", re.I)
"""Names of training splits. Source: huggingface.co/docs/datasets/repository_structure."""


def side_folder_problems(setting: str, files: Sequence[tuple[RawPath, PurePath]]) -> list[str]:
    """Return a problem for each tree of which a search took files in side folders.

    `files`: each path, and the path relative to the folder that was searched. A side folder that
    is itself the searched folder was asked for, and is no problem.
    """
    side_folders: dict[RawPath, set[str]] = {}
    is_tree: dict[RawPath, bool] = {}
    for path, below in files:
        parts = below.parts[:-1]
        for depth, part in enumerate(parts):
            if part in SIDE_FOLDERS:
                tree = path
                for _ in parts[depth:]:
                    tree = tree.parent
                tree = tree.parent
                if tree not in is_tree:
                    is_tree[tree] = _has_documents(tree, files)
                if is_tree[tree]:
                    side_folders.setdefault(tree, set()).add(part)
    return [
        _explain_side_folders(setting, tree, sorted(parts))
        for tree, parts in sorted(side_folders.items(), key=lambda item: str(item[0]))
    ]


def _has_documents(tree: RawPath, files: Sequence[tuple[RawPath, PurePath]]) -> bool:
    """Tell whether a tree has a folder `documents`; on a server one with some of the files."""
    if isinstance(tree, Path):
        return (tree / "documents").is_dir()
    beginning = f"{tree / 'documents'}/"
    return any(str(path).startswith(beginning) for path, _ in files)


def _explain_side_folders(setting: str, tree: RawPath, parts: Sequence[str]) -> str:
    owner = SIDE_FOLDERS[parts[0]]
    names = " and ".join(f"{part}/" for part in parts)
    remedy = (
        f"Name the root of the tree, {tree}, in paths of kind jsonl; or take its documents/ folder"
    )
    if "RedPajama" in owner:
        remedy += ", with text_field: raw_content"
    return (
        f"sources.{setting}: {tree} has {owner} layout, whose {names} describe documents and "
        f"hold none. {remedy}: {tree / 'documents'}."
    )


def held_out_files(files: Sequence[tuple[RawPath, PurePath]]) -> list[RawPath]:
    """Return the files that are named as held-out splits, or lie in folders that are.

    `files`: each path, and the path relative to the folder that was searched. A word within a name
    counts only if another file is named as the split to train on; a word at its beginning always.
    """
    has_train = any(TRAIN.search(part) for _, below in files for part in below.parts)
    held_out: list[RawPath] = []
    for path, below in files:
        matches = [HELD_OUT.search(part) for part in below.parts]
        if any(match and (has_train or not match["start"]) for match in matches):
            held_out.append(path)
    return held_out

"""Layouts of published corpora that a search would take too much of: side folders, and splits that
others hold out."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SIDE_FOLDERS = {
    "quality_signals": "RedPajama-v2's",
    "minhash": "RedPajama-v2's",
    "duplicates": "RedPajama-v2's",
    "attributes": "Dolma's",
}
"""Folders beside `documents/` that describe its rows, and whose tree that is. Sources: the data
cards of togethercomputer/RedPajama-Data-V2 and allenai/dolma."""
HELD_OUT = re.compile(
    r"(?P<start>^|[-_. ])(test|testing|validation|valid|val|dev|eval|evaluation)(?=[-_. ]|\d|$)",
    re.I,
)
TRAIN = re.compile(r"(^|[-_. ])(train|training)(?=[-_. ]|\d|$)", re.I)
"""How the hub's datasets name their splits. Source:
huggingface.co/docs/datasets/repository_structure."""


def side_folder_problems(source: str, files: Iterable[tuple[Path, Path]]) -> list[str]:
    """Describe trees whose side folders hold some of the files `(path, where it lies below what was
    searched)`.

    A side folder that is itself what was searched has been asked for.
    """
    found: dict[Path, set[str]] = {}
    is_tree: dict[Path, bool] = {}
    for path, below in files:
        parts = below.parts[:-1]
        for depth, part in enumerate(parts):
            if part in SIDE_FOLDERS:
                tree = path.parents[len(parts) - depth]
                if tree not in is_tree:
                    is_tree[tree] = (tree / "documents").is_dir()
                if is_tree[tree]:
                    found.setdefault(tree, set()).add(part)
    return [_take_documents(source, tree, sorted(parts)) for tree, parts in sorted(found.items())]


def _take_documents(source: str, tree: Path, parts: Sequence[str]) -> str:
    owner = SIDE_FOLDERS[parts[0]]
    field = ", with text_field: raw_content" if "RedPajama" in owner else ""
    names = " and ".join(f"{part}/" for part in parts)
    return (
        f"sources.{source}.paths: {tree} has {owner} layout, whose {names} describe documents and "
        "hold none. "
        f"Take its documents/ folder{field}: {tree / 'documents'}."
    )


def held_out_files(files: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Return the files that, or whose folders, are named as splits which others do not train on.

    `files`: each with where it lies below what was searched. Where the word does not stand at the
    beginning of a name, only if another file is named as the part to train on.
    """
    has_train = any(TRAIN.search(part) for _, below in files for part in below.parts)
    held_out = []
    for path, below in files:
        matches = [HELD_OUT.search(part) for part in below.parts]
        if any(match and (has_train or not match["start"]) for match in matches):
            held_out.append(path)
    return held_out

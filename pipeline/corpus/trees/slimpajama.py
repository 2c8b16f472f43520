"""The layout of SlimPajama: `train`, `validation` and `test`, each in chunks of many small files.

Source: the data card of cerebras/SlimPajama-627B.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.trees.tree_layout import (
    TreeFolder,
    TreeLayout,
    has_folder,
    names_in,
    path_below,
)

TRAIN = "train"
VALIDATION = "validation"
CHUNK = re.compile(r"chunk\d+")


class SlimPajama(TreeLayout):
    """`train` is read, `validation` held out unless the source says what is, `test` never read."""

    name = "slimpajama"
    looks_like = "train/chunk1/*.jsonl.zst, validation/, test/"

    def evidence(self, root: RawPath) -> str:
        if not has_folder(root, TRAIN):
            return ""
        chunks = names_in(path_below(root, TRAIN)).folders
        shown = [name for name in chunks if CHUNK.fullmatch(name)]
        if not shown:
            return ""
        return f"{TRAIN}/{shown[0]}/"

    def folders(self, root: RawPath, source: Source) -> Sequence[TreeFolder]:
        folders = [TreeFolder(TRAIN)]
        if not source.validation_paths and has_folder(root, VALIDATION):
            folders.append(TreeFolder(VALIDATION, is_held_out=True))
        return folders

    def note(self, root: RawPath, taken: Sequence[PurePosixPath]) -> str:
        validation = sum(below.parts[0] == VALIDATION for below in taken)
        return (
            f"{len(taken) - validation:,} files of train/ are read, {validation:,} of validation/ "
            "held out; test/ is never read"
        )

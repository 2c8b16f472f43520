"""Files of documents without the files that should lie beside them, found before hours of reading.

Looks for files; opens none.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.corpus.file_search import SourceFiles
from pipeline.corpus.trees.find_trees import trees_of
from pipeline.errors import first_of
from pipeline.logs import warn

SHOWN_NAMES = 3
"""Maximum number of file names in one warning."""


def files_without_side_files(
    config: RunConfig, name: str, files: SourceFiles
) -> dict[str, list[str]]:
    """Return the files of documents that a side folder has nothing about, by side folder.

    Of trees on this machine: on a server each question is a request, and the stage that reads the
    side files asks then.
    """
    gaps: dict[str, list[str]] = {}
    trees = [tree for tree in trees_of(config, name) if isinstance(tree.root, Path)]
    for tree in trees:
        for file in [*files.files, *files.validation_files]:
            below = tree.below(file.path)
            if below is None:
                continue
            for folder, path in tree.side_files(below).items():
                if isinstance(path, Path) and not path.is_file():
                    gaps.setdefault(folder, []).append(str(below))
    return gaps


def warn_about_side_gaps(config: RunConfig, files: Mapping[str, SourceFiles]) -> None:
    """Warn about files of documents of which what was published is missing."""
    for name in config.sources_with_text:
        for folder, names in files_without_side_files(config, name, files[name]).items():
            warn(
                f"source {name}: {folder}/ has no file beside {len(names):,} files of documents: "
                f"{first_of(names, SHOWN_NAMES)}. What reads it will refuse these documents; "
                "download the missing files, or remove those of the documents."
            )

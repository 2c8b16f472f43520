"""Files that a source holds out as a whole: `validation_paths` beside `paths`. Reads no file."""

from dataclasses import replace

from pipeline.corpus.file_search import InputFile, SourceFiles, identity_of_path
from pipeline.errors import DataError

FOLDER = "validation_paths"
"""First part of the name of each such file in documents: it may have the name of another file."""


def join_validation_files(
    source: str, training: SourceFiles, validation: SourceFiles
) -> SourceFiles:
    """Return the files of both searches; one that both have found is a validation file.

    Raises DataError where nothing is left to train on, or a folder of the training files has the
    name that validation files get.
    """
    held_out = {_identity(file) for file in validation.files}
    files = [file for file in training.files if _identity(file) not in held_out]
    if not files:
        raise DataError(
            f"sources.{source}.paths: all of its files are in validation_paths too, so there is "
            "nothing to train on. Name other files in paths."
        )
    renamed = [replace(file, name=f"{FOLDER}/{file.name}") for file in validation.files]
    clashes = {file.name for file in files} & {file.name for file in renamed}
    if clashes:
        raise DataError(
            f"sources.{source}.paths: {min(clashes)} would be the name of a file in "
            f"validation_paths, too. Rename the folder {FOLDER}."
        )
    left_out = {entry.path: entry for entry in [*training.left_out, *validation.left_out]}
    named_held_out = [path for path in training.held_out if identity_of_path(path) not in held_out]
    return SourceFiles(
        files,
        list(left_out.values()),
        named_held_out,
        renamed,
        [*training.notes, *validation.notes],
    )


def _identity(file: InputFile) -> str:
    """Return what is the same for two paths of one file."""
    return identity_of_path(file.path)

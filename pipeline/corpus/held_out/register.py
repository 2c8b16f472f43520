"""The texts that are held out in any source, found before documents are made.

By default a document is held out by the hash of its text, the same in every source. Where a run file
holds out files or listed documents, or other fractions in some sources, the held-out texts are
collected first, so that the same text is on one side in every source. Reads raw files; writes
`documents/.held-out`.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.file_search import InputFile, SourceFiles
from pipeline.corpus.groups import group_files
from pipeline.corpus.held_out.find_task import (
    FoundTexts,
    IdList,
    find_held_out,
)
from pipeline.corpus.held_out.held_out_folder import HeldOutFolder
from pipeline.corpus.held_out.held_out_texts import digest_of, join_hashes
from pipeline.corpus.held_out.listed_ids import check_ids_exist, listed_ids
from pipeline.corpus.read_task import read_settings
from pipeline.errors import DataError, TasksFailed
from pipeline.store import versions
from pipeline.store.files import fingerprint, remove_unlisted, write_atomic
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import needs_parts
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import Workers


@dataclass(frozen=True)
class Register:
    """The hashes of all texts that are held out."""

    path: Path
    digest: str


def find_held_out_texts(
    config: RunConfig, files: Mapping[str, SourceFiles], crew: Workers
) -> Register | None:
    """Return the texts that are held out in any source; None where the hash of a text decides.

    Raises DataError where no document has a listed id, and with the problems of all tasks.
    """
    folder = HeldOutFolder(data_folder(config).documents)
    if not _is_needed(config):
        if folder.path.is_dir():
            shutil.rmtree(folder.path)
        return None

    # The ids that tasks look for.
    listed = listed_ids(config)
    ids: IdList | None = None
    if listed:
        lines = "\n".join(sorted(listed)).encode(errors="surrogatepass")
        ids = IdList(folder.ids, xxhash.xxh3_128_hexdigest(lines))
        write_atomic(ids.path, lines)

    # The texts of files and of training files that may hold some out.
    tasks = [
        task
        for name in config.sources_with_text
        for task in _tasks_of_source(config, name, files[name], ids)
    ]
    # Files of earlier runs stay where they are: the result of a task names its file.
    if needs_parts(len(tasks)):
        tasks = [replace(task, arguments={**task.arguments, "in_parts": True}) for task in tasks]
    try:
        results: dict[str, FoundTexts] = run_tasks(
            tasks, folder.path, crew, "prepare: held-out texts"
        )
    except TasksFailed as error:
        raise DataError(str(error)) from None
    check_ids_exist(listed, {found for result in results.values() for found in result["ids"]})

    # All together.
    parts = [name for result in results.values() for name in result["files"]]
    hashes = join_hashes(folder.path / name for name in parts)
    digest = digest_of(hashes)
    path = folder.texts(digest)
    write_atomic(path, hashes.tobytes())
    remove_unlisted(
        folder.path,
        [*parts, path.name, folder.ids.name],
        ["*", "??/*", ".*.partial", "??/.*.partial"],
    )
    return Register(path, digest)


def _is_needed(config: RunConfig) -> bool:
    """Return whether more than the hash of its text decides on which side a document is."""
    sources = [config.sources[name] for name in config.sources_with_text]
    return config.prepare.validation is not None or any(
        source.validation_paths or source.validation_fraction is not None for source in sources
    )


def _hash_decides(config: RunConfig) -> bool:
    """Return whether the hash of a text puts training documents on the same side in every source."""
    default = config.prepare.validation_fraction
    sources = [config.sources[name] for name in config.sources_with_text]
    fractions = {source.held_out_fraction(default) for source in sources}
    return len(fractions) == 1 and all(source.split_by == "text" for source in sources)


def _tasks_of_source(
    config: RunConfig, name: str, files: SourceFiles, ids: IdList | None
) -> Iterator[Task]:
    """Yield the tasks for the files of a source that may hold something out."""
    yield from _tasks(config, name, files.validation_files, is_validation=True, ids=ids)
    fraction = config.sources[name].held_out_fraction(config.prepare.validation_fraction)
    if ids is not None or (fraction > 0 and not _hash_decides(config)):
        yield from _tasks(config, name, files.files, is_validation=False, ids=ids)


def _tasks(
    config: RunConfig,
    name: str,
    files: Sequence[InputFile],
    is_validation: bool,
    ids: IdList | None,
) -> Iterator[Task]:
    settings = read_settings(config, name, is_validation)
    digest = None if ids is None else ids.digest
    for group in group_files(files):
        key = f"{name}~{group.key}"
        yield Task(
            name=key,
            function=find_held_out,
            arguments={
                "folder": HeldOutFolder(data_folder(config).documents),
                "key": key,
                "files": group.files,
                "settings": settings,
                "ids": ids,
            },
            fingerprint=fingerprint(
                [
                    versions.PREPARE,
                    settings.inputs,
                    digest,
                    [file.identity for file in group.files],
                ]
            ),
            size=sum(file.size for file in group.files),
        )

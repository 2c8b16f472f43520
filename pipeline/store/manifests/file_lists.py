"""The files of a stage that has very many, in one list for each source beside the manifest.

The manifest of 100,000 shards of tokens would be 40 MB of JSON, written anew when one source
changes. So above MOST_FILES_IN_MANIFEST, `<source>/.files.json` lists the files of that source,
and the manifest holds the digest of each list. A list that stays the same is not written again.
Readers see one mapping of all files, as in a manifest that holds them itself.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from pipeline.errors import DataError
from pipeline.store.files import fingerprint, read_json, write_json
from pipeline.store.layout import FILE_LIST
from pipeline.store.records import CountsT, ListedFile, Manifest

MOST_FILES_IN_MANIFEST = 2_000
"""Files that a manifest lists itself."""


class FileList(TypedDict):
    """Content of a list."""

    digest: str
    """Hash of `files`."""
    files: dict[str, ListedFile]
    """Path below the stage's folder -> size and checksum of the file."""


def write_with_lists(path: Path, manifest: Manifest[CountsT]) -> None:
    """Write a stage's manifest, after the lists of its files where it has very many."""
    # Only files in the folder of a source can be listed there.
    own: dict[str, ListedFile] = {}
    by_source: dict[str, dict[str, ListedFile]] = {}
    is_divided = len(manifest["files"]) > MOST_FILES_IN_MANIFEST
    for name, record in manifest["files"].items():
        source, _, below = name.partition("/")
        if is_divided and below:
            by_source.setdefault(source, {})[name] = record
        else:
            own[name] = record

    # Lists of sources that are gone, or whose files the manifest holds itself again.
    for old in path.parent.glob(f"*/{FILE_LIST}"):
        if old.parent.name not in by_source:
            old.unlink()

    # The manifest comes last, and tells which lists are its own.
    if not by_source:
        write_json(path, manifest)
        return
    digests = {source: fingerprint(files) for source, files in by_source.items()}
    for source, files in by_source.items():
        content: FileList = {"digest": digests[source], "files": files}
        if _list_with_digest(path.parent / source / FILE_LIST, digests[source]) is None:
            write_json(path.parent / source / FILE_LIST, content)
    write_json(path, {**manifest, "file_lists": digests, "files": own})


def read_with_lists(path: Path) -> Manifest[Any] | None:
    """Return a stage's manifest with all its files, or None where there is none.

    Raises DataError where it is damaged, or a list is missing, damaged or another manifest's.
    """
    manifest = read_json(path)
    if manifest is None:
        return None
    digests: dict[str, str] = manifest.pop("file_lists", {})
    for source, digest in digests.items():
        files = path.parent / source / FILE_LIST
        content = _list_with_digest(files, digest)
        if content is None:
            raise DataError(
                f"{files}: is not the list of files that {path} was written with. Delete {path}; "
                "the command that wrote it finds its finished work and writes both again."
            )
        manifest["files"] |= content["files"]
    return manifest


def _list_with_digest(path: Path, digest: str) -> FileList | None:
    """Return the list with this digest; None where it is missing, damaged or another one."""
    with suppress(DataError, KeyError, TypeError):
        content: FileList | None = read_json(path)
        if content is not None and content["digest"] == digest and "files" in content:
            return content
    return None

"""The files that a URL of a run file gives: listed once in a process, with what identifies each.

Talks to servers; opens no file.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from pipeline.config.urls import Url
from pipeline.corpus.remote.connection import (
    ANSWER_SECONDS,
    LISTING_SECONDS,
    NoAnswer,
    ask,
    path_in,
)
from pipeline.errors import DataError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Info: TypeAlias = Mapping[str, object]
"""What fsspec says about a file: name, type, size, and keys of its file system's own."""
BUCKET_SCHEMES = ("s3", "s3a", "gs", "gcs")
"""Schemes whose URLs begin with a bucket."""
IDENTITIES = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "content_md5",
    "Content-MD5",
    "blob_id",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "updated",
    "mtime",
    "created",
)
"""Keys of an `Info` that change with the content, the surest first. Sources: s3fs, gcsfs, adlfs,
huggingface_hub, and fsspec's http and memory."""


@dataclass(frozen=True)
class ServerFile(Url):
    """The URL of a file, with its size and identity when it was listed."""

    size: int
    """Bytes."""
    version: str
    """What changes with the content, such as `ETag 9a03...`; empty where the server offers nothing."""


@dataclass(frozen=True)
class Listed:
    """A file that an entry of `paths` gives."""

    file: ServerFile
    below: str | None
    """Path relative to the searched folder, or to the folder where the glob begins; None where the
    entry is the file itself."""
    match: Url
    """The match of the entry that gave the file: itself, or a folder."""


@dataclass(frozen=True)
class Listing:
    """What an entry of `paths` gives, before any choice by name."""

    base: Url
    """Folder where the entry begins: that of a file or folder, or of a glob's first magic part."""
    files: Sequence[Listed]
    missing: str = ""
    """What is not there where nothing has the name of the entry, such as `the bucket corpora`."""


@dataclass(frozen=True)
class FolderNames:
    """What lies directly in a folder, by name, sorted; hidden names left out."""

    folders: Sequence[str]
    files: Sequence[str]


_listings: dict[Url, Listing | DataError] = {}
_names: dict[Url, FolderNames] = {}
_silent: dict[Url, NoAnswer] = {}
"""Buckets and hosts that did not answer: no other of their URLs is waited for."""
_lock = threading.Lock()


def forget_listings() -> None:
    """Let the next question about a URL go to its server again."""
    with _lock:
        _listings.clear()
        _names.clear()
        _silent.clear()


def list_url(entry: Url) -> Listing:
    """Return the files of an entry of `paths`, listed once in this process.

    So a command goes by one state of the server, and its stages ask it once. No files where
    nothing has that name. Raises Unreachable where the server does not answer or refuses to, and
    DataError for an unknown scheme; also these are asked once.
    """
    with _lock:
        known = _listings.get(entry)
        if known is None:
            known = _silent.get(_bucket_of(entry))
        if known is None:
            try:
                known = _ask_for(entry)
            except DataError as error:
                known = error
                if isinstance(error, NoAnswer):
                    _silent[_bucket_of(entry)] = error
            _listings[entry] = known
    if isinstance(known, DataError):
        raise known
    return known


def names_at(folder: Url) -> FolderNames:
    """Return what lies directly in a folder, asked for once in this process.

    Nothing where it does not exist. Raises Unreachable where the server does not answer or refuses
    to.
    """

    def request(system: "AbstractFileSystem", path: str) -> list[Info]:
        system.invalidate_cache()
        return system.ls(path, detail=True)

    with _lock:
        names = _names.get(folder)
        silent = _silent.get(_bucket_of(folder))
    if names is not None:
        return names
    if silent is not None:
        raise silent
    try:
        # A server that is silent is given up soon; a long list may take its time.
        status_of(folder)
        entries = ask(folder, LISTING_SECONDS, request)
    except (FileNotFoundError, NotADirectoryError):
        entries = []
    except NoAnswer as error:
        with _lock:
            _silent[_bucket_of(folder)] = error
        raise
    folders: list[str] = []
    files: list[str] = []
    for entry in entries:
        name = str(entry["name"]).rstrip("/").rpartition("/")[2]
        if not name.startswith("."):
            (folders if entry["type"] == "directory" else files).append(name)
    names = FolderNames(sorted(folders), sorted(files))
    with _lock:
        _names[folder] = names
    return names


def version_of(info: Info) -> str:
    """Return what identifies the content of a file, by the first key that its file system has."""
    for key in IDENTITIES:
        value = info.get(key)
        if isinstance(value, datetime):
            # Listings and single answers may have the same time in two zones.
            return f"{key} {value.timestamp():.6f}"
        if value:
            return f"{key} {str(value).strip(chr(34))}"
    return ""


def status_of(url: Url) -> Info:
    """Return what the server says about a file or folder now. Raises FileNotFoundError."""

    def request(system: "AbstractFileSystem", path: str) -> Info:
        system.invalidate_cache()
        return system.info(path)

    return ask(url, ANSWER_SECONDS, request)


def _ask_for(entry: Url) -> Listing:
    # A name with magic characters that exists is not a pattern.
    status: Info | None = None
    if not entry.is_pattern or _may_be_literal(entry):
        try:
            status = status_of(entry)
        except FileNotFoundError:
            if not entry.is_pattern:
                return Listing(entry.parent, [], _missing_part(entry))
    if status is None:
        return _expand_glob(entry)
    if status["type"] != "directory":
        file = _server_file(entry, status)
        return Listing(entry.parent, [Listed(file, None, entry)])
    return Listing(entry.parent, _files_in(entry, entry))


def _may_be_literal(entry: Url) -> bool:
    """Tell whether an entry with magic characters can be the name of a file: `**` never is meant so."""
    return "*" not in entry.text


def _expand_glob(entry: Url) -> Listing:
    base = _first_folder(entry)

    def request(system: "AbstractFileSystem", path: str) -> tuple[str, dict[str, Info]]:
        system.invalidate_cache()
        return path_in(system, base), system.glob(path, detail=True)  # pyright: ignore[reportReturnType]

    try:
        root, matches = ask(entry, LISTING_SECONDS, request)
    except FileNotFoundError:
        return Listing(base, [], _missing_part(entry))
    if not matches:
        return Listing(base, [], _missing_part(entry))
    files: list[Listed] = []
    for path, info in sorted(matches.items()):
        url = base / _below(path, root)
        # As in a shell, `*` stands for no dot at the beginning of a name.
        if "/." in url.text and "/." not in entry.text:
            continue
        if info["type"] == "directory":
            files += _files_in(url, base)
        elif not path.endswith("/"):
            files.append(Listed(_server_file(url, info), _below(path, root), url))
    # `**` gives a folder and the files in it.
    once = {each.file.text: each for each in reversed(files)}
    return Listing(base, sorted(once.values(), key=lambda each: each.file.text))


def _bucket_of(url: Url) -> Url:
    """Return the bucket, or the host, that a URL begins with."""
    return Url("/".join(url.text.split("/", 3)[:3]))


def _missing_part(entry: Url) -> str:
    """Return the bucket where it does not exist, else nothing."""
    bucket = _bucket_of(entry)
    if entry.scheme not in BUCKET_SCHEMES:
        return ""
    try:
        status_of(bucket)
    except FileNotFoundError:
        return f"the bucket {bucket.name}"
    except DataError:
        # Not everybody who reads an object may ask for the bucket.
        pass
    return ""


def _files_in(folder: Url, base: Url) -> list[Listed]:
    """Return all files below a folder; `base`: where paths `below` start."""

    def request(system: "AbstractFileSystem", path: str) -> tuple[str, str, dict[str, Info]]:
        system.invalidate_cache()
        found = system.find(path, detail=True)
        return path, path_in(system, base), found  # pyright: ignore[reportReturnType]

    root, base_root, found = ask(folder, LISTING_SECONDS, request)
    files: list[Listed] = []
    for path, info in sorted(found.items()):
        # Some programs leave an object without bytes for a folder.
        if path.endswith("/") or info["type"] == "directory":
            continue
        file = _server_file(folder / _below(path, root), info)
        files.append(Listed(file, _below(path, base_root), folder))
    return files


def _server_file(url: Url, info: Info) -> ServerFile:
    """Return a file with its identity. Raises DataError where the server does not state its size."""
    version = version_of(info)
    if info.get("size") is None or not version:
        # Listings of web servers hold names alone.
        info = status_of(url)
        version = version_of(info)
    size = info.get("size")
    if not isinstance(size, int):
        raise DataError(
            f"{url}: the server does not state the size of the file, so parts of it cannot be read. "
            "Download it, and name the copy."
        )
    return ServerFile(url.text, size, version)


def _first_folder(entry: Url) -> Url:
    """Return the folder where a pattern begins: the deepest one without a magic character."""
    folder = entry
    while folder.is_pattern:
        folder = folder.parent
    return folder


def _below(path: str, root: str) -> str:
    """Return a path relative to a folder, both as the file system spells them."""
    return path.removeprefix(root).lstrip("/")

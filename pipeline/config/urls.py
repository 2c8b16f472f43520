"""URLs of raw files, as a run file has them in the `paths` of a source.

Reads nothing. A `file://` URL is a path of this machine; any other names a file, a folder or a glob
of a file system that fsspec knows.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]*)://(?P<rest>.*)", re.DOTALL)
"""A URL with its scheme. A path of one machine has no `://`."""
WEB_SCHEMES = ("http", "https")
"""Schemes whose URLs may end in a query, `?key=value`, which is no part of the file's name."""


@dataclass(frozen=True)
class Url:
    """The URL of a file, a folder or a glob."""

    text: str
    """The whole URL, without a slash at its end."""

    def __str__(self) -> str:
        """Return the URL for messages: a query, which may hold a signature, is left out."""
        path, query = self._parts()
        if query:
            return f"{path}?..."
        return path

    @property
    def scheme(self) -> str:
        """Name of the file system in lower case, such as `s3`."""
        return self.text.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self._parts()[0].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Suffix of the name, such as `.gz`; empty where it has none."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        """The folder that holds it."""
        return Url(self._parts()[0].rpartition("/")[0])

    @property
    def is_pattern(self) -> bool:
        """Whether the path has a magic character of globs."""
        magic = "*?["
        if self.scheme in WEB_SCHEMES:
            magic = "*["
        return any(character in self._parts()[0] for character in magic)

    def __truediv__(self, below: str) -> "Url":
        return Url(f"{self._parts()[0]}/{below}")

    def _parts(self) -> tuple[str, str]:
        """Return the URL up to its query, and the query."""
        if self.scheme not in WEB_SCHEMES:
            return self.text, ""
        path, _, query = self.text.partition("?")
        return path, query


class UrlText(str):
    """A URL in the dump of settings: text that is told apart from other text as a location."""


RawPath: TypeAlias = Path | Url
"""The path of a raw file: on this machine, or on a server."""


def is_url(location: str) -> bool:
    """Tell whether a location of a run file is a URL."""
    return URL.match(location) is not None


def parse_url(location: str) -> RawPath:
    """Return the URL, or the path that a `file://` URL stands for.

    Raises ValueError for a URL without a bucket or host, for one that chains several (`::`), for
    one that holds a password, and for a `file://` URL of another host or without an absolute path.
    """
    parts = URL.match(location)
    assert parts is not None, f"{location} is no URL"
    rest = parts["rest"].rstrip("/")
    if "::" in location:
        raise ValueError(
            "chains several URLs with `::`, which may copy whole files to this disk; name one URL"
        )
    if parts["scheme"].lower() == "file":
        path = rest.removeprefix("localhost")
        if not path.startswith("/"):
            raise ValueError("names no absolute path of this machine; write file:///FOLDER/FILE")
        return Path(path)
    host = rest.partition("/")[0]
    if not host:
        raise ValueError(
            f"names no bucket or host; write {parts['scheme']}://BUCKET/FOLDER or .../FILE"
        )
    if re.search(r":[^/]*@", host):
        raise ValueError(
            "holds a password, which manifests would repeat; leave it out, and set credentials by "
            "environment variables"
        )
    # As fsspec looks for it.
    return Url(f"{parts['scheme'].lower()}://{rest}")

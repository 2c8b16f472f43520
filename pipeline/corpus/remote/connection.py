"""The file systems of URLs, by fsspec: opened, asked within a time limit, their errors in words.

Talks to servers; reads and writes no file of this machine. fsspec is imported when the first URL is
used.
"""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config.urls import WEB_SCHEMES, Url
from pipeline.errors import DataError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

ANSWER_SECONDS = 60.0
"""Time in which a server must answer one request: status of a file, or the bytes of one range."""
LISTING_SECONDS = 1800.0
"""Time in which a server must list a folder. A listing of S3 comes in pages of 1,000 names, so that
of a million files takes minutes."""
CONNECT_SECONDS = 10
"""Time in which a connection must be made, where the library can be told."""


@dataclass(frozen=True)
class Scheme:
    """What messages say about a file system."""

    package: str
    """What to install."""
    credentials: str
    """Environment variables that hold its credentials."""
    endpoint: str = ""
    """Environment variable that names another server; empty where there is none."""


_S3 = Scheme(
    "s3fs",
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE); for a public bucket "
    "FSSPEC_S3_ANON=true",
    "AWS_ENDPOINT_URL",
)
_GOOGLE = Scheme(
    "gcsfs", "GOOGLE_APPLICATION_CREDENTIALS; for a public bucket FSSPEC_GS_TOKEN=anon"
)
_AZURE = Scheme("adlfs", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY")
_HUB = Scheme("huggingface_hub", "HF_TOKEN", "HF_ENDPOINT")
_WEB = Scheme("aiohttp", "no variable: the file must be readable by everybody")
SCHEMES: Mapping[str, Scheme] = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "hf": _HUB,
    "http": _WEB,
    "https": _WEB,
}
"""Schemes whose packages and variables are known by name. fsspec knows others."""
OTHER_SCHEME = Scheme("", "the variables that its package documents")
NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "LocalTokenNotFoundError",
)
"""Names of the errors of botocore, google.auth and huggingface_hub for credentials that are missing."""
NO_CONNECTION = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ClientConnectorError",
    "ClientConnectionError",
    "ServerDisconnectedError",
    "OfflineModeIsEnabled",
    "ConnectError",
)
"""Names of the errors of botocore, aiohttp, httpx and huggingface_hub for a server that is not
reached."""


NO_RANGES = "range requests"
"""Words in fsspec's error for a web server that sends no parts of files."""


class Unreachable(DataError):
    """A server does not answer or refuses to, so that nothing is known about its files."""


class NoAnswer(Unreachable):
    """A server does not answer at all: it will answer for no other URL either."""


def filesystem(url: Url) -> "AbstractFileSystem":
    """Return the file system of a URL; one object for all URLs with the same settings.

    Raises DataError where fsspec does not know the scheme, and Unreachable where its package is not
    installed or cannot be used as it is set up here.
    """
    try:
        import fsspec
        import fsspec.config
    except ImportError:
        raise Unreachable(f"{url} needs fsspec: pip install fsspec") from None
    if url.scheme not in fsspec.available_protocols():
        raise DataError(
            f"{url}: fsspec knows no {url.scheme}://. Correct the URL, or install the package that "
            "provides it."
        )
    try:
        named = fsspec.get_filesystem_class(url.scheme)._get_kwargs_from_urls(url.text)  # pyright: ignore[reportPrivateUsage]
        return fsspec.filesystem(url.scheme, **named, **_options(url, fsspec.config.conf))
    except ImportError as error:
        known = SCHEMES.get(url.scheme)
        if known is None:
            raise Unreachable(f"{url}: {one_line(error)}") from None
        raise Unreachable(
            f"{url}: {url.scheme}:// needs a package that is not installed: pip install "
            f"{known.package} (all workers need it)."
        ) from None
    except Exception as error:
        raise explained(url, error) from None


def ask(url: Url, seconds: float, request: "Callable[[AbstractFileSystem, str], Answer]") -> Answer:
    """Return `request(file system, path)`. Raises FileNotFoundError, and Unreachable without answer.

    The time limit holds whatever the library does: a request that is not answered is left to its
    thread, which does not keep the process.
    """
    system = filesystem(url)
    answers: queue.SimpleQueue[tuple[Answer | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((request(system, path_in(system, url)), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True, name=f"request to {url.scheme}").start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise explained(url, TimeoutError(f"no answer within {seconds:g} s")) from None
    if error is None:
        return answer  # pyright: ignore[reportReturnType]
    cause = error
    if url.scheme in WEB_SCHEMES and isinstance(error, FileNotFoundError):
        # fsspec calls any error of a web server that.
        cause = error.__cause__ or error
    is_missing = getattr(cause, "status", 404) in (404, 410) and isinstance(
        error, FileNotFoundError
    )
    if is_missing or isinstance(error, MemoryError | DataError):
        raise error
    raise explained(url, cause) from error


def path_in(system: "AbstractFileSystem", url: Url) -> str:
    """Return the path of a URL as its file system spells it."""
    return str(system._strip_protocol(url.text))  # pyright: ignore[reportPrivateUsage]


def explained(url: Url, error: BaseException) -> Unreachable:
    """Return what went wrong with a request, and a remedy."""
    scheme = SCHEMES.get(url.scheme, OTHER_SCHEME)
    name = type(error).__name__
    reason = " ".join(str(error).split())[:300] or name
    if name in NO_CREDENTIALS:
        return Unreachable(
            f"{url}: there are no credentials for {url.scheme}:// ({reason}). Set "
            f"{scheme.credentials}."
        )
    if isinstance(error, PermissionError) or getattr(error, "status", 0) in (401, 403):
        return Unreachable(
            f"{url}: access is denied ({reason}). Correct the credentials, or the rights of their "
            f"owner: {scheme.credentials}."
        )
    if scheme is _WEB and NO_RANGES in reason:
        return Unreachable(
            f"{url}: its server sends a file as a whole only, and parts of it are read. Download "
            "the file, and name the copy."
        )
    if isinstance(error, TimeoutError | ConnectionError) or name in NO_CONNECTION:
        return NoAnswer(f"{url} does not answer ({reason}). {_remedy(scheme)}")
    return Unreachable(f"{url} cannot be read ({name}: {reason}). {_remedy(scheme)}")


def _remedy(scheme: Scheme) -> str:
    remedy = "Check the URL and this machine's network"
    if scheme.endpoint:
        value = os.environ.get(scheme.endpoint)
        stated = "is not set"
        if value:
            stated = f"is {value}"
        remedy += f"; {scheme.endpoint}, which names another server, {stated}"
    return f"{remedy}. Then run the same command again."


def _options(url: Url, configured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of a file system that decide for how long it waits.

    `configured`: the user's own settings of fsspec, which stay.
    """
    if SCHEMES.get(url.scheme) is not _S3:
        return {}
    own: Mapping[str, Any] = configured.get(url.scheme, {}).get("config_kwargs", {})
    limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS}
    return {"config_kwargs": {**limits, **own}}

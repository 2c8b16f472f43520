"""What is asked of file systems: their packages, their time limits, and their errors in words."""

import subprocess
import sys
import time
from typing import Any

import pytest

from pipeline.config.urls import Url
from pipeline.corpus.remote.connection import Unreachable, ask, explained, filesystem
from pipeline.errors import DataError


def test_a_scheme_without_its_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("gcsfs", "gcsfs.core"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unreachable, match=r"^gs://b/x: gs:// needs a package .*pip install gcsfs"):
        filesystem(Url("gs://b/x"))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(DataError, match=r"^telepathy://b/x: fsspec knows no telepathy://"):
        filesystem(Url("telepathy://b/x"))


def test_a_request_that_is_not_answered_ends_at_its_time_limit() -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=r"memory://b/x does not answer \(no answer within 0.1 s"):
        ask(Url("memory://b/x"), 0.1, lambda system, path: time.sleep(2))
    assert time.monotonic() - begun < 1.5


class NoCredentialsError(Exception):
    """Named like botocore's."""


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("s3://b/x", NoCredentialsError("none"), "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (
            "s3://b/x",
            PermissionError("Forbidden"),
            "access is denied (Forbidden). Correct the cred",
        ),
        ("gs://b/x", PermissionError("no"), "GOOGLE_APPLICATION_CREDENTIALS"),
        ("hf://datasets/o/n", PermissionError("gated"), "HF_TOKEN"),
        ("s3://b/x", ConnectionResetError("reset"), "does not answer (reset). Check the URL and"),
        ("other://b/x", ValueError("odd"), "other://b/x cannot be read (ValueError: odd)"),
    ],
)
def test_an_error_comes_with_its_remedy(url: str, error: Exception, words: str) -> None:
    assert words in str(explained(Url(url), error))


@pytest.mark.parametrize(
    ("status", "raised"), [(404, FileNotFoundError), (403, Unreachable), (500, Unreachable)]
)
def test_a_web_server_is_asked_by_its_status(status: int, raised: type[Exception]) -> None:
    class Refused(Exception):
        def __init__(self, status: int) -> None:
            self.status = status

    def request(system: Any, path: str) -> None:
        raise FileNotFoundError(path) from Refused(status)

    with pytest.raises(raised):
        ask(Url("https://h.org/x"), 5, request)


@pytest.mark.ranks
def test_fsspec_is_imported_for_urls_only() -> None:
    code = (
        "import sys; import pipeline.corpus.prepare; from pathlib import Path; "
        "from pipeline.config.kinds import SOURCE_KINDS; "
        f"SOURCE_KINDS['text'].search('web', [Path({__file__!r})]); "
        "sys.exit('fsspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Facts on which a result depends besides the settings: versions, commit, command, machine.

Also the one function that reads the package's own environment variables, `PIPELINE_...`.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline.store.records import Environment, GitState

LIBRARIES = (
    "torch",
    "deepspeed",
    "transformers",
    "datasets",
    "tokenizers",
    "sentencepiece",
    "gigatoken",
    "lm_eval",
    "pyarrow",
)


def user_variable(name: str) -> str | None:
    """Return the value of an environment variable; None where it is not set or is empty.

    `NAME= pipeline ...` is how a shell takes a variable back for one command.
    """
    return os.environ.get(name) or None


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return library -> version for the given libraries that are installed."""
    # Not at the top: every command imports this module, few ask for versions.
    import importlib.metadata

    versions: dict[str, str] = {}
    for library in libraries:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return versions


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return versions, commit, command and machine of this process."""
    return {
        "command": " ".join(["pipeline", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": library_versions(LIBRARIES),
        "git": git_state(),
    }


def git_state() -> GitState | None:
    """Return the commit of this code and whether it was changed; None outside a repository.

    git may take its time: with a limit, the same result would name its commit on an idle machine and
    none on a busy one.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str) -> str:
    # Without the lock that `status` takes if it can: it would make a commit of the user fail.
    options = [
        "--no-optional-locks",
        "-C",
        str(Path(__file__).parent),
        "-c",
        "core.fsmonitor=false",
    ]
    command = ["git", *options, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return process.stdout.strip()

"""What a result depends on besides the settings: versions of libraries, the commit, the command,
the machine."""

import importlib.metadata
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


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of those libraries that are installed."""
    versions: dict[str, str] = {}
    for library in libraries:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return versions


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return what a result depends on besides the settings: versions, commit, command, machine."""
    return {
        "command": " ".join(["pipeline", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": library_versions(LIBRARIES),
        "git": git_state(),
    }


def git_state() -> GitState | None:
    """Return the code's commit and whether the work tree differs from it; None outside a
    repository."""
    command = ["git", "-C", str(Path(__file__).parent), "-c", "core.fsmonitor=false"]
    try:
        commit = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changed = subprocess.run(
            [*command, "status", "--porcelain"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changed.stdout.strip())}

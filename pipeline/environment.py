"""What a result depends on besides the settings: versions of libraries, the commit, the command, the machine."""

import importlib.metadata
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

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


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return what a result depends on besides the settings: versions, commit, command, machine."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["pipeline", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git": git_state(),
    }


def git_state() -> dict[str, Any] | None:
    """Return the code's commit and whether the work tree differs from it; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "-c", "core.fsmonitor=false"]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(
            [*command, "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changed.stdout.strip())}

"""Folders of checkpoints: their names, manifests, and which of them are complete. Free of torch."""

import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, fingerprint, read_json, write_atomic, write_json
from pipeline.errors import DataError

PARTIAL = ".partial"
"""What is being written, or was when it was killed."""
LATEST = "latest"
"""Names the newest checkpoint, for people and other programs. What a resume goes by are the checkpoints themselves."""


def name_of(step: int) -> str:
    """Return a checkpoint's folder name, which sorts by step."""
    return f"step_{step:08d}"


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(checkpoint.name.partition("_")[2])


def write_checkpoint_manifest(checkpoint: Path, manifest: Mapping[str, Any]) -> None:
    """Make a folder with a checkpoint's files a checkpoint. The manifest holds a checksum of itself."""
    write_json(checkpoint / MANIFEST, {**manifest, "checksum": fingerprint(manifest)})


def read_checkpoint_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return what the manifest says. Raises DataError where it is missing or is not what was written."""
    manifest = read_json(checkpoint / MANIFEST)
    if manifest is None:
        raise DataError(f"{checkpoint}: has no {MANIFEST}")
    if not isinstance(manifest, dict) or manifest.pop("checksum", None) != fingerprint(manifest):
        raise DataError(f"{checkpoint / MANIFEST}: is not what was written")
    return manifest


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints with a sound manifest, oldest first."""
    return [path for path in _folders(folder) if not _flaw(path)]


def broken_checkpoints(folder: Path) -> dict[Path, str]:
    """Return the folders that have a checkpoint's name and no sound manifest, and what is wrong: damaged, or half deleted."""
    return {path: flaw for path in _folders(folder) if (flaw := _flaw(path))}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step_*") if path.is_dir() and path.name[5:].isdigit())


def _flaw(checkpoint: Path) -> str | None:
    try:
        read_checkpoint_manifest(checkpoint)
    except DataError:
        return f"its {MANIFEST} is damaged" if (checkpoint / MANIFEST).is_file() else f"has no {MANIFEST}"
    return None


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; under another name, so that a half-deleted folder is none and the next start removes it."""
    grave = checkpoint.parent / PARTIAL / f"removed_{checkpoint.name}_{secrets.token_hex(4)}"
    grave.parent.mkdir(exist_ok=True)
    checkpoint.rename(grave)
    shutil.rmtree(grave)
    with suppress(OSError):  # others are in it
        grave.parent.rmdir()


def point_to(checkpoint: Path) -> None:
    """Let `latest` beside a checkpoint name it."""
    write_atomic(checkpoint.with_name(LATEST), checkpoint.name + "\n")


def pointed_at(folder: Path) -> str | None:
    """Return the name in `latest`, None where there is no such file."""
    try:
        return (folder / LATEST).read_text(errors="replace").strip()
    except OSError:
        return None

"""Folders of checkpoints: reads and writes their manifests and `latest`. Imports no torch."""

import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from pipeline.errors import DataError, UserError, is_missing
from pipeline.store.files import fingerprint, write_atomic, write_json
from pipeline.store.layout import (
    MANIFEST,
    checkpoint_folders,
    checkpoint_name,
    checkpoint_step,
    latest_path,
    manifest_path,
    unfinished_checkpoints,
)
from pipeline.store.records import CheckpointManifest, Json

MANIFEST_BYTES = 64 << 20
"""Maximum size of a manifest. A save writes some 130 bytes per file, and two files per rank."""
MOST_ZERO_STAGE = 3
OTHER_ENTRIES: dict[str, type[dict[str, Any] | str | list[str]]] = {
    "model": dict,
    "tokenizer": str,
    "lineage": list,
}
"""Other entries of a manifest, and their types."""
NAME_CHARACTERS = 80
"""Characters of a name from a manifest that a message prints."""


def write_checkpoint_manifest(checkpoint: Path, manifest: CheckpointManifest) -> None:
    """Write the manifest, with a checksum of itself, which makes a folder a checkpoint."""
    write_json(manifest_path(checkpoint), {**manifest, "checksum": fingerprint(manifest)})


def read_checkpoint_manifest(checkpoint: Path) -> CheckpointManifest:
    """Return the manifest of a checkpoint.

    Raises DataError where the manifest is missing, was changed after it was written, or describes
    what no save writes; OSError where the disk fails.
    """
    path = manifest_path(checkpoint)
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise DataError(
                f"{path}: has more than {MANIFEST_BYTES:,} bytes; it is not what was written"
            )
        manifest = _parsed(path)
    except OSError as error:
        if not is_missing(error):
            raise
        raise DataError(f"{checkpoint}: has no {MANIFEST}") from None
    if not _is_as_written(manifest):
        raise DataError(f"{path}: is not what was written")
    flaw = _manifest_flaw(manifest)
    if flaw:
        raise DataError(f"{path}: {flaw}; no save has written it")
    return manifest


def _parsed(path: Path) -> Any:
    """Return a file's JSON value, None where the file holds none; its type is checked later."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _is_as_written(manifest: Json) -> bool:
    """Remove a manifest's checksum of itself, and tell whether the checksum is right."""
    return isinstance(manifest, dict) and manifest.pop("checksum", None) == fingerprint(manifest)


def _manifest_flaw(manifest: Mapping[str, Json]) -> str | None:
    """Return the first entry that no save writes, None where all are sound.

    The checksum does not protect from it: whoever writes a manifest also writes the checksum.
    """
    # Counts come first, as the size of what is read later depends on them.
    state = manifest.get("state")
    if (
        not isinstance(state, dict)
        or not _is_count(state.get("step"))
        or not _is_count(state.get("tokens"))
    ):
        return "state.step or state.tokens is not a count"
    ranks = manifest.get("ranks")
    if not _is_count(ranks) or ranks == 0:
        return "ranks is not a count"
    zero_stage = manifest.get("zero_stage")
    if not _is_count(zero_stage) or zero_stage > MOST_ZERO_STAGE:
        return "zero_stage is none"
    for name, kind in OTHER_ENTRIES.items():
        if not isinstance(manifest.get(name, kind()), kind):
            return f"{name} is a {type(manifest[name]).__name__}"
    # Last the files, one by one.
    files = manifest.get("files")
    if not isinstance(files, dict):
        return "files is not an object"
    for name, record in files.items():
        # A name must lead to a file in the folder and nowhere else.
        if name != Path(name).name or "\0" in name or name in ("", "..", MANIFEST):
            return f"files names {ascii(name)[:NAME_CHARACTERS]}, which is no file of its own"
        if not _is_file_record(record):
            return f"files has no size and checksum of {ascii(name)[:NAME_CHARACTERS]}"
    return None


def _is_file_record(record: Json) -> bool:
    return (
        isinstance(record, dict)
        and _is_count(record.get("bytes"))
        and isinstance(record.get("checksum"), str)
    )


def _is_count(value: Json) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints with a sound manifest, oldest first."""
    return [path for path in checkpoint_folders(folder) if not _flaw(path)]


def broken_checkpoints(folder: Path) -> dict[Path, str]:
    """Return what is wrong with each folder that has a checkpoint's name and no sound manifest.

    Such a folder is damaged or half deleted.
    """
    flaws = {path: _flaw(path) for path in checkpoint_folders(folder)}
    return {path: flaw for path, flaw in flaws.items() if flaw is not None}


def checkpoint_of_step(folder: Path, step: int | None) -> Path:
    """Return the complete checkpoint of a step, by default the newest one.

    Raises UserError where there is none; the message lists the steps that there are.
    """
    complete = complete_checkpoints(folder)
    if step is None:
        if not complete:
            raise UserError(f"{folder}: holds no complete checkpoint")
        return complete[-1]
    chosen = folder / checkpoint_name(step)
    if chosen in complete:
        return chosen
    flaw = broken_checkpoints(folder).get(chosen, "no such checkpoint")
    steps = ", ".join(str(checkpoint_step(path)) for path in complete) or "none"
    raise UserError(f"{chosen}: {flaw}; complete checkpoints exist for step {steps}")


def _flaw(checkpoint: Path) -> str | None:
    try:
        read_checkpoint_manifest(checkpoint)
    except DataError:
        if manifest_path(checkpoint).is_file():
            return f"its {MANIFEST} is damaged"
        return f"has no {MANIFEST}"
    return None


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint.

    The folder is renamed first: half deleted it is no checkpoint, and the next start removes it.
    """
    grave = (
        unfinished_checkpoints(checkpoint.parent)
        / f"removed_{checkpoint.name}_{secrets.token_hex(4)}"
    )
    grave.parent.mkdir(exist_ok=True)
    checkpoint.rename(grave)
    shutil.rmtree(grave)
    # The folder above may hold other checkpoints that are being written or removed.
    with suppress(OSError):
        grave.parent.rmdir()


def write_latest(checkpoint: Path) -> None:
    """Write the name of a checkpoint into `latest` beside it."""
    write_atomic(latest_path(checkpoint.parent), checkpoint.name + "\n")


def read_latest(folder: Path) -> str | None:
    """Return the name in `latest`, None where there is no such file."""
    try:
        return latest_path(folder).read_text(errors="replace").strip()
    except OSError:
        return None

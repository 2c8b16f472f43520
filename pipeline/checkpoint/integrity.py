"""A checkpoint's files against its manifest: sizes, then checksums. Free of torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from pipeline.checkpoint.folders import read_checkpoint_manifest
from pipeline.errors import DataError, is_missing
from pipeline.logs import progress
from pipeline.store.files import file_record
from pipeline.store.records import FileRecord


def size_flaw(file: Path, record: FileRecord) -> str | None:
    """Say where a file is missing or has another size than was written. OSError where the disk does
    not tell."""
    try:
        state = file.stat()
    except OSError as error:
        if not is_missing(error):
            raise
        return f"{file.name} is missing"
    if not S_ISREG(state.st_mode):
        return f"{file.name} is no file"
    size = state.st_size
    return (
        None
        if size == record["bytes"]
        else f"{file.name} has {size:,} bytes instead of {record['bytes']:,}"
    )


def content_flaw(file: Path, record: FileRecord) -> str | None:
    """Say where a file has other bytes than were written. OSError where the disk does not tell."""
    flaw = size_flaw(file, record)
    if flaw:
        return flaw
    return None if file_record(file) == record else f"{file.name} has other bytes than were written"


def damaged_files(checkpoint: Path) -> list[str]:
    """Return what differs from a checkpoint's manifest, all bytes read by this process."""
    files = read_checkpoint_manifest(checkpoint)["files"]
    found = []
    done = 0
    with progress(
        checkpoint.name, sum(record["bytes"] for record in files.values()), "bytes"
    ) as update:
        for name, record in files.items():
            flaw = content_flaw(checkpoint / name, record)
            if flaw:
                found.append(flaw)
            done += record["bytes"]
            update(done, name)
    return found


def verify_bytes(checkpoint: Path, remedy: str) -> None:
    """Raise DataError that names what differs from a checkpoint's manifest and ends with `remedy`;
    reads all bytes."""
    damage = damaged_files(checkpoint)
    if damage:
        raise DataError(f"{checkpoint}: is damaged: {', '.join(damage)}. {remedy}")


@contextmanager
def with_remedy(remedy: str) -> Iterator[None]:
    """Let a DataError about a checkpoint's files end with `remedy`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}. {remedy}") from None

"""A checkpoint's files against its manifest: sizes, then checksums. Imports no torch."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from pipeline.checkpoint.folders import read_checkpoint_manifest
from pipeline.errors import DataError, is_missing
from pipeline.logs import progress
from pipeline.store.files import file_record
from pipeline.store.records import FileRecord


def size_flaw(file: Path, record: FileRecord) -> str | None:
    """Return what is wrong with the size of a file, None where nothing is.

    Raises OSError where the disk fails: the file may be good.
    """
    try:
        state = file.stat()
    except OSError as error:
        if not is_missing(error):
            raise
        return f"{file.name} is missing"
    if not S_ISREG(state.st_mode):
        return f"{file.name} is not a file"
    size = state.st_size
    if size != record["bytes"]:
        return f"{file.name} has {size:,} bytes instead of {record['bytes']:,}"
    return None


def content_flaw(file: Path, record: FileRecord) -> str | None:
    """Return what is wrong with the content of a file, None where nothing is; reads all bytes.

    Raises OSError where the disk fails: the file may be good.
    """
    flaw = size_flaw(file, record)
    if flaw:
        return flaw
    if file_record(file) != record:
        return f"{file.name} has content that differs from what was written"
    return None


def damaged_files(checkpoint: Path) -> list[str]:
    """Return how files differ from the checkpoint's manifest; this process reads all bytes."""
    files = read_checkpoint_manifest(checkpoint)["files"]
    flaws: list[str] = []
    done = 0
    with progress(
        checkpoint.name, sum(record["bytes"] for record in files.values()), "bytes"
    ) as update:
        for name, record in files.items():
            flaw = content_flaw(checkpoint / name, record)
            if flaw:
                flaws.append(flaw)
            done += record["bytes"]
            update(done, name)
    return flaws


def verify_bytes(checkpoint: Path, remedy: str) -> None:
    """Raise DataError where files differ from the checkpoint's manifest; reads all bytes.

    The message names the differences and ends with `remedy`.
    """
    damage = damaged_files(checkpoint)
    if damage:
        raise DataError(f"{checkpoint}: is damaged: {', '.join(damage)}. {remedy}")


@contextmanager
def with_remedy(remedy: str) -> Generator[None]:
    """Add `remedy` to the message of a DataError about a checkpoint's files."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}. {remedy}") from None

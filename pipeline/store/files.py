"""Primitives for files: atomic writes, JSON and JSON lines, checksums, temporary names."""

import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from pipeline.errors import DataError
from pipeline.store.records import FileRecord

FILE_MODE = 0o666
"""Who may use a new file, less what the umask takes away: nobody else decides that."""


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside `path` that no other attempt at writing it uses:
    `.name.PID-RANDOM.partial`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def write_atomic(path: Path, content: str | bytes, mode: int = FILE_MODE) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the whole new
    one.

    `mode` is who may use it at most; the umask takes from that, as everywhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Bring a folder's own entries, names made and renamed, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return a JSON file's value, or None where there is no such file. Raises DataError where it is
    broken."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        file = next(folder for folder in reversed(path.parents) if not folder.is_dir())
        raise DataError(
            f"{path}: cannot be there, since {file} is no folder. Give paths.data_dir or "
            "paths.run_dir another one."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Make it readable, then run the same "
            "command again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged ({error}). Delete it to have it made again.") from None


def read_json_lines(path: Path) -> Any:
    """Return the values of a JSON-lines file, none where there is no file. Raises DataError naming
    a broken line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: not valid JSON. Delete that line and run the command "
                "again."
            ) from None
    return rows


def file_record(path: Path, report: Callable[[int], None] | None = None) -> FileRecord:
    """Return `{"bytes", "checksum"}` of a file, read in blocks of 4 MiB; `report` is told the size
    of each."""
    digest = xxhash.xxh3_128()
    size = 0
    with path.open("rb") as file:
        while block := file.read(4 << 20):
            digest.update(block)
            size += len(block)
            if report:
                report(len(block))
    return {"bytes": size, "checksum": digest.hexdigest()}


def fingerprint(value: Any) -> str:
    """Return a 128-bit hash of a JSON value, independent of key order."""
    return xxhash.xxh3_128_hexdigest(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    )


def remove_unlisted(folder: Path, listed: Sequence[str], patterns: Sequence[str]) -> None:
    """Delete files below `folder` that match a pattern and are not listed: left by earlier
    settings."""
    keep = {folder / name for name in listed}
    for pattern in patterns:
        for path in folder.glob(pattern):
            if (path.is_file() or path.is_symlink()) and path not in keep:
                path.unlink()

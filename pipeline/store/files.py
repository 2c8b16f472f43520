"""Primitives for files: atomic writes, JSON and JSON lines, checksums, temporary names."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from pipeline.errors import DataError, UserError, first_items
from pipeline.store.manifests.shard_places import logical_name
from pipeline.store.records import FileRecord, Json, ListedFile, SizedFile, content_of

MOST_NAMED = 5
"""Maximum number of files that a message names as missing or of another size."""
FILE_MODE = 0o666
"""Permissions of a new file before the umask is applied; only the umask restricts them."""


BLOCK_BYTES = 4 << 20
"""Bytes of a file that are read at once for its checksum."""


def temporary_path(path: Path) -> Path:
    """Return a hidden, unique path beside `path`: `.name.PID-RANDOM.partial`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")


def write_atomic(path: Path, content: str | bytes, mode: int = FILE_MODE) -> None:
    """Write a file so that readers, also after a crash, find the old file or the whole new one.

    `mode` are its permissions before the umask is applied.
    """
    if isinstance(content, str):
        content = content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def refuse_unwritable(path: Path, option: str, *, is_folder: bool) -> None:
    """Raise UserError where a file or folder that a command is to write cannot be made.

    `option`: the command's option, for the message. Folders above the path may be missing. Nothing
    stays behind. A folder that exists is taken.
    """
    if path.is_dir() and not is_folder:
        raise UserError(f"{option} {path}: is a folder; give the name of a file")
    if path.exists() and not path.is_dir() and is_folder:
        raise UserError(f"{option} {path}: is a file; give the name of a folder")
    above = [folder for folder in path.absolute().parents if folder.exists()]
    if path.is_dir():
        above = [path]
    nearest = above[0]
    if not nearest.is_dir():
        raise UserError(
            f"{option} {path}: cannot be written, because {nearest} is not a folder; give another path"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {path}: cannot be written, because you may not write in {nearest}; give "
            "another path"
        )
    # Some file systems, such as /proc, refuse a new file only when it is made.
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {path}: cannot be written, because {nearest} takes no new file "
            f"({error.strerror}); give another path"
        ) from None


def output_digest(files: Mapping[str, ListedFile]) -> str:
    """Return the hash of the content of a stage's files, which is its manifest's `output`.

    It is the same whether the files of a source's shards lie in parts of its folder or not.
    """
    return fingerprint({logical_name(name): content_of(record) for name, record in files.items()})


def sync_folder(path: Path) -> None:
    """Write the entries of a folder, such as new and renamed files, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file, or None where there is no such file.

    Raises DataError where the file is broken or cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        file = next(folder for folder in reversed(path.parents) if not folder.is_dir())
        raise DataError(
            f"{path}: cannot exist, because {file} is not a folder. Set paths.data_dir or "
            "paths.run_dir to another folder."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Make it readable, then run the same "
            "command again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: is damaged ({error}). Delete it; the command that wrote it writes it again."
        ) from None


def read_json_lines(path: Path, *, grows: bool = False) -> Any:
    """Return a list of the values in a JSON lines file, empty where there is no such file.

    `grows`: the last line may be one that is being written, or that a crash has torn; it is then
    left out. Raises DataError naming any other broken line.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    lines = text.splitlines()
    if grows and not text.endswith("\n") and lines and not _is_json(lines[-1]):
        lines.pop()
    return [_value_of_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _value_of_line(line: str, where: str) -> Json:
    try:
        return json.loads(line)
    except ValueError:
        raise broken_line(where) from None


def broken_line(where: str) -> DataError:
    """Return the error for a line of JSON that is broken; `where` names it."""
    return DataError(f"{where}: not valid JSON. Delete that line and run the command again.")


def file_record(path: Path, report: Callable[[int], None] | None = None) -> FileRecord:
    """Return size and checksum of a file; `report` is called with the size of each block read."""
    digest = xxhash.xxh3_128()
    size = 0
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if not block:
                break
            digest.update(block)
            size += len(block)
            if report:
                report(len(block))
    return {"bytes": size, "checksum": digest.hexdigest()}


def changed_files(folder: Path, files: Mapping[str, ListedFile | SizedFile]) -> list[str]:
    """Describe the listed files below a folder whose checksum differs. Reads them."""
    wrong: list[str] = []
    for name, record in files.items():
        if "checksum" not in record:
            continue
        try:
            checksum = file_record(folder / name)["checksum"]
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
            continue
        if checksum != record["checksum"]:
            wrong.append(f"{name} has another checksum")
    return wrong


def missing_files(folder: Path, files: Mapping[str, SizedFile]) -> list[str]:
    """Describe listed files that are missing or have another size, the first `MOST_NAMED` by name.

    Reads sizes only.
    """
    wrong: list[str] = []
    for name, record in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            wrong.append(f"missing file: {name}")
            continue
        if size != record["bytes"]:
            wrong.append(f"{name} has {size:,} bytes and not {record['bytes']:,}")
    return first_items(wrong, MOST_NAMED, "files")


def fingerprint(value: Any) -> str:
    """Return a 128-bit hash of a JSON value, in hexadecimal, independent of key order."""
    return xxhash.xxh3_128_hexdigest(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    )


def remove_unlisted(folder: Path, listed: Sequence[str], patterns: Sequence[str]) -> None:
    """Delete files below `folder` that match a pattern and are not listed, left by old settings."""
    keep = {folder / name for name in listed}
    for pattern in patterns:
        for path in folder.glob(pattern):
            if (path.is_file() or path.is_symlink()) and path not in keep:
                path.unlink()

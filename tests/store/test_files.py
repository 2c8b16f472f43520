"""Primitives for files: atomic writes, JSON, checksums, temporary names."""

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from helpers import run_stages

from pipeline.errors import DataError, UserError
from pipeline.store import checksummed_file
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.events import write_event
from pipeline.store.files import (
    changed_files,
    file_record,
    fingerprint,
    read_json,
    refuse_unwritable,
    remove_unlisted,
    temporary_path,
    write_atomic,
    write_json,
)
from pipeline.store.heartbeat import Heartbeat
from pipeline.store.lease import Lease


def test_a_fingerprint_does_not_see_the_order_of_keys() -> None:
    one = {"b": {"y": 1, "x": [1, {"q": 2, "p": 3}]}, "a": None}
    other = {"a": None, "b": {"x": [1, {"p": 3, "q": 2}], "y": 1}}
    assert list(one) != list(other)
    assert fingerprint(one) == fingerprint(other)


def test_fingerprints_tell_values_apart() -> None:
    values = [
        {},
        [],
        None,
        {"a": 1},
        {"a": "1"},
        {"a": 1.5},
        {"a": [1, 2]},
        {"a": [2, 1]},
        {"a": None},
        {"b": 1},
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    # A fingerprint that changed would make everybody's finished stages stale.
    assert fingerprint({"a": 1}) == xxhash.xxh3_128_hexdigest(b'{"a":1}')


def test_a_path_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_unwritable(tmp_path / "new" / "a.html", "--page", is_folder=False)
    refuse_unwritable(tmp_path, "--to", is_folder=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"^--page .*: is a folder; give the name of a file$"):
        refuse_unwritable(tmp_path, "--page", is_folder=False)
    # The superuser may write everywhere, so the system's answer is given here.
    monkeypatch.setattr(os, "access", lambda *_: True)
    with pytest.raises(UserError, match=r"because /proc takes no new file \(.+\); give another"):
        refuse_unwritable(Path("/proc/a.html"), "--page", is_folder=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=f"because you may not write in {tmp_path}; give another"):
        refuse_unwritable(tmp_path / "new" / "a.html", "--page", is_folder=False)


def test_an_atomic_write_replaces_or_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "folder", "x")
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "new"]
    assert read_json(path) == {"a": 1}


def test_reading_json_that_is_missing_or_broken(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": ')
    with pytest.raises(
        DataError,
        match=r"broken\.json: is damaged .* Delete it; the command that wrote it writes it again\.",
    ):
        read_json(broken)


def test_a_file_record_is_its_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    # Source: the XXH3 specification's 128-bit value of the empty input, seed 0.
    assert file_record(path) == {
        "bytes": 0,
        "checksum": "99aa06d3014798d86001c324468d497f",
    }
    big = os.urandom((4 << 20) + 1)  # one byte more than a block
    path.write_bytes(big)
    assert file_record(path) == {
        "bytes": len(big),
        "checksum": xxhash.xxh3_128_hexdigest(big),
    }


def test_files_with_another_checksum_are_named(tmp_path: Path) -> None:
    for name in ("same", "changed", "gone"):
        (tmp_path / name).write_bytes(b"abc")
    files = {name: file_record(tmp_path / name) for name in ("same", "changed", "gone")}
    (tmp_path / "changed").write_bytes(b"abd")
    (tmp_path / "gone").unlink()
    assert changed_files(tmp_path, {**files, "of no known content": {"bytes": 1}}) == [
        "changed has another checksum",
        "gone cannot be read (No such file or directory)",
    ]


def test_a_checksummed_file_records_what_its_sinks_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x"
    file = ChecksummedFile(path)
    assert file.record() == file_record(path)  # of nothing
    assert [
        file.write(content)
        for content in (b"", b"abc", memoryview(b"xdex")[1:3], array("i", [1, 2]))
    ] == [
        0,
        3,
        2,
        8,
    ]
    assert (file.tell(), file.closed) == (13, False)
    file.flush()
    assert path.read_bytes() == b"abcde" + array("i", [1, 2]).tobytes()  # nothing waits for the end
    file.fsync()
    file.close()
    assert file.closed
    assert file.record() == file_record(path)


def test_a_checksummed_file_is_a_sink_for_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"text": ["a" * 5_000_000, "b"]})
    file = ChecksummedFile(path)
    pq.write_table(table, file, compression="none")
    file.close()
    assert file.record() == file_record(path)
    assert pq.read_table(path) == table


@pytest.mark.parametrize("stays_cached", [True, False])
def test_a_file_that_nobody_reads_soon_lets_go_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays_cached: bool
) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(checksummed_file, "PORTION_BYTES", 100)
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: calls.append(("sync", os.fstat(descriptor).st_size))
    )
    monkeypatch.setattr(
        os,
        "posix_fadvise",
        lambda descriptor, *_: calls.append(("drop", os.fstat(descriptor).st_size)),
    )
    content = bytes(range(256)) * 2
    path = tmp_path / "x"
    with ChecksummedFile(path, stays_cached) as file:
        assert [file.write(part) for part in (content[:30], content[30:300], content[300:])] == [
            30,
            270,
            212,
        ]
        assert calls == (
            []
            if stays_cached
            else [(what, n) for n in (130, 230, 400, 500) for what in ("sync", "drop")]
        )
    assert path.read_bytes() == content
    assert file.record() == file_record(path)


def test_a_full_disk_is_an_error_of_the_operating_system() -> None:
    file = ChecksummedFile(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device") as raised:
        file.write(b"x")
    assert (raised.value.errno, file.tell()) == (errno.ENOSPC, 0)
    file.close()


def test_only_unlisted_files_of_the_pattern_are_removed(tmp_path: Path) -> None:
    for name in ("a/1.bin", "a/2.bin", "a/2.txt", "b/3.bin"):
        write_atomic(tmp_path / name, "")
    remove_unlisted(tmp_path, ["a/1.bin"], ["*/*.bin"])
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["a/1.bin", "a/2.txt"]


def test_temporary_names_are_hidden_and_never_the_same(tmp_path: Path) -> None:
    one, other = (temporary_path(tmp_path / "a.bin") for _ in range(2))
    assert one != other
    assert one.name.startswith(f".a.bin.{os.getpid()}-") and one.suffix == ".partial"


@pytest.fixture(params=[0o027, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> set[int]:
    """Return the permissions of all files below a folder."""
    return {
        path.stat().st_mode & 0o777
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_the_umask_decides_who_may_read_what_is_written(tmp_path: Path, umask: int) -> None:
    write_atomic(tmp_path / "new" / "file", "x")
    write_event(tmp_path, "start")
    Heartbeat(tmp_path / "run", 0).beat("x")
    with Lease(tmp_path / "held", "x"):
        assert modes(tmp_path) == {0o666 & ~umask}
    write_atomic(tmp_path / "new" / "file", "x", mode=0o600)
    assert modes(tmp_path / "new") == {0o600}


@pytest.mark.parametrize("umask", [0o002], indirect=True)
def test_stages_write_as_the_umask_says(run_file: Path, umask: int) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], [])
    assert modes(run_file.parent / "data") == {0o666 & ~umask}
    folders = [path for path in (run_file.parent / "data").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o777 & ~umask}


def test_only_a_damaged_file_is_to_be_deleted(tmp_path: Path) -> None:
    """Not what stands in the way of it, and not one that this user may not read, or that is a
    folder."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged").write_text("{")
    (tmp_path / "nested").write_text("[" * 50_000)
    (tmp_path / "loop").symlink_to("loop")
    advice = {}
    for name in (
        "file/data/documents/manifest.json",
        "file/x",
        "folder",
        "loop",
        "damaged",
        "nested",
    ):
        with pytest.raises(DataError) as error:
            read_json(tmp_path / name)
        advice[name] = "elete" in str(error.value)
    assert [name for name, is_deleted in advice.items() if is_deleted] == ["damaged", "nested"]
    with pytest.raises(DataError, match=f"{tmp_path / 'file'} is not a folder"):
        read_json(tmp_path / "file" / "data" / "manifest.json")

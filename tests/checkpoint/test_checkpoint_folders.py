"""Manifests of checkpoints that are garbage, or speak of other things than a checkpoint's files."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import pretend_checkpoint

from pipeline.checkpoint import folders as checkpoint_folders
from pipeline.checkpoint.folders import (
    broken_checkpoints,
    complete_checkpoints,
    read_checkpoint_manifest,
    write_checkpoint_manifest,
)
from pipeline.checkpoint.integrity import damaged_files, verify_bytes
from pipeline.errors import DataError
from pipeline.store.files import file_record, fingerprint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return pretend_checkpoint(tmp_path, 10, 2560)


def is_refused(checkpoint: Path) -> bool:
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_checkpoint_manifest(checkpoint)
    return complete_checkpoints(checkpoint.parent) == [] and [
        *broken_checkpoints(checkpoint.parent)
    ] == [checkpoint]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"7",
        b'{"checksum": null}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
    ],
    ids=lambda content: f"{content[:6]!r}-{len(content)}",
)
def test_garbage_is_no_manifest(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "manifest.json").write_bytes(content)
    assert is_refused(checkpoint)


def test_a_manifest_is_a_file_of_some_size(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_folders, "MANIFEST_BYTES", 50)
    assert is_refused(checkpoint)
    for make in (
        os.mkfifo,
        os.mkdir,
        lambda path: Path(path).symlink_to(path),
    ):  # a FIFO would be waited for
        (checkpoint / "manifest.json").unlink()
        make(checkpoint / "manifest.json")
        assert is_refused(checkpoint)
        if (checkpoint / "manifest.json").is_dir():
            (checkpoint / "manifest.json").rmdir()
            (checkpoint / "manifest.json").touch()


RECORD = {"bytes": 1, "checksum": "0"}


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../step_00000005/probe.npz": RECORD}},
        {"files": {"/etc/hostname": RECORD}},
        {"files": {"..": RECORD}},
        {"files": {"": RECORD}},
        {"files": {"below/probe.npz": RECORD}},
        {"files": {"probe.npz\0": RECORD}},
        {"files": {"manifest.json": RECORD}},
        {"files": {"probe.npz": {"bytes": -1, "checksum": "0"}}},
        {"files": {"probe.npz": {"bytes": 1.0, "checksum": "0"}}},
        {"files": {"probe.npz": {"bytes": 1}}},
        {"files": {"probe.npz": 7}},
        {"files": ["probe.npz"]},
        {"files": None},
        {"ranks": 0},
        {"ranks": "2"},
        {"zero_stage": 4},
        {"zero_stage": [1]},
        {"state": 7},
        {"state": {"step": "10", "tokens": 2560}},
        {"state": {"step": 10}},
        {"lineage": {"run": "x"}},
        {"model": "llama"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_though_its_checksum_is_right(
    checkpoint: Path, change: dict[str, Any]
) -> None:
    write_checkpoint_manifest(checkpoint, read_checkpoint_manifest(checkpoint) | change)
    written = json.loads((checkpoint / "manifest.json").read_text())
    assert written.pop("checksum") == fingerprint(written)
    assert is_refused(checkpoint)


def test_a_link_in_the_place_of_a_file_is_judged_by_what_it_leads_to(checkpoint: Path) -> None:
    (checkpoint / "probe.npz").write_bytes(b"logits")
    record = file_record(checkpoint / "probe.npz")
    write_checkpoint_manifest(
        checkpoint, read_checkpoint_manifest(checkpoint) | {"files": {"probe.npz": record}}
    )
    (checkpoint / "probe.npz").rename(checkpoint.parent / "elsewhere")
    (checkpoint / "probe.npz").symlink_to("../elsewhere")
    assert damaged_files(checkpoint) == []
    (checkpoint.parent / "elsewhere").write_bytes(b"others")
    with pytest.raises(
        DataError, match=r"probe\.npz has content that differs from what was written\. Take another"
    ):
        verify_bytes(checkpoint, "Take another")


def test_a_manifest_that_may_not_be_read_is_no_damage(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run would go back to an older checkpoint, or begin from nothing, because of a right
    that is missing."""

    def fail(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(PermissionError):
        complete_checkpoints(checkpoint.parent)

"""Manifests with very many files: a list for each source, written again only when it changes."""

from pathlib import Path
from typing import Any

import pytest
from helpers import run_stages

from pipeline.config.run_file import load
from pipeline.corpus.documents import listed_shards
from pipeline.errors import DataError
from pipeline.store import artifacts
from pipeline.store.files import read_json
from pipeline.store.layout import FILE_LIST, data_folder, manifest_path
from pipeline.store.manifests.file_lists import read_with_lists, write_with_lists
from pipeline.store.stages import STAGES

LIMIT = "pipeline.store.manifests.file_lists.MOST_FILES_IN_MANIFEST"


def manifest_of(*names: str) -> Any:
    """Return as much of a manifest as lists need."""
    return {"output": "x", "files": {name: {"bytes": 1, "checksum": name} for name in names}}


def test_few_files_stay_in_the_manifest(tmp_path: Path) -> None:
    path = manifest_path(tmp_path)
    manifest = manifest_of("a/1", "a/2", "b/1", "own")
    write_with_lists(path, manifest)
    assert read_json(path) == read_with_lists(path) == manifest
    assert list(tmp_path.rglob(FILE_LIST)) == []
    assert read_with_lists(tmp_path / "absent.json") is None


def test_many_files_are_listed_by_source_and_only_changed_lists_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, 3)
    path = manifest_path(tmp_path)
    write_with_lists(path, manifest_of("a/1", "a/2", "b/1", "own"))
    written = read_json(path)
    assert list(written["files"]) == ["own"]
    assert set(written["file_lists"]) == {"a", "b"}
    together = read_with_lists(path)
    assert together is not None and "file_lists" not in together
    assert set(together["files"]) == {"a/1", "a/2", "b/1", "own"}

    # One more source: the lists of the others are the same files as before.
    before = {name: (tmp_path / name / FILE_LIST).stat().st_ino for name in ("a", "b")}
    write_with_lists(path, manifest_of("a/1", "a/2", "b/2", "c/1", "own"))
    after = {name: (tmp_path / name / FILE_LIST).stat().st_ino for name in ("a", "b")}
    assert before["a"] == after["a"] and before["b"] != after["b"]

    # A damaged list is written again; lists that nobody needs are deleted.
    (tmp_path / "a" / FILE_LIST).write_text("{")
    write_with_lists(path, manifest_of("a/1", "a/2", "c/1", "own"))
    assert set(read_with_lists(path)["files"]) == {"a/1", "a/2", "c/1", "own"}  # type: ignore[index]
    assert not (tmp_path / "b" / FILE_LIST).exists()
    write_with_lists(path, manifest_of("a/1"))
    assert list(tmp_path.rglob(FILE_LIST)) == []


def test_a_list_of_another_manifest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, 1)
    path = manifest_path(tmp_path)
    write_with_lists(path, manifest_of("a/1", "a/2"))
    old = path.read_bytes()
    write_with_lists(path, manifest_of("a/1", "a/3"))
    path.write_bytes(old)
    with pytest.raises(DataError, match=r"files\.json: is not the list of files .* Delete .*json;"):
        read_with_lists(path)
    (tmp_path / "a" / FILE_LIST).unlink()
    with pytest.raises(DataError, match="is not the list of files"):
        read_with_lists(path)
    for damage in ("", "{", "{}", "[]", "7", '{"digest": 7, "files": {}}'):
        (tmp_path / "a" / FILE_LIST).write_text(damage)
        with pytest.raises(DataError, match="is not the list of files"):
            read_with_lists(path)


def test_stages_read_lists_and_data_without_them_stay_fresh(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(run_file, ["prepare"], [])
    config = load(run_file)
    table = {stage.name: stage for stage in STAGES}
    documents = data_folder(config).documents
    plain = read_json(manifest_path(documents))
    shards = dict(listed_shards(documents))

    # The manifest of an earlier version is done also where a new one would be divided.
    monkeypatch.setattr(LIMIT, 1)
    assert artifacts.stage_states(table, config, look_at=["prepare"])["prepare"].kind == "done"
    manifest_path(documents).unlink()
    run_stages(run_file, ["prepare"], [])
    divided = read_json(manifest_path(documents))
    assert divided["files"] == {} and set(divided["file_lists"]) == set(config.sources)
    assert divided["output"] == plain["output"]
    assert dict(listed_shards(documents)) == shards
    assert artifacts.stage_states(table, config, look_at=["prepare"])["prepare"].kind == "done"

    # Without its lists the stage finds its finished work when the manifest is deleted, as it says.
    for path in documents.rglob(FILE_LIST):
        path.unlink()
    with pytest.raises(DataError, match=r"Delete .*manifest\.json"):
        artifacts.stage_states(table, config)
    manifest_path(documents).unlink()
    run_stages(run_file, ["prepare"], [])
    assert dict(listed_shards(documents)) == shards

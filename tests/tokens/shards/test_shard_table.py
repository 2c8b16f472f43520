"""The table of shards: what it holds, that it belongs to the manifest, and that it is made again."""

from pathlib import Path

import numpy as np
import pytest
from helpers import run_stages

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.sampling.stream import open_streams
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import write_json
from pipeline.store.layout import data_folder, manifest_path, shard_table_path
from pipeline.tokens.indexed_dataset import HEADER, MAGIC
from pipeline.tokens.shards.shard_table import (
    forget_tables,
    keep_shard_table,
    make_shard_table,
    read_shard_table,
    read_stored_table,
    write_shard_table,
)

FILES = {
    "web/train_b_000.bin": {"bytes": 20, "checksum": "1"},
    "web/train_b_000.doc": {"bytes": 16, "checksum": "2"},
    "web/train_a_000.bin": {"bytes": 6, "checksum": "3"},
    "web/train_a_000.doc": {"bytes": 8, "checksum": "4"},
    "web/validation_a_000.bin": {"bytes": 2, "checksum": "5"},
    "web/validation_a_000.doc": {"bytes": 8, "checksum": "6"},
    "books/train_c_000.bin": {"bytes": 40, "checksum": "7"},
    "books/train_c_000.doc": {"bytes": 24, "checksum": "8"},
}
DTYPES = {"web": "uint16", "books": "int32"}


def write_manifest(folder: Path, output: str = "first") -> Path:
    content = {"output": output, "counts": {"dtypes": DTYPES}, "files": FILES}
    write_json(manifest_path(folder), content)
    return folder


def test_it_holds_every_shard_in_the_order_of_reading(tmp_path: Path) -> None:
    table = read_shard_table(write_manifest(tmp_path))
    keep_shard_table(tmp_path)
    forget_tables()
    stored = read_stored_table(tmp_path)
    for each in (table, stored):
        assert each is not None and each.output == "first" and each.dtypes == DTYPES
        train = each.of("web", "train")
        assert list(train.names) == ["train_a_000", "train_b_000"]
        assert train.tokens.tolist() == [3, 10] and train.documents.tolist() == [1, 2]
        assert each.of("web", "validation").tokens.tolist() == [1]
        assert each.of("books", "train").tokens.tolist() == [10]
        assert list(each.of("books", "validation").names) == []


def test_a_linked_pair_may_have_any_name(tmp_path: Path) -> None:
    names = ["train_a\u2028b", "train_c\x85d", "train_\u65e5 e"]
    files = {f"web/{name}.bin": {"bytes": 4, "checksum": "1"} for name in names}
    documents = {f"web/{name}.doc": {"bytes": 8, "checksum": "2"} for name in names}
    table = make_shard_table("first", DTYPES, {**files, **documents}, tmp_path)
    write_shard_table(tmp_path, table)
    stored = read_stored_table(tmp_path)
    assert stored is not None
    assert list(stored.of("web", "train").names) == sorted(names)


def test_ranks_do_not_read_the_manifest_where_there_is_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_shard_table(write_manifest(tmp_path))
    forget_tables()
    monkeypatch.setattr("pipeline.tokens.shards.shard_table.read_manifest", None)
    streams = {
        split: open_streams(tmp_path, ["web", "books"], split) for split in ("train", "validation")
    }
    assert {name: len(stream) for name, stream in streams["train"].items()} == {
        "web": 13,
        "books": 10,
    }
    assert streams["train"]["books"].dtype == np.int32
    assert len(streams["validation"]["web"]) == 1


@pytest.mark.parametrize("damage", [b"", b"SHARDS\x00\x01", b"x" * 200])
def test_a_damaged_or_missing_table_is_made_again(tmp_path: Path, damage: bytes) -> None:
    keep_shard_table(write_manifest(tmp_path))
    path = shard_table_path(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage or whole[:-3])
    assert read_shard_table(tmp_path).of("web", "train").tokens.tolist() == [3, 10]
    keep_shard_table(tmp_path)
    assert path.read_bytes() == whole
    path.unlink()
    keep_shard_table(tmp_path)
    assert path.read_bytes() == whole


def test_a_table_of_another_manifest_is_not_believed(tmp_path: Path) -> None:
    keep_shard_table(write_manifest(tmp_path))
    changed = {name: record for name, record in FILES.items() if "train_b" not in name}
    content = {"output": "second", "counts": {"dtypes": DTYPES}, "files": changed}
    write_json(manifest_path(tmp_path), content)
    assert read_shard_table(tmp_path).of("web", "train").tokens.tolist() == [3]


def test_a_folder_that_cannot_be_written_to_is_read_by_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pipeline.tokens.shards.shard_table.write_atomic", refuse)
    keep_shard_table(write_manifest(tmp_path))
    assert read_stored_table(tmp_path) is None
    assert read_shard_table(tmp_path).of("books", "train").documents.tolist() == [3]


def test_tokens_without_a_manifest_are_not_finished_whatever_the_table_says(tmp_path: Path) -> None:
    keep_shard_table(write_manifest(tmp_path))
    manifest_path(tmp_path).unlink()
    for call in (read_shard_table, keep_shard_table):
        with pytest.raises(DataError, match=r"holds no finished tokens\. Run `pipeline tokenize`"):
            call(tmp_path)


def test_documents_of_a_linked_pair_stand_in_its_index(tmp_path: Path) -> None:
    files = {"web/train_x.bin": {"bytes": 4, "identity": "1", "samples": "2", "link_to": "/x"}}
    assert make_shard_table("o", DTYPES, files, tmp_path).of("web", "train").documents[0] == -1
    (tmp_path / "web").mkdir()
    header = HEADER.pack(MAGIC, 1, 8, 5, 4)  # 5 sequences in 3 documents
    (tmp_path / "web" / "train_x.idx").write_bytes(header)
    assert make_shard_table("o", DTYPES, files, tmp_path).of("web", "train").documents[0] == 3


def test_the_stage_writes_it_and_it_agrees_with_the_counts(run_file: Path) -> None:
    overrides = ["prepare.validation_fraction=0.2"]
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], overrides)
    tokens = data_folder(load(run_file, overrides)).tokens
    stored = read_stored_table(tokens)
    manifest = read_manifest(manifest_path(tokens))
    assert stored is not None and manifest is not None
    assert stored.output == manifest["output"]
    for split, counts in manifest["counts"]["sources"]["web"].items():
        shards = stored.of("web", split)
        assert shards.tokens.sum() == counts["tokens"]
        assert shards.documents.sum() == counts["documents"]

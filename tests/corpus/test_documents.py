"""Parquet shards: rotation, ids, row groups, and what other readers see."""

from pathlib import Path

import datasets
import pyarrow.parquet as pq

from pipeline.corpus import documents
from pipeline.corpus.documents import Document, ShardWriter, iterate_texts, remove_task_outputs, shard_paths


def write(folder: Path, texts: list[str], shard_text_bytes: int = 1000, task: int = 0) -> list[Path]:
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, "train", task, shard_text_bytes)
    for row, text in enumerate(texts):
        writer.add(Document(text, '{"n":1}', "raw.jsonl", row), len(text.encode()))
    return writer.close()


def test_a_shard_ends_with_the_document_that_reaches_its_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path / "web", ["aaaa", "bbb", "ä" * 5, "c"], shard_text_bytes=7)
    assert [path.name for path in paths] == [f"train_00000_{part:03d}.parquet" for part in range(3)]
    assert shard_paths(tmp_path, "web", "train") == paths
    assert list(iterate_texts(tmp_path, "web", "train")) == [
        ("web/train_00000_000/0", "aaaa"),
        ("web/train_00000_000/1", "bbb"),
        ("web/train_00000_001/0", "ä" * 5),
        ("web/train_00000_002/0", "c"),
    ]
    assert shard_paths(tmp_path, "web", "validation") == []


def test_row_groups_are_bounded_and_a_large_document_has_its_own(tmp_path: Path) -> None:
    half = "x" * (documents.ROW_GROUP_BYTES // 2 - 20)  # its meta adds 7
    (path,) = write(tmp_path / "web", [half, half, "y", half * 3, "z"], shard_text_bytes=10**9)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 1, 1]


def test_a_task_without_documents_leaves_no_shard(tmp_path: Path) -> None:
    assert write(tmp_path / "web", []) == []
    assert list((tmp_path / "web").iterdir()) == []


def test_only_one_tasks_outputs_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "web", ["a"], task=1)
    (kept,) = write(tmp_path / "web", ["b"], task=2)
    (tmp_path / "web" / ".train_00001_001.parquet.partial").touch()
    remove_task_outputs(tmp_path / "web", 1)
    assert list((tmp_path / "web").iterdir()) == [kept]


def test_hugging_face_datasets_reads_the_shards(tmp_path: Path) -> None:
    paths = write(tmp_path / "web", ["a", "b", "c"], shard_text_bytes=2)
    files = [str(path) for path in paths]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[2] == {
        "id": "web/train_00000_001/0",
        "text": "c",
        "meta": '{"n":1}',
        "origin_file": "raw.jsonl",
        "origin_row": 2,
    }

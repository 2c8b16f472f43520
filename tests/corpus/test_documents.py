"""Parquet shards: rotation, ids, row groups, and what other readers see."""

import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from helpers import iterate_texts, list_documents

from pipeline.corpus import documents
from pipeline.corpus.documents import (
    ShardWriter,
    read_documents,
    shard_paths,
    shard_records,
)
from pipeline.corpus.key_file import keys_path
from pipeline.corpus.read_task import remove_task_outputs
from pipeline.store.files import file_record


def write(
    folder: Path, texts: list[str], shard_text_bytes: int = 1000, key: str = "0a"
) -> list[Path]:
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, "train", key, shard_text_bytes)
    for row, text in enumerate(texts):
        writer.add(text.encode(), b'{"n":1}', b"raw.jsonl", row)
    records = writer.close()
    assert records == {name: file_record(folder / name) for name in records}
    assert (writer.documents, writer.text_bytes) == (
        len(texts),
        sum(len(text.encode()) for text in texts),
    )
    shards = [name for name in records if name.endswith(".parquet")]
    assert {*shards, *(keys_path(Path(name)).name for name in shards)} == set(records)
    list_documents(folder.parent, [folder / name for name in shards])
    return [folder / name for name in shards]


def test_a_shard_ends_with_the_document_that_reaches_its_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path / "web", ["aaaa", "bbb", "ä" * 5, "c"], shard_text_bytes=7)
    assert [path.name for path in paths] == [f"train_0a_{part:03d}.parquet" for part in range(3)]
    assert shard_paths(tmp_path, "web", "train") == paths
    assert list(iterate_texts(tmp_path, "web", "train")) == [
        ("web/train_0a_000/0", "aaaa"),
        ("web/train_0a_000/1", "bbb"),
        ("web/train_0a_001/0", "ä" * 5),
        ("web/train_0a_002/0", "c"),
    ]
    assert shard_paths(tmp_path, "web", "validation") == []


def test_row_groups_are_bounded_and_a_large_document_has_its_own(tmp_path: Path) -> None:
    half = "x" * (documents.ROW_GROUP_BYTES // 2 - documents.ROW_BYTES - 7)  # its meta adds 7
    texts = [half, half, "y", half, "z", half * 3, "z"]
    (path,) = write(tmp_path / "web", texts, shard_text_bytes=10**9)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [
        2,
        3,
        1,
        1,
    ]
    assert [text for _, text in iterate_texts(tmp_path, "web", "train")] == texts


def test_rows_without_much_text_fill_a_row_group_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ROW_GROUP_BYTES", 3 * (documents.ROW_BYTES + 8))
    (path,) = write(tmp_path / "web", ["x"] * 7)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [
        3,
        3,
        1,
    ]


def test_a_task_without_documents_leaves_no_shard(tmp_path: Path) -> None:
    assert write(tmp_path / "web", []) == []
    assert list((tmp_path / "web").iterdir()) == []


def test_only_one_tasks_outputs_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "web", ["a", "b", "c"], shard_text_bytes=1, key="01")
    (kept,) = write(tmp_path / "web", ["b"], key="012")
    remove_task_outputs(tmp_path / "web", "01")
    assert sorted((tmp_path / "web").iterdir()) == [keys_path(kept), kept]


@pytest.mark.parametrize("left", ["train_01_001.parquet", ".train_01_001.keys"])
def test_what_an_interrupted_removal_left_is_removed(tmp_path: Path, left: str) -> None:
    write(tmp_path / "web", ["a", "b"], shard_text_bytes=1, key="01")
    for name in {"train_01_001.parquet", ".train_01_001.keys"} - {left}:
        (tmp_path / "web" / name).unlink()
    remove_task_outputs(tmp_path / "web", "01")
    assert list((tmp_path / "web").iterdir()) == []


def test_rows_are_read_in_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ROW_GROUP_BYTES", 3 * (documents.ROW_BYTES + 8))
    (path,) = write(tmp_path / "web", list("abcdefgh"))  # in row groups of 3, 3, 2
    assert [row["text"] for row in read_documents(path, [7, 0, 3, 2, 7])] == [
        "h",
        "a",
        "d",
        "c",
        "h",
    ]
    whole = {
        "id": "web/train_0a_000/5",
        "text": "f",
        "meta": '{"n":1}',
        "origin_file": "raw.jsonl",
        "origin_row": 5,
    }
    assert read_documents(path, [5]) == [whole]
    assert read_documents(path, [5], ["origin_row"]) == [{"origin_row": 5}]
    assert read_documents(path, []) == []
    for row in (-1, 8):
        with pytest.raises(IndexError, match=r"train_0a_000\.parquet has 8 rows"):
            read_documents(path, [0, row])


def test_only_shards_are_taken_from_a_manifest() -> None:
    records = {
        name: {"bytes": 1, "checksum": name}
        for name in ("web/b.parquet", "web/.b.keys", "web/a.parquet")
    }
    assert list(shard_records(records).items()) == [
        (name, records[name]) for name in ("web/a.parquet", "web/b.parquet")
    ]


def test_two_attempts_at_once_write_to_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    dying, writer = (ShardWriter(tmp_path / "web", "train", "0a", 10**9) for _ in range(2))
    for number in range(2 * documents.ROW_GROUP_BYTES // 100_000):
        for attempt in (dying, writer):
            attempt.add(b"%d " % number * 20_000, b"{}", b"raw.jsonl", number)
    assert len(list((tmp_path / "web").glob(".train_0a_000.parquet.*.partial"))) == 2
    records = writer.close()
    whole = (tmp_path / "web" / "train_0a_000.parquet").read_bytes()
    assert dying.close() == records
    assert (tmp_path / "web" / "train_0a_000.parquet").read_bytes() == whole


def test_an_attempt_that_outlived_its_run_removes_nothing_of_the_next(tmp_path: Path) -> None:
    """The next run has removed what it was writing and written the same shards."""
    (tmp_path / "web").mkdir()
    orphan = ShardWriter(tmp_path / "web", "train", "0a", 2 * documents.ROW_GROUP_BYTES)
    document = (b"x" * documents.ROW_GROUP_BYTES, b"{}", b"raw.jsonl", 0)
    for _ in range(3):
        orphan.add(*document)
    for partial in (tmp_path / "web").glob(".*.partial"):
        partial.unlink()
    following = ShardWriter(tmp_path / "web", "train", "0a", 2 * documents.ROW_GROUP_BYTES)
    for _ in range(3):
        following.add(*document)
    records = following.close()
    with pytest.raises(FileNotFoundError):
        orphan.close()
    orphan.discard()
    assert {path.name: file_record(path) for path in (tmp_path / "web").iterdir()} == records


def test_what_is_discarded_leaves_what_is_complete(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    writer = ShardWriter(tmp_path / "web", "train", "0a", 2 * documents.ROW_GROUP_BYTES)
    for row, size in enumerate((2, 1)):
        writer.add(b"x" * size * documents.ROW_GROUP_BYTES, b"{}", b"raw.jsonl", row)
    assert sorted(path.suffix for path in (tmp_path / "web").iterdir()) == [
        ".keys",
        ".parquet",
        ".partial",
    ]
    writer.discard()
    assert sorted(path.suffix for path in (tmp_path / "web").iterdir()) == [".keys", ".parquet"]


@pytest.mark.ranks
def test_writing_shards_imports_no_pandas(tmp_path: Path) -> None:
    """It would take longer than thousands of documents."""
    code = (
        "import sys; from pathlib import Path; import pipeline.corpus.prepare; "
        "from pipeline.corpus.documents import ShardWriter; "
        f"writer = ShardWriter(Path({str(tmp_path)!r}), 'train', '0a', 1); "
        "writer.add(b'x', b'{}', b'raw.jsonl', 0); assert len(writer.close()) == 2; "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_hugging_face_datasets_reads_the_shards(tmp_path: Path) -> None:
    paths = write(tmp_path / "web", ["a", "b", "c"], shard_text_bytes=2)
    files = [str(path) for path in paths]
    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    folder = datasets.load_dataset(
        str(tmp_path / "web"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert folder[:] == loaded[:]
    assert loaded[2] == {
        "id": "web/train_0a_001/0",
        "text": "c",
        "meta": '{"n":1}',
        "origin_file": "raw.jsonl",
        "origin_row": 2,
    }

"""The writer against the format's own description, read here without the project's reader."""

import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import file_record
from pipeline.errors import DataError
from pipeline.tokens import indexed_dataset


def read_by_description(prefix: Path) -> tuple[list[list[int]], list[int]]:
    """Parse `.idx` and `.bin` field by field, as Megatron-LM's documentation of the format gives them."""
    raw = prefix.with_suffix(".idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    (version,) = struct.unpack_from("<Q", raw, 9)
    (code,) = struct.unpack_from("<B", raw, 17)
    sequences, entries = struct.unpack_from("<QQ", raw, 18)
    assert version == 1
    lengths = struct.unpack_from(f"<{sequences}i", raw, 34)
    offsets = struct.unpack_from(f"<{sequences}q", raw, 34 + 4 * sequences)
    documents = struct.unpack_from(f"<{entries}q", raw, 34 + 12 * sequences)
    assert len(raw) == 34 + 12 * sequences + 8 * entries
    letter, size = {8: ("H", 2), 4: ("i", 4)}[code]
    data = prefix.with_suffix(".bin").read_bytes()
    assert len(data) == size * sum(lengths)
    found = [list(struct.unpack_from(f"<{n}{letter}", data, o)) for n, o in zip(lengths, offsets, strict=True)]
    return found, list(documents)


def write_two_batches(prefix: Path, dtype: type) -> dict[str, dict[str, Any]]:
    with indexed_dataset.ShardWriter(prefix, np.dtype(dtype)) as writer:
        writer.add(np.array([5, 6, 0, 7, 0], np.uint32), np.array([3, 2]), np.array([0, 1]))
        writer.add(np.array([65000, 0], np.uint32), np.array([2]), np.array([2]))
        assert (writer.documents, writer.tokens) == (3, 7)
        return writer.finish()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_written_shards_are_what_the_format_says(tmp_path: Path, dtype: type) -> None:
    records = write_two_batches(tmp_path / "shard", dtype)
    documents, entries = read_by_description(tmp_path / "shard")
    assert documents == [[5, 6, 0], [7, 0], [65000, 0]]
    assert entries == [0, 1, 2, 3]
    assert np.fromfile(tmp_path / "shard.doc", "<i8").tolist() == [0, 1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shard.bin", "shard.doc", "shard.idx"]
    assert records == {suffix: file_record(tmp_path / f"shard{suffix}") for suffix in (".bin", ".idx", ".doc")}


def test_the_projects_reader_reads_it_back(tmp_path: Path) -> None:
    write_two_batches(tmp_path / "shard", np.uint16)
    shard = indexed_dataset.read(tmp_path / "shard")
    assert [shard.document(i).tolist() for i in range(3)] == [[5, 6, 0], [7, 0], [65000, 0]]
    assert shard.rows().tolist() == [0, 1, 2]


def test_the_index_is_written_in_blocks_that_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed_dataset, "BLOCK_DOCUMENTS", 2)
    write_two_batches(tmp_path / "shard", np.int32)
    assert read_by_description(tmp_path / "shard") == ([[5, 6, 0], [7, 0], [65000, 0]], [0, 1, 2, 3])


def test_a_shard_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        indexed_dataset.ShardWriter(tmp_path / "shard", np.dtype(np.uint16)) as writer,
    ):
        writer.add(np.array([5, 0]), np.array([2]), np.array([0]))
        assert len(list(tmp_path.iterdir())) == 3
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    with indexed_dataset.ShardWriter(tmp_path / "none", np.dtype(np.uint16)) as writer:
        writer.finish()
    assert read_by_description(tmp_path / "none") == ([], [0])
    assert len(indexed_dataset.read(tmp_path / "none").ids) == 0


def test_ids_are_two_bytes_below_65500() -> None:
    assert indexed_dataset.token_dtype(65499) == np.uint16
    assert indexed_dataset.token_dtype(65500) == np.int32


def test_broken_shards_are_refused_with_their_name(tmp_path: Path) -> None:
    prefix = tmp_path / "shard"
    with pytest.raises(DataError, match=r"shard\.idx: cannot be read"):
        indexed_dataset.read(prefix)
    write_two_batches(prefix, np.uint16)
    with prefix.with_suffix(".bin").open("r+b") as file:
        file.truncate(8)
    with pytest.raises(DataError, match=r"shard\.bin: holds 4 tokens, its index says 7"):
        indexed_dataset.read(prefix)
    prefix.with_suffix(".idx").write_bytes(b"something else, and long enough to be a header")
    with pytest.raises(DataError, match="not a Megatron indexed dataset"):
        indexed_dataset.read(prefix)


@pytest.mark.skipif("MEGATRON_PATH" not in os.environ, reason="MEGATRON_PATH names no checkout of Megatron-LM")
def test_megatrons_own_reader_sees_the_same_documents(tmp_path: Path) -> None:
    write_two_batches(tmp_path / "shard", np.uint16)
    sys.path.insert(0, os.environ["MEGATRON_PATH"])
    from megatron.core.datasets.indexed_dataset import IndexedDataset  # pyright: ignore[reportMissingImports]

    dataset = IndexedDataset(str(tmp_path / "shard"))
    assert [np.asarray(dataset[i]).tolist() for i in range(len(dataset))] == [[5, 6, 0], [7, 0], [65000, 0]]
    assert dataset.document_indices.tolist() == [0, 1, 2, 3]

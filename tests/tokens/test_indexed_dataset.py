"""The writer against the format's own description, read here without the project's reader."""

import importlib.util
import os
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from helpers import run_stages
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from pipeline.errors import DataError
from pipeline.store.environment import user_variable
from pipeline.store.files import file_record
from pipeline.tokens import indexed_dataset, tokenizer_folder


def read_by_description(prefix: Path) -> tuple[list[list[int]], list[int]]:
    """Parse `.idx` and `.bin` field by field, as Megatron-LM's documentation of the format gives
    them."""
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
    found = [
        list(struct.unpack_from(f"<{n}{letter}", data, o))
        for n, o in zip(lengths, offsets, strict=True)
    ]
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
    for suffix in (".bin", ".idx", ".doc"):
        path = tmp_path / f"shard{suffix}"
        # A file smaller than 16 blocks of 4,096 bytes is sampled whole.
        samples = (
            {} if suffix == ".doc" else {"samples": xxhash.xxh3_128_hexdigest(path.read_bytes())}
        )
        assert records[suffix] == file_record(path) | samples


@pytest.mark.parametrize("renamed", range(3))
def test_an_index_is_there_only_beside_all_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    """Whenever the writer dies: files get their names one after another."""
    rename = Path.replace
    names: list[str] = []

    def replace(path: Path, target: Path) -> Path:
        if len(names) == renamed:
            raise KeyboardInterrupt
        names.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_two_batches(tmp_path / "shard", np.uint16)
    assert len(names) == renamed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert "shard.idx" not in names


def test_the_projects_reader_reads_it_back(tmp_path: Path) -> None:
    write_two_batches(tmp_path / "shard", np.uint16)
    shard = indexed_dataset.read(tmp_path / "shard")
    assert [shard.document(i).tolist() for i in range(3)] == [[5, 6, 0], [7, 0], [65000, 0]]
    assert shard.rows().tolist() == [0, 1, 2]


def test_the_index_is_written_in_blocks_that_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed_dataset, "BLOCK_DOCUMENTS", 2)
    write_two_batches(tmp_path / "shard", np.int32)
    assert read_by_description(tmp_path / "shard") == (
        [[5, 6, 0], [7, 0], [65000, 0]],
        [0, 1, 2, 3],
    )


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
    with pytest.raises(DataError, match=r"shard\.bin: holds 4 tokens, but its index 7"):
        indexed_dataset.read(prefix)
    prefix.with_suffix(".idx").write_bytes(b"something else, and long enough to be a header")
    with pytest.raises(DataError, match="not a Megatron indexed dataset"):
        indexed_dataset.read(prefix)


needs_megatron = pytest.mark.skipif(
    user_variable("MEGATRON_PATH") is None, reason="MEGATRON_PATH names no checkout of Megatron-LM"
)
needs_neox = pytest.mark.skipif(
    user_variable("NEOX_PATH") is None, reason="NEOX_PATH names no checkout of GPT-NeoX"
)
DOCUMENTS = [[[5, 6], [7, 0]], [[8, 0]], [[9], [10], [65499, 0]]]
"""Documents of several sequences, as other builders may write them."""


@pytest.fixture(params=[np.uint16, np.int32])
def stage_shard(request: pytest.FixtureRequest, run_file: Path) -> Path:
    """Return the prefix of a shard that the stages made, with a vocabulary on either side of 65,500
    ids."""
    folder = run_file.parent
    extra = [f"<{number}>" for number in range(65_500 if request.param is np.int32 else 0)]
    pieces = ["<|endoftext|>", *extra, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    fast = Tokenizer(BPE({piece: number for number, piece in enumerate(pieces)}, []))
    fast.pre_tokenizer, fast.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    tokenizer_folder.write(fast, folder / "made", "<|endoftext|>", None)
    settings = [
        "tokenizer.kind=pretrained",
        "tokenizer.vocab_size=null",
        f"tokenizer.path={folder / 'made'}",
    ]
    run_stages(
        run_file,
        ["prepare", "train-tokenizer", "tokenize"],
        [*settings, "prepare.validation_fraction=0"],
    )
    (index,) = (folder / "data" / "tokens" / "web").glob("*.idx")
    assert indexed_dataset.read(index.with_suffix("")).ids.dtype == request.param
    return index.with_suffix("")


def read_by_us(prefix: Path) -> list[list[int]]:
    shard = indexed_dataset.read(prefix)
    return [shard.document(i).tolist() for i in range(len(shard.documents) - 1)]


@needs_megatron
def test_megatrons_own_reader_sees_the_same_documents(
    stage_shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _megatron(monkeypatch).IndexedDataset(str(stage_shard))
    documents, entries = read_by_description(stage_shard)
    assert len(documents) == 40
    assert [np.asarray(dataset[i]).tolist() for i in range(len(dataset))] == documents
    assert dataset.sequence_lengths.tolist() == [len(document) for document in documents]
    assert dataset.document_indices.tolist() == entries


@needs_megatron
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_what_megatron_writes_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    builder = _megatron(monkeypatch).IndexedDatasetBuilder(str(tmp_path / "pair.bin"), dtype)
    for document in DOCUMENTS:
        ids = [number for sequence in document for number in sequence]
        builder.add_document(torch.tensor(ids), [len(sequence) for sequence in document])
    builder.finalize(str(tmp_path / "pair.idx"))
    _assert_documents(tmp_path / "pair", dtype)


@needs_neox
def test_neoxs_own_reader_sees_the_same_documents(
    stage_shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _neox(monkeypatch).MMapIndexedDataset(str(stage_shard), skip_warmup=True)
    documents, entries = read_by_description(stage_shard)
    assert len(documents) == 40
    assert [dataset[i].tolist() for i in range(len(dataset))] == documents
    assert dataset.sizes.tolist() == [len(document) for document in documents]
    assert dataset.doc_idx.tolist() == entries


@needs_neox
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_what_neox_writes_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    builder = _neox(monkeypatch).MMapIndexedDatasetBuilder(str(tmp_path / "pair.bin"), dtype)
    for document in DOCUMENTS:
        for sequence in document:
            builder.add_item(np.array(sequence, dtype))
        builder.end_document()
    builder.finalize(str(tmp_path / "pair.idx"))
    _assert_documents(tmp_path / "pair", dtype)


@needs_neox
def test_what_neox_merges_is_read_with_a_document_for_each_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its merging copies no document entries, so that the index tells of none."""
    write_two_batches(tmp_path / "part", np.uint16)
    builder = _neox(monkeypatch).MMapIndexedDatasetBuilder(str(tmp_path / "pair.bin"), np.uint16)
    builder.merge_file_(str(tmp_path / "part"))
    builder.merge_file_(str(tmp_path / "part"))
    builder.finalize(str(tmp_path / "pair.idx"))
    assert read_by_us(tmp_path / "pair") == 2 * [[5, 6, 0], [7, 0], [65000, 0]]


def _assert_documents(prefix: Path, dtype: type) -> None:
    whole = [[number for sequence in document for number in sequence] for document in DOCUMENTS]
    assert read_by_us(prefix) == whole
    shard = indexed_dataset.read(prefix)
    assert shard.document_lengths().tolist() == [len(document) for document in whole] == [4, 2, 4]
    assert shard.ids.dtype == dtype


def _megatron(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(os.environ["MEGATRON_PATH"])
    return importlib.import_module("megatron.core.datasets.indexed_dataset")


def _neox(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load that one file: its package asks for much that the file does not."""
    package = types.ModuleType("megatron")
    package.print_rank_0 = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "megatron", package)
    file = Path(os.environ["NEOX_PATH"]) / "megatron" / "data" / "indexed_dataset.py"
    specification = importlib.util.spec_from_file_location("neox_indexed_dataset", file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

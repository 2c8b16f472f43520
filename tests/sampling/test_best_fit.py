"""Best-fit packing: against best-fit decreasing piece by piece, whole documents, every target once,
the folder."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import digests
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError, LeaseError, TasksFailed
from pipeline.sampling import best_fit
from pipeline.sampling.best_fit import cut, document_groups, pack, pack_shard, prepare_packing
from pipeline.sampling.packed_rows import PackedRows
from pipeline.store.files import file_record, read_json
from pipeline.store.lease import Lease
from pipeline.tokens import indexed_dataset
from pipeline.work.executor import RECORDS


def one_by_one(lengths: Sequence[int], capacity: int) -> list[int]:
    """Best-fit decreasing as its definition says: look at every row for every piece."""
    room: list[int] = []
    since: list[int] = []
    placed = [0] * len(lengths)
    for now, piece in enumerate(sorted(range(len(lengths)), key=lambda piece: -lengths[piece])):
        enough = [row for row in range(len(room)) if room[row] >= lengths[piece]]
        if enough:
            row = min(enough, key=lambda row: (room[row], since[row]))
        else:
            row = len(room)
            room.append(capacity)
            since.append(now)
        room[row] -= lengths[piece]
        since[row] = now
        placed[piece] = row
    return placed


def packed(lengths: Sequence[int], capacity: int) -> list[int]:
    return pack(np.array(lengths, np.int64), capacity).tolist()


def test_the_fullest_row_with_room_takes_a_piece() -> None:
    # 7 opens row 0 (room 3), 6 row 1 (room 4); 4 fills row 1 to the brim, 3 row 0.
    assert packed([3, 4, 6, 7], 10) == [0, 1, 1, 0]
    # First fit would put 3 into row 0 (room 4); best fit sees that row 1 has just 3.
    assert packed([6, 7, 3, 4], 10) == [1, 0, 0, 1]
    assert packed([10, 10, 1], 10) == [0, 1, 2]
    assert packed([4, 4, 4, 4, 4], 10) == [0, 0, 1, 1, 2]
    assert packed([], 10) == []


def test_of_equal_rows_the_one_that_has_waited_longest_comes_first() -> None:
    # Three rows of 6 have room 4, and take the pieces of 3 in the order in which they were opened.
    assert packed([6, 6, 6, 3, 3], 10) == [0, 1, 2, 0, 1]


def some_pieces(capacity: int) -> st.SearchStrategy[tuple[list[int], int]]:
    short = st.integers(1, min(capacity, 5))
    return st.tuples(st.lists(st.integers(1, capacity) | short, max_size=120), st.just(capacity))


@given(st.integers(1, 40).flatmap(some_pieces))
def test_it_is_best_fit_decreasing(example: tuple[list[int], int]) -> None:
    lengths, capacity = example
    rows = packed(lengths, capacity)
    assert rows == one_by_one(lengths, capacity)
    filled = np.bincount(rows, lengths, minlength=1)
    assert filled.max() <= capacity


@given(st.lists(st.integers(1, 3000), max_size=60), st.sampled_from([3000, 70_000]))
def test_it_is_best_fit_decreasing_for_long_rows(lengths: list[int], capacity: int) -> None:
    assert packed(lengths, capacity) == one_by_one(lengths, capacity)


def test_only_documents_longer_than_a_row_are_cut() -> None:
    starts, lengths = cut(np.array([0, 5, 20]), np.array([4, 11, 8]), 4)
    assert starts.tolist() == [0, 5, 9, 13, 20, 24]
    assert lengths.tolist() == [4, 4, 4, 3, 4, 4]


def write_shard(prefix: Path, lengths: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Write documents of these lengths; token i of the shard has the id i."""
    with indexed_dataset.ShardWriter(prefix, np.dtype(np.int32)) as writer:
        writer.add(
            np.arange(sum(lengths), dtype=np.int32),
            np.array(lengths, np.int64),
            np.arange(len(lengths)),
        )
        return writer.finish()


def groups(prefix: Path, least: int) -> list[tuple[list[int], list[int]]]:
    shard = indexed_dataset.read(prefix)
    return [
        (starts.tolist(), positions.tolist())
        for starts, positions in document_groups(shard, least, "Mend it.")
    ]


def test_groups_are_consecutive_documents_without_the_empty_ones(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [3, 1, 4, 2, 1, 9, 2])
    assert groups(tmp_path / "a", 5) == [([0, 4], [2, 3]), ([8, 11], [1, 8]), ([20], [1])]
    assert groups(tmp_path / "a", 100) == [([0, 4, 8, 11, 20], [2, 3, 1, 8, 1])]
    write_shard(tmp_path / "empty", [1, 1])
    assert groups(tmp_path / "empty", 5) == []


def test_groups_do_not_depend_on_how_much_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = np.random.default_rng(1).integers(1, 9, 200).tolist()
    write_shard(tmp_path / "a", lengths)
    at_once = groups(tmp_path / "a", 30)
    for documents in (1, 7, 64):
        monkeypatch.setattr(best_fit, "BLOCK_DOCUMENTS", documents)
        assert groups(tmp_path / "a", 30) == at_once


def test_documents_may_have_several_sequences_and_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "a", [3, 1, 4, 2])
    path = tmp_path / "a.idx"
    content = bytearray(path.read_bytes())
    content[-5 * 8 :] = np.array([0, 2, 2, 3, 4], "<i8").tobytes()  # of 4, 0, 4 and 2 tokens
    path.write_bytes(content)
    for documents in (1, 2, 64):
        monkeypatch.setattr(best_fit, "BLOCK_DOCUMENTS", documents)
        assert groups(tmp_path / "a", 100) == [([0, 4, 8], [3, 3, 1])]


@pytest.mark.parametrize(
    ("entry", "value"),
    [(-4, 1), (-2, 9), (-1, 4), (-6, 8)],
    ids=[
        "the first is not 0",
        "one beyond the next",
        "more than there are",
        "an offset of another sequence",
    ],
)
def test_documents_that_do_not_follow_each_other_are_refused(
    tmp_path: Path, entry: int, value: int
) -> None:
    write_shard(
        tmp_path / "a", [3, 1, 4]
    )  # its file ends with three offsets and four entries of documents
    path = tmp_path / "a.idx"
    content = path.read_bytes()
    numbers = np.frombuffer(content[-7 * 8 :], "<i8").copy()
    assert numbers.tolist() == [0, 12, 16, 0, 1, 2, 3]
    numbers[entry] = value
    path.write_bytes(content[: -7 * 8] + numbers.tobytes())
    with pytest.raises(
        DataError, match=r"a\.idx: its documents do not stand one after another.*\. Mend it\."
    ):
        groups(tmp_path / "a", 100)


@given(
    lengths=st.lists(st.integers(1, 40) | st.integers(1, 4), max_size=80),
    sequence_length=st.integers(2, 20),
)
def test_every_target_is_in_one_row_and_short_documents_are_whole(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], sequence_length: int
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    write_shard(folder / "a", lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_fit, "GROUP_POSITIONS", 50)
        patch.setattr(best_fit, "GROUP_ROWS", 2)
        counts = pack_shard(folder / "a", folder / "web" / "a.rows", sequence_length, "Mend it.")
    rows = PackedRows(folder / "web" / "a.rows", sequence_length)
    ends = np.cumsum(lengths, dtype=np.int64)
    targets, pieces = [], Counter()
    for row in range(rows.rows):
        starts, piece_lengths = rows.pieces(row)
        assert len(starts) and piece_lengths.sum() <= sequence_length
        assert (np.diff(starts) > 0).all()
        for start, length in zip(starts.tolist(), piece_lengths.tolist(), strict=True):
            document = int(np.searchsorted(ends, start, side="right"))
            pieces[document] += 1
            targets += range(start + 1, start + length + 1)
    taught = [
        i for end, n in zip(ends.tolist(), lengths, strict=True) for i in range(end - n + 1, end)
    ]
    assert sorted(targets) == taught
    assert pieces == {i: -(-(n - 1) // sequence_length) for i, n in enumerate(lengths) if n > 1}
    assert counts["files"] == {"web/a.rows": file_record(folder / "web" / "a.rows")}
    assert {name: value for name, value in counts.items() if name != "files"} == {
        "documents": len(lengths),
        "cut_documents": sum(n - 1 > sequence_length for n in lengths),
        "positions": len(taught),
        "pieces": pieces.total(),
        "rows": rows.rows,
    }
    shutil.rmtree(folder)


@pytest.fixture
def make_tokens(run_file: Path) -> Callable[..., RunConfig]:
    """Return a function that writes tokens as the stage would: `{shard: lengths}` of the source
    `web`; `L` is 8."""

    def make(shards: dict[str, Sequence[int]], workers: int = 1) -> RunConfig:
        config = load(run_file, [f"executor.workers={workers}"])
        folder = config.paths.data_dir / "tokens"
        files = {}
        for name, lengths in shards.items():
            for suffix, record in write_shard(folder / "web" / name, lengths).items():
                files[f"web/{name}{suffix}"] = record
        (folder / "manifest.json").write_text(json.dumps({"files": files}))
        return config

    return make


SHARDS = {"train_1": [5, 5, 20, 1], "validation_0": [30], "train_0": [9, 3]}


def test_the_manifest_says_what_was_packed(make_tokens: Callable[..., RunConfig]) -> None:
    config = make_tokens(SHARDS)
    manifest = prepare_packing(config)
    folder = config.paths.data_dir / "packing" / "best-fit-8"
    assert manifest == read_json(folder / "manifest.json")
    # train_0: 8 | 2. train_1: 4 + 4 | 8 | 8 | 3, the document of 19 positions being cut into 8, 8
    # and 3.
    assert manifest["sources"] == {
        "web": {
            "shards": [["train_0", 2], ["train_1", 4]],
            "documents": 6,
            "cut_documents": 1,
            "positions": 37,
            "pieces": 7,
            "rows": 6,
            "padding_positions": 11,
        }
    }
    assert manifest["sequence_length"] == 8
    assert sorted(digests(folder)) == ["web/train_0.rows", "web/train_1.rows"]
    rows = PackedRows(best_fit.rows_path(folder, "web", "train_1"), 8)
    assert [rows.pieces(row)[0].tolist() for row in range(4)] == [[10], [18], [0, 5], [26]]


def test_one_worker_and_two_write_the_same(
    make_tokens: Callable[..., RunConfig], tmp_path: Path
) -> None:
    lengths = np.random.default_rng(2).geometric(0.1, (3, 500)).tolist()
    shards = {f"train_{i}": of_shard for i, of_shard in enumerate(lengths)}
    made = []
    for workers in (1, 2):
        config = make_tokens(shards, workers)
        manifest = prepare_packing(config)
        folder = best_fit.packing_folder(config.paths.data_dir, 8)
        made.append((manifest, digests(folder), (folder / "manifest.json").read_bytes()))
        shutil.rmtree(config.paths.data_dir)
    assert made[0] == made[1]


def test_what_is_finished_is_only_read(make_tokens: Callable[..., RunConfig]) -> None:
    config = make_tokens(SHARDS)
    manifest = prepare_packing(config)
    folder = best_fit.packing_folder(config.paths.data_dir, 8)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with Lease(folder, "another job"):
        assert prepare_packing(config) == manifest
        shutil.rmtree(folder / RECORDS)
        shutil.rmtree(folder / "web")
        assert prepare_packing(config) == manifest  # not even looked at
        (folder / "manifest.json").unlink()
        with pytest.raises(LeaseError, match="in use by `another job`"):
            prepare_packing(config)
    assert prepare_packing(config) == manifest
    assert before.keys() == {folder, *folder.rglob("*")}


def test_new_text_is_packed_and_the_rest_kept(make_tokens: Callable[..., RunConfig]) -> None:
    before = prepare_packing(config := make_tokens(SHARDS))
    folder = best_fit.packing_folder(config.paths.data_dir, 8)
    kept = (folder / "web" / "train_0.rows").stat().st_ino
    partial = folder / "web" / ".train_1.rows.7-0123.partial"
    partial.touch()
    after = prepare_packing(make_tokens({"train_0": [9, 3], "train_2": [4]}))
    assert after["fingerprint"] != before["fingerprint"]
    assert after["sources"]["web"]["shards"] == [["train_0", 2], ["train_2", 1]]
    assert sorted(path.name for path in (folder / "web").iterdir()) == [
        "train_0.rows",
        "train_2.rows",
    ]
    assert (folder / "web" / "train_0.rows").stat().st_ino == kept


def test_a_broken_shard_is_named_and_the_others_are_not_packed_again(
    make_tokens: Callable[..., RunConfig],
) -> None:
    config = make_tokens(SHARDS)
    shard = config.paths.data_dir / "tokens" / "web" / "train_0.idx"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(
        TasksFailed,
        match=r"train_0\.idx: cannot be read.*Delete .*train_0\.idx and .*then run `pipeline tokenize`",
    ):
        prepare_packing(config)
    folder = best_fit.packing_folder(config.paths.data_dir, 8)
    assert [path.name for path in (folder / "web").iterdir()] == ["train_1.rows"]
    assert not (folder / "manifest.json").exists()
    done = (folder / "web" / "train_1.rows").stat().st_ino
    shard.write_bytes(whole)
    assert prepare_packing(config)["sources"]["web"]["rows"] == 6
    assert (folder / "web" / "train_1.rows").stat().st_ino == done


KILLED = """
import sys
from pathlib import Path
from pipeline.config.run_file import load
from pipeline.sampling.best_fit import prepare_packing

prepare_packing(load(Path(sys.argv[1]), ["executor.workers=1"]))
"""


def test_it_goes_on_after_a_kill(make_tokens: Callable[..., RunConfig], run_file: Path) -> None:
    lengths = np.random.default_rng(3).geometric(0.02, (4, 20_000)).tolist()
    config = make_tokens({f"train_{i}": of_shard for i, of_shard in enumerate(lengths)})
    folder = best_fit.packing_folder(config.paths.data_dir, 8)
    with subprocess.Popen([sys.executable, "-c", KILLED, run_file]) as process:
        while process.poll() is None and not list((folder / RECORDS).glob("*.json")):
            time.sleep(0.001)
        process.kill()
    finished = {
        path: path.stat().st_ino for path in folder.glob("web/*.rows") if has_record(path, folder)
    }
    assert finished
    manifest = prepare_packing(config)
    assert {path: path.stat().st_ino for path in finished} == finished
    made = digests(folder)
    assert not list(folder.glob("web/.*"))
    shutil.rmtree(folder)
    assert (prepare_packing(config), digests(folder)) == (manifest, made)


def has_record(path: Path, folder: Path) -> bool:
    return (folder / RECORDS / f"web~{path.stem}.json").exists()


def test_linked_pairs_are_packed_alike_and_copied_again_when_broken(
    make_tokens: Callable[..., RunConfig],
) -> None:
    sources = prepare_packing(config := make_tokens(SHARDS))["sources"]
    tokens = config.paths.data_dir / "tokens"
    files = read_json(tokens / "manifest.json")["files"]
    elsewhere = config.paths.data_dir.parent / "elsewhere"
    (tokens / "web").rename(elsewhere)
    (tokens / "web").mkdir()
    for name, record in files.items():
        original = elsewhere / Path(name).name
        (tokens / name).symlink_to(original)
        files[name] = {
            "bytes": record["bytes"],
            "identity": "name, size, time: 1",
            "link_to": str(original),
        }
    (tokens / "manifest.json").write_text(json.dumps({"files": files}))
    assert prepare_packing(config)["sources"] == sources
    (elsewhere / "train_0.bin").write_bytes(b"")
    shutil.rmtree(best_fit.packing_folder(config.paths.data_dir, 8))
    with pytest.raises(
        TasksFailed,
        match=r"train_0\.bin: holds 0 tokens.* Copy .*elsewhere/train_0\.bin and .* again\.",
    ):
        prepare_packing(config)


def test_without_tokens_or_a_place_to_write_it_says_what_to_do(
    make_tokens: Callable[..., RunConfig],
) -> None:
    config = make_tokens(SHARDS)
    (config.paths.data_dir / "packing").symlink_to(
        "a folder that is gone"
    )  # where not even root can write
    with pytest.raises(
        DataError, match=r"best-fit-8: the packing .* once where paths\.data_dir is writable"
    ):
        prepare_packing(config)
    (config.paths.data_dir / "tokens" / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no finished tokens"):
        prepare_packing(config)


def test_what_tokenize_made_is_packed_whole(make_run: Callable[..., Path]) -> None:
    config = load(make_run(), ["executor.workers=1"])
    packing = prepare_packing(config)
    tokens = read_json(config.paths.data_dir / "tokens" / "manifest.json")["counts"]["sources"]
    assert packing["sources"].keys() == tokens.keys() == {"prose", "sums"}
    for source, counts in packing["sources"].items():
        train = tokens[source]["train"]
        assert counts["documents"] == train["documents"]
        assert counts["positions"] == train["tokens"] - train["documents"] > 0

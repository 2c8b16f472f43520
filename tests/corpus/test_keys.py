"""Original ids and urls: what counts as one, the file's layout, and that all documents that have it
are found."""

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import xxhash
from helpers import list_documents

from pipeline.corpus import documents, key_file
from pipeline.corpus.documents import ShardWriter
from pipeline.corpus.key_file import ShardKeys, find_rows, original_keys
from pipeline.corpus.keys import find_documents
from pipeline.errors import DataError
from pipeline.store.files import file_record


def write(
    folder: Path, metas: Sequence[dict[str, Any]], source: str = "web", split: str = "train"
) -> list[str]:
    """Write shards of three documents in row groups of two, and return the documents' ids."""
    (folder / source).mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder / source, split, "0a", shard_text_bytes=3)
    for row, meta in enumerate(metas):
        writer.add(b"x", json.dumps(meta).encode(), b"raw.jsonl", row)
        if row % 3 == 1:
            writer._write_row_group()
    for name, record in writer.close().items():
        assert record == file_record(folder / source / name)
        list_documents(folder, [folder / source / name])
    return [f"{source}/{split}_0a_{row // 3:03d}/{row % 3}" for row in range(len(metas))]


@pytest.mark.parametrize(
    ("meta", "keys"),
    [
        (
            {"id": "a", "url": "http://x", "arxiv_id": "1203.5362", "name": "n"},
            ["a", "http://x", "1203.5362"],
        ),
        ({"id": 17, "doc_id": -1, "big_id": 2**63}, ["17", "-1", str(2**63)]),
        ({"id": 2**64, "big_id": -(10**40), "n": 0.5}, [str(2**64), str(-(10**40))]),
        ({"id": 10**400}, [str(10**400)]),
        (
            {"id": "", "url": None, "a_id": True, "b_id": 1.5, "c_id": ["x"], "d_id": {"id": "y"}},
            [],
        ),
        ({"id": "same", "url": "same"}, ["same"]),
        ({"paid": "id", "urls": "url", "ids": 1, "_id": "x"}, ["x"]),
        ({"metadata": {"id": "inner", "url": "inner"}}, []),
        ({"url": 'é"日'}, ['é"日']),
        ({}, []),
    ],
)
def test_what_is_an_original_key(meta: dict[str, Any], keys: list[str]) -> None:
    assert (
        original_keys(json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode()) == keys
    )


def test_the_file_by_hand(tmp_path: Path) -> None:
    keys = ShardKeys()
    keys.add([b'{"id":"a","url":"b"}', b"{}", b'{"url":"b"}'], 5)
    record = keys.write(tmp_path / "x.keys")
    entries = sorted(
        (xxhash.xxh3_64_intdigest(key), row) for key, row in ((b"a", 5), (b"b", 5), (b"b", 7))
    )
    expected = b"DOC-KEYS" + struct.pack("<QQ", 1, 3)
    expected += struct.pack("<3Q", *(h for h, _ in entries)) + struct.pack(
        "<3I", *(row for _, row in entries)
    )
    assert (tmp_path / "x.keys").read_bytes() == expected
    assert record == {"bytes": 24 + 3 * 12, "checksum": xxhash.xxh3_128_hexdigest(expected)}
    assert find_rows(tmp_path / "x.keys", "b") == [5, 7]
    assert list(tmp_path.iterdir()) == [tmp_path / "x.keys"]


def test_documents_are_found_by_all_their_keys(tmp_path: Path) -> None:
    ids = write(tmp_path, [{"url": f"http://x/{i}", "id": i, "n": i} for i in range(8)])
    for number, identity in enumerate(ids):
        assert find_documents(tmp_path, f"http://x/{number}", ["web"]) == [identity]
        assert find_documents(tmp_path, str(number), ["web"]) == [identity]
    for absent in ("http://x/8", "http://x/", "8", "", "n", "\ud800"):
        assert find_documents(tmp_path, absent, ["web"]) == []


def test_several_documents_with_one_url_come_in_order(tmp_path: Path) -> None:
    one = [{"url": "u"}, {"url": "v"}, {"id": "u", "url": "u"}, {}, {"page_id": "u"}]
    web, held = write(tmp_path, one), write(tmp_path, one[:1], split="validation")
    other = write(tmp_path, one[:1], source="a")
    assert find_documents(tmp_path, "u", ["web", "a"]) == [
        web[0],
        web[2],
        web[4],
        held[0],
        other[0],
    ]
    assert find_documents(tmp_path, "u", ["a", "web"])[0] == other[0]
    assert find_documents(tmp_path, "u", ["a"]) == other
    assert find_documents(tmp_path, "u", []) == []


def test_a_documents_own_id_is_returned_if_it_exists(tmp_path: Path) -> None:
    ids = write(tmp_path, [{}] * 4)
    for identity in ids:
        assert find_documents(tmp_path, identity, ["web"]) == [identity]
    missing = (
        "web/train_0a_001/1",
        "web/train_0a_002/0",
        "no/train_0a_000/0",
        "web/train_0a_000/-1",
    )
    odd = (
        "web/train_0a_000/00",
        "web/../web/train_0a_000/0",
        f"web/train_{'x' * 300}/0",
        f"web/train_0a_000/{'9' * 5000}",
    )
    for identity in (*missing, *odd, "web/train_\0/0", "web/other_0a_000/0"):
        assert find_documents(tmp_path, identity, ["web"]) == []
    assert find_documents(tmp_path, ids[0], ["a"]) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_keys_against_a_dictionary(tmp_path: Path, seed: int) -> None:
    """Up to 5,000 documents, so that the part read at first is not the whole; some keys stand very
    often."""
    generator = random.Random(seed)
    count = generator.choice([1, 2, 30, 400, 5000])
    population = [str(generator.randrange(10**12)) for _ in range(generator.choice([1, 5, count]))]
    rows: dict[str, list[int]] = {}
    keys = ShardKeys()
    for row in range(count):
        key = generator.choice(population)
        keys.add([json.dumps({"id": key}).encode()], row)
        rows.setdefault(key, []).append(row)
    keys.write(tmp_path / "x.keys")
    for key in generator.sample(sorted(rows), min(200, len(rows))):
        assert find_rows(tmp_path / "x.keys", key) == rows[key]
    for _ in range(200):
        assert find_rows(tmp_path / "x.keys", f"not {generator.random()}") == []


def test_little_of_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, count = ShardKeys(), 250_000
    keys.add([b'{"id":%d}' % row for row in range(count)], 0)
    size = keys.write(tmp_path / "x.keys")["bytes"]
    assert size == 24 + 12 * count
    read: list[int] = []
    whole = key_file.os.pread
    monkeypatch.setattr(
        key_file.os, "pread", lambda *asked: (read.append(asked[1]), whole(*asked))[1]
    )
    assert find_rows(tmp_path / "x.keys", "1234") == [1234]
    # Header; 2 x 4 x (500 // 2 + 1) hashes; a row.
    assert read == [24, 8 * 2008, 4]


@pytest.mark.parametrize("hashed", [0, 7, 2**63, 2**64 - 1])
def test_keys_of_one_hash_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: int
) -> None:
    real = key_file.hash_key
    monkeypatch.setattr(
        key_file, "hash_key", lambda key: real(key) if key.startswith("o") else hashed
    )
    metas = [
        {"url": "a"},
        {"url": "b"},
        {"url": "a", "id": "b"},
        *({"id": f"o{i}"} for i in range(40)),
    ]
    ids = write(tmp_path, metas)
    assert find_documents(tmp_path, "a", ["web"]) == [ids[0], ids[2]]
    assert find_documents(tmp_path, "b", ["web"]) == [ids[1], ids[2]]
    assert find_documents(tmp_path, "c", ["web"]) == []
    assert find_documents(tmp_path, "o39", ["web"]) == [ids[42]]


def test_many_documents_of_one_key_are_all_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ShardKeys()
    metas = [b'{"site_id":"%s"}' % (b"same" if row % 3 else b"%d" % row) for row in range(9000)]
    keys.add(metas, 0)
    keys.write(tmp_path / "x.keys")
    assert find_rows(tmp_path / "x.keys", "same") == [row for row in range(9000) if row % 3]
    for row in range(0, 9000, 90):
        assert find_rows(tmp_path / "x.keys", str(row)) == [row]


def damage(content: bytes, how: str) -> bytes | None:
    if how == "gone":
        return None
    if how == "other rows":
        return content[:-4] + struct.pack("<I", 99)
    changes = {
        "empty": b"",
        "header": content[:20],
        "cut": content[:-1],
        "longer": content + b"x",
        "magic": b"X",
    }
    version = content[:8] + struct.pack("<Q", 2) + content[16:]
    return {**changes, "magic": b"X" + content[1:], "version": version}[how]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("gone", "is missing"),
        ("empty", "is not a .keys file (another beginning)"),
        ("header", "is not a .keys file (another beginning)"),
        ("magic", "is not a .keys file (another beginning)"),
        ("version", "has the format version 2 and not 1"),
        ("cut", "has 35 bytes and not the 36 of its 1 entries"),
        ("longer", "has 37 bytes and not the 36 of its 1 entries"),
        (
            "other rows",
            "does not fit its shard (train_0a_000.parquet has 1 rows; rows 99 to 99 were requested)",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, how: str, why: str) -> None:
    write(tmp_path, [{"id": "a"}])
    path = tmp_path / "web" / ".train_0a_000.keys"
    content = damage(path.read_bytes(), how)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        find_documents(tmp_path, "a", ["web"])
    assert str(raised.value) == (
        f"{path}: {why}, so documents of this shard cannot be found by their original id or url. "
        "Delete it and "
        f"{tmp_path}/manifest.json, then run `pipeline prepare`: it makes this shard anew and "
        "keeps the others."
    )


def test_the_remedy_works(run_file: Path) -> None:
    from helpers import digests, run_stages

    (run_file.parent / "web.jsonl").write_text('{"text": "x", "meta": {"url": "u"}}\n')
    settings = ["prepare.validation_fraction=0"]
    run_stages(run_file, ["prepare"], settings)
    folder = run_file.parent / "data" / "documents"
    before, (path,) = digests(folder), folder.glob("web/.*.keys")
    path.write_bytes(b"")
    path.unlink()
    (folder / "manifest.json").unlink()
    run_stages(run_file, ["prepare"], settings)
    assert digests(folder) == before
    (shard,) = documents.shard_paths(folder, "web", "train")
    assert find_documents(folder, "u", ["web"]) == [f"web/{shard.stem}/0"]

"""The search of all documents: what it finds, that nothing is searched twice, that nothing but the
documents and the texts decides what is found."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import pytest
import zstandard
from helpers import list_documents

from pipeline.config.run_sections import Executor
from pipeline.corpus import text_search
from pipeline.corpus.documents import ShardWriter, document_shard, read_documents
from pipeline.corpus.folded_words import words_of
from pipeline.corpus.ngram_index import NgramIndex
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.corpus.text_search import (
    FoundPassage,
    SearchedTexts,
    bytes_to_search,
    found_passages,
    search_documents,
)
from pipeline.errors import DataError, LeaseError, TasksFailed
from pipeline.store.environment import user_variable
from pipeline.store.layout import DataFolder
from pipeline.store.lease import Lease

ALONE = Executor(workers=1)
RIDDLES = (
    "What has a face and two hands but neither arms nor legs, and hangs upon the wall? A clock.",
    "Who writes letters all day long and never posts one? A school pupil.",
    "Too short to tell.",
)
SAYINGS = (
    "Those who live in houses that are made of glass had better not throw any stones at all.",
)


def filler(number: int) -> str:
    return " ".join(f"word{(number * 31 + place * place) % 97}" for place in range(60))


def write_shards(
    data_dir: Path, source: str, texts: Sequence[str], split: str = "train", documents: int = 4
) -> None:
    """Write shards of some documents each, in row groups of two, and list them in the manifest."""
    folder = DataFolder(data_dir).documents / source
    folder.mkdir(parents=True, exist_ok=True)
    for shard, first in enumerate(range(0, len(texts), documents)):
        writer = ShardWriter(folder, split, f"{shard:02d}", shard_text_bytes=10**6)
        for row, text in enumerate(texts[first : first + documents]):
            writer.add(text.encode(), b"{}", b"raw.jsonl", row)
            if row % 2:
                writer._write_row_group()
        names = [name for name in writer.close() if name.endswith(".parquet")]
        list_documents(folder.parent, [folder / name for name in names])


def corpus(data_dir: Path, documents: int = 4) -> None:
    """Write two sources: texts planted in documents 3, 7, 8 and held-out 1 of `web`, and 2 of `books`."""
    web = [filler(number) for number in range(11)]
    web[3] += f" {RIDDLES[0]} And so on. {RIDDLES[1]}"
    web[7] = RIDDLES[0].upper().replace(" ", "\n\n")
    web[8] += f" He asked: «{SAYINGS[0]}» {SAYINGS[0]}"
    write_shards(data_dir, "web", web, documents=documents)
    write_shards(data_dir, "web", [filler(50), RIDDLES[1]], split="validation")
    write_shards(data_dir, "books", [filler(60), filler(61), f"{RIDDLES[2]} {RIDDLES[1]}"])


def sets() -> list[SearchedTexts]:
    return [SearchedTexts("riddles", RIDDLES), SearchedTexts("sayings", SAYINGS)]


def search(data_dir: Path, texts: Sequence[SearchedTexts], executor: Executor = ALONE) -> None:
    search_documents(all_documents(data_dir), ["web", "books"], texts, executor, "pytest")


def place(passage: FoundPassage) -> tuple[int, str, int, int]:
    return passage["text"], passage["shard"], passage["row"], passage["grams"]


def test_it_finds_which_documents_hold_which_texts(tmp_path: Path) -> None:
    corpus(tmp_path)
    riddles, sayings = sets()
    search(tmp_path, [riddles, sayings])
    found = found_passages(all_documents(tmp_path), "web", riddles)
    assert [place(passage) for passage in found] == [
        (0, "train_00_000", 3, 7),
        (0, "train_01_000", 3, 7),
        (1, "train_00_000", 3, 1),
        (1, "validation_00_000", 1, 1),
    ]
    # A text that follows itself is one passage with the n-grams of one.
    assert [place(p) for p in found_passages(all_documents(tmp_path), "web", sayings)] == [
        (0, "train_02_000", 0, 6)
    ]
    assert [place(p) for p in found_passages(all_documents(tmp_path), "books", riddles)] == [
        (1, "train_00_000", 2, 1)
    ]
    assert found_passages(all_documents(tmp_path), "books", sayings) == []
    for passage in found:
        shard = document_shard(DataFolder(tmp_path).documents / "web", passage["shard"])
        (document,) = read_documents(shard, [passage["row"]])
        text = document["text"].encode()
        assert passage["document_bytes"] == len(text)
        held = text[passage["start"] : passage["end"]].decode()
        assert words_of(held) == words_of(RIDDLES[passage["text"]])


def spoil(shard: Path) -> bytes:
    """Overwrite a file with as many other bytes, and return what it held."""
    content = shard.read_bytes()
    shard.write_bytes(b"x" * len(content))
    return content


def test_nothing_is_searched_twice(tmp_path: Path) -> None:
    corpus(tmp_path)
    riddles, sayings = sets()
    assert bytes_to_search(all_documents(tmp_path), ["web", "books"], [riddles]) == sum(
        path.stat().st_size for path in tmp_path.rglob("*.parquet")
    )
    search(tmp_path, [riddles])
    assert bytes_to_search(all_documents(tmp_path), ["web", "books"], [riddles]) == 0
    found = found_passages(all_documents(tmp_path), "web", riddles)

    # Who read a shard again would find it damaged.
    shards = sorted((tmp_path / "documents" / "web").glob("*.parquet"))
    contents = [spoil(shard) for shard in shards]
    search(tmp_path, [riddles])
    assert found_passages(all_documents(tmp_path), "web", riddles) == found

    # New texts are searched for alone, but in all shards; a new source is searched alone.
    with pytest.raises(TasksFailed, match="is damaged") as error:
        search(tmp_path, [riddles, sayings])
    assert all(str(shard) in str(error.value) for shard in shards)
    for shard, content in zip(shards, contents, strict=True):
        shard.write_bytes(content)
    search(tmp_path, [riddles, sayings])
    for shard in shards:
        spoil(shard)
    write_shards(tmp_path, "poems", [SAYINGS[0]])
    search_documents(all_documents(tmp_path), ["web", "books", "poems"], sets(), ALONE, "pytest")
    assert [place(p) for p in found_passages(all_documents(tmp_path), "poems", sayings)] == [
        (0, "train_00_000", 0, 6)
    ]
    assert len(found_passages(all_documents(tmp_path), "web", sayings)) == 1


def test_an_interrupted_search_continues_where_it_was(tmp_path: Path) -> None:
    corpus(tmp_path)
    riddles, _ = sets()
    first, second = sorted((tmp_path / "documents" / "web").glob("train_0[01]_*.parquet"))
    content = spoil(second)
    with pytest.raises(TasksFailed, match=second.name):
        search(tmp_path, [riddles])
    with pytest.raises(DataError, match="is missing"):
        found_passages(all_documents(tmp_path), "web", riddles)
    spoil(first)
    second.write_bytes(content)
    search(tmp_path, [riddles])
    assert len(found_passages(all_documents(tmp_path), "web", riddles)) == 4
    # Nothing of the search itself is left.
    assert [path.name for path in (tmp_path / "contamination").glob(".*")] == []


def found_texts(data_dir: Path) -> set[tuple[str, int, int, int]]:
    """Return what was found, with the text of the document in place of its shard and row."""
    documents = DataFolder(data_dir).documents
    found: set[tuple[str, int, int, int]] = set()
    for texts in sets():
        for source in ("web", "books"):
            for passage in found_passages(all_documents(data_dir), source, texts):
                shard = document_shard(documents / source, passage["shard"])
                (document,) = read_documents(shard, [passage["row"]], ["text"])
                found.add((document["text"], passage["text"], passage["start"], passage["grams"]))
    return found


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.ranks)])
def test_shards_workers_and_order_change_nothing(tmp_path: Path, workers: int) -> None:
    corpus(tmp_path / "one")
    search(tmp_path / "one", sets())
    corpus(tmp_path / "other", documents=3)
    search(tmp_path / "other", sets()[::-1], Executor(workers=workers))
    found = found_texts(tmp_path / "one")
    assert len(found) == 6
    assert found_texts(tmp_path / "other") == found


def test_a_search_waits_for_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "WAIT_SECONDS", 0.05)
    corpus(tmp_path)
    with Lease(tmp_path / "contamination", "pipeline evaluate"):
        waiting = Thread(target=search, args=(tmp_path, sets()))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
    waiting.join(60)
    assert len(found_passages(all_documents(tmp_path), "web", sets()[0])) == 4
    assert capsys.readouterr().err.count("waiting for another command") == 1


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "WAIT_SECONDS", 0.0)
    corpus(tmp_path)
    (tmp_path / "contamination").write_text("a file where the folder should be")
    with pytest.raises(LeaseError, match=r"contamination: cannot be made"):
        search(tmp_path, sets())


def test_missing_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pipeline prepare"):
        search(tmp_path, sets())


REAL = ("PIPELINE_TEST_CORPUS", "PIPELINE_TEST_EVAL")


@pytest.mark.skipif(
    any(user_variable(name) is None for name in REAL),
    reason=f"reads a real corpus and real questions: {' and '.join(REAL)} name their folders",
)
def test_no_real_question_is_found_in_an_unrelated_corpus() -> None:
    questions: list[str] = []
    for name in ("arc_easy", "piqa"):
        lines = Path(os.environ["PIPELINE_TEST_EVAL"], f"{name}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        questions += [f"{row['query']} {row['choices'][row['gold']]}" for row in rows]
    documents: list[bytes] = []
    for path in sorted(Path(os.environ["PIPELINE_TEST_CORPUS"]).glob("*.jsonl.zst")):
        with path.open("rb") as file:
            content = zstandard.ZstdDecompressor().stream_reader(file).readall()
        documents += [json.loads(line)["text"].encode() for line in content.splitlines()]
    index = NgramIndex(questions)
    assert index.is_searched.sum() > 1000
    assert len(index.find(documents).text) == 0
    # What is planted among them is found.
    documents[5] += questions[7].encode()
    assert index.find(documents).text.tolist() == [7]

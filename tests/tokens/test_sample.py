"""What the vocabulary is learned from: exact shares, bounded documents, the same ones whatever the
files' order."""

from pathlib import Path

import numpy as np
import pytest
from helpers import run_stages

from pipeline.config.run_file import load
from pipeline.corpus.documents import ShardWriter, shard_records
from pipeline.errors import DataError
from pipeline.tokens.sample import Sample, _row_groups, choose, share_out


def test_shares_follow_the_weights() -> None:
    assert share_out(100, {"a": 3, "b": 1}, {"a": 1000, "b": 1000}) == {"a": 75, "b": 25}


def test_who_has_less_gives_all_and_the_others_fill_up() -> None:
    # c has 5 of its 50; of the 95 left a and b, weighted 1:1, would give 47.5: b has 40, so a gives
    # 55.
    assert share_out(100, {"a": 1, "b": 1, "c": 2}, {"a": 1000, "b": 40, "c": 5}) == {
        "a": 55,
        "b": 40,
        "c": 5,
    }
    assert share_out(100, {"a": 1, "b": 1}, {"a": 7, "b": 8}) == {"a": 7, "b": 8}


def test_without_weight_or_text_there_is_no_share() -> None:
    assert share_out(100, {"a": 0, "b": 2, "c": 1}, {"a": 50, "b": 500, "c": 0}) == {
        "a": 0,
        "b": 100,
        "c": 0,
    }
    assert share_out(100, {"a": 1}, {"a": 0}) == {"a": 0}


def test_one_huge_document_gives_no_more_than_the_bound() -> None:
    ids = [f"s/x/{i}" for i in range(1000)]
    lengths = np.full(1000, 5_000)
    lengths[17] = 500_000_000
    bound, taken = choose(ids, lengths, 1_000_000)
    assert bound == 10_000  # a hundredth of the million
    assert max(size for _, size in taken.values()) == 10_000 if 17 in taken else 5_000
    assert sum(size for _, size in taken.values()) == 1_000_000
    assert all(start + size <= lengths[i] for i, (start, size) in taken.items())


def test_few_documents_give_more_by_doubling() -> None:
    # Three documents of 40,000 for 100,000 bytes: 1,000 doubled until 3 x bound >= 100,000 is
    # 64,000.
    bound, taken = choose(["a", "b", "c"], np.array([40_000] * 3), 100_000)
    assert bound == 64_000
    assert sorted(size for _, size in taken.values()) == [20_000, 40_000, 40_000]
    bound, taken = choose(["a", "b"], np.array([10, 20]), 100_000)  # all there is
    assert {i: size for i, (_, size) in taken.items()} == {0: 10, 1: 20}


def test_the_choice_is_the_documents_not_their_order() -> None:
    ids, lengths = [f"s/x/{i}" for i in range(500)], np.arange(500) + 800
    there = {ids[i]: piece for i, piece in choose(ids, lengths, 50_000)[1].items()}
    back = {ids[::-1][i]: piece for i, piece in choose(ids[::-1], lengths[::-1], 50_000)[1].items()}
    assert there == back


def test_of_a_large_source_only_a_part_is_read(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "web", "train", "0", 2**40)
    (tmp_path / "web").mkdir()
    for i in range(60):
        writer.add(bytes([97 + i % 26]) * 2**20, b"{}", b"f", i)
    shards = [tmp_path / "web" / name for name in shard_records(writer.close())]
    assert (
        len(_row_groups("web", shards, 10**9)) == 9
    )  # 7 of 1 MiB and their meta make a row group of less than 8 MiB
    # A document counts as 100 kB at most: a group of 7 could give 700 kB, and ten times 100 kB is
    # wanted.
    assert len(_row_groups("web", shards, 100_000)) == 2


def sample_of(run_file: Path, *overrides: str) -> tuple[Sample, list[str]]:
    sample = Sample(load(run_file, overrides))
    return sample, list(sample.texts())


def write_sources(run_file: Path) -> None:
    """Three sources: 400 documents of 100 bytes with multi-byte characters, one of 90,000, one of
    2,000."""
    folder = run_file.parent
    rows = [
        f'{{"text": "{i:04d}{"äß日" * 12}{"x" * 12}"}}' for i in range(400)
    ]  # 4 + 12 x 7 + 12 = 100 bytes
    (folder / "web.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "books.jsonl").write_text(f'{{"text": "{"0123456789" * 9000}"}}\n')
    (folder / "notes.jsonl").write_text(f'{{"text": "{"note " * 400}"}}\n')
    text = run_file.read_text().replace(
        "sources:\n",
        "prepare: {validation_fraction: 0}\nsources:\n"
        "  books: {kind: jsonl, paths: [books.jsonl]}\n  notes: {kind: jsonl, paths: "
        "[notes.jsonl]}\n",
    )
    run_file.write_text(text)
    run_stages(run_file, ["prepare"], [])


def test_the_sample_has_the_mixtures_shares(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sources(run_file)
    mixture = "data.mixture={web: 1, books: 2, notes: 1}"
    sample, texts = sample_of(run_file, "tokenizer.sample_bytes=14000", mixture)
    # notes has 2,000 of its 3,500; of the 12,000 left web gives a third.
    assert {name: given.wanted for name, given in sample.given.items()} == {
        "books": 8000,
        "notes": 2000,
        "web": 4000,
    }
    assert (
        "source notes has 2.0 kB of training text, its share of the sample is 3.5 kB"
        in capsys.readouterr().err
    )
    report = sample.report()
    assert report == {  # one book, so its bound of 1000 is doubled until 8000
        "books": {
            "bytes": 8000,
            "documents": 1,
            "document_bound_bytes": 8000,
            "largest_document_bytes": 8000,
        },
        "notes": {
            "bytes": 2000,
            "documents": 1,
            "document_bound_bytes": 2000,
            "largest_document_bytes": 2000,
        },
        "web": {
            "bytes": 4000,
            "documents": 40,
            "document_bound_bytes": 1000,
            "largest_document_bytes": 100,
        },
    }
    sample.note_dominant_documents()
    said = capsys.readouterr().err
    assert "one document of source books gave 8.0 kB of the 14.0 kB" in said
    assert "source notes" in said  # 2,000 of 14,000
    assert "source web" not in said
    assert sample.bytes == sum(len(text.encode()) for text in texts) == sample.wanted_bytes == 14000
    assert sample.progress == 14000
    assert texts == sample_of(run_file, "tokenizer.sample_bytes=14000", mixture)[1]
    book = next(text for text in texts if "0123456789" in text)
    assert book in "0123456789" * 9000


def test_without_a_mixture_shares_are_the_texts(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sources(run_file)
    capsys.readouterr()
    sample, texts = sample_of(
        run_file, "tokenizer.sample_bytes=13200"
    )  # a tenth of 40,000 + 90,000 + 2,000
    assert {name: given.wanted for name, given in sample.given.items()} == {
        "books": 9000,
        "notes": 200,
        "web": 4000,
    }
    assert capsys.readouterr().err == ""
    sample, texts = sample_of(run_file)
    assert sum(len(text.encode()) for text in texts) == 132_000
    assert (
        "have 132.0 kB of training text, tokenizer.sample_bytes asks for 200.0 MB: all of it is "
        "used" in (capsys.readouterr().err)
    )


def test_cuts_fall_between_characters(run_file: Path) -> None:
    (run_file.parent / "web.jsonl").write_text(f'{{"text": "{"日" * 20000}"}}\n')
    run_stages(run_file, ["prepare"], ["prepare.validation_fraction=0"])
    sample, texts = sample_of(run_file, "tokenizer.sample_bytes=10000")
    assert set(texts[0]) == {"日"}
    assert 9_995 <= sample.bytes <= 10_000


def test_a_source_without_training_text_is_no_error_unless_all_are(run_file: Path) -> None:
    write_sources(run_file)
    sample, _ = sample_of(
        run_file, "data.mixture={web: 1, books: 0, notes: 0}", "tokenizer.sample_bytes=10000"
    )
    assert set(sample.report()["books"].values()) == {0}
    manifest = run_file.parent / "data" / "documents" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"train"', '"none"'))
    with pytest.raises(DataError, match="no source has text to learn a vocabulary from"):
        sample_of(run_file)


def test_an_unreadable_shard_is_kept_as_the_samples_error(run_file: Path) -> None:
    write_sources(run_file)
    sample = Sample(load(run_file))
    shard = next((run_file.parent / "data" / "documents" / "notes").glob("train_*.parquet"))
    shard.write_bytes(b"nothing")
    with pytest.raises(DataError, match=shard.name):
        list(sample.texts())
    assert not sample.finished
    assert shard.name in str(sample.error)

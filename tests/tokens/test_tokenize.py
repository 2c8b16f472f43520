"""Tokens on disk against an independent encoding of the same documents."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import digests, run_stages
from test_indexed_dataset import read_by_description
from tokenizers import Tokenizer, pre_tokenizers

from pipeline.config.run_file import load
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.store.files import read_json
from pipeline.tokens.encode import Encoder
from pipeline.tokens.tokenize import write_shard

STAGES = ["prepare", "train-tokenizer", "tokenize"]
VOCABULARY = {"sentencepiece-bpe": 300, "byte-level-bpe": 270}


def independent_encoding(shard: Path, tokenizer: Path) -> list[list[int]]:
    """Encode document by document with `tokenizers`, from the Parquet file itself."""
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encoder.encode_special_tokens = True
    end = encoder.token_to_id("<|endoftext|>")
    rows = pq.read_table(shard)["text"].to_pylist()
    return [[*encoder.encode(text, add_special_tokens=False).ids, end] for text in rows]


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "byte-level-bpe"])
@pytest.mark.parametrize("encoder", ["auto", "reference"])
def test_tokens_equal_an_independent_encoding(run_file: Path, kind: str, encoder: str) -> None:
    changes = [
        f"tokenizer.kind={kind}",
        f"tokenizer.vocab_size={VOCABULARY[kind]}",
        f"tokens.encoder={encoder}",
    ]
    changes += ["prepare.shard_text_bytes=600", "prepare.validation_fraction=0.2"]
    run_stages(run_file, STAGES, changes)
    data = load(run_file).paths.data_dir
    shards = sorted((data / "documents").glob("*/*.parquet"))
    assert len(shards) > 2
    for shard in shards:
        prefix = data / "tokens" / shard.parent.name / shard.stem
        assert read_by_description(prefix)[0] == independent_encoding(shard, data / "tokenizer"), (
            shard
        )
    counts = read_json(data / "tokens" / "manifest.json")["counts"]
    assert counts["encoders"] == {"gigatoken" if encoder == "auto" else "reference": len(shards)}
    assert sum(split["documents"] for split in counts["sources"]["web"].values()) == 40


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "byte-level-bpe"])
def test_decoding_the_tokens_of_every_document_gives_its_text(run_file: Path, kind: str) -> None:
    hard = [
        "  two  spaces\n\n\ttab\r\n",
        "naïve 日本語 🙂",
        "a\u0000b",
        "<|endoftext|> <unk>",
        "▁",
        " ",
        "\ufeffx",
        "é",
    ]
    rows = [
        json.dumps({"text": text}) + "\n"
        for text in [*hard[:5], *hard[6:], "words and more words " * 50]
    ]
    (run_file.parent / "web.jsonl").write_text("".join(rows))
    changes = [
        f"tokenizer.kind={kind}",
        f"tokenizer.vocab_size={VOCABULARY[kind] - 5}",
        "prepare.max_bad_rows=1",
    ]
    run_stages(run_file, STAGES, changes)
    data = load(run_file).paths.data_dir
    decoder = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    for shard in (data / "documents").glob("*/*.parquet"):
        texts = pq.read_table(shard)["text"].to_pylist()
        documents = read_by_description(data / "tokens" / shard.parent.name / shard.stem)[0]
        decoded = [decoder.decode(ids[:-1], skip_special_tokens=False) for ids in documents]
        # SentencePiece writes a space as U+2581, so that character itself comes back as a space.
        assert decoded == [
            text if kind == "byte-level-bpe" else text.replace("▁", " ") for text in texts
        ]


def test_special_token_text_in_a_document_stays_text(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "web.jsonl").write_text(
        '{"text": "stop <|endoftext|> not"}\n' * 3 + '{"text": "plain"}\n'
    )
    run_stages(run_file, STAGES, ["tokenizer.vocab_size=258", "prepare.validation_fraction=0"])
    data = load(run_file).paths.data_dir
    (prefix,) = [path.with_suffix("") for path in (data / "tokens").glob("*/*.idx")]
    documents = read_by_description(prefix)[0]
    end = documents[0][-1]
    assert [document.count(end) for document in documents] == [1, 1, 1, 1]


def test_lost_output_is_made_again_and_nothing_else(run_file: Path) -> None:
    changes = ["prepare.shard_text_bytes=600"]
    run_stages(run_file, STAGES, changes)
    folder = load(run_file).paths.data_dir / "tokens"
    lost, *others = sorted(folder.glob("web/*.bin"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (lost, *others)}
    lost.unlink()
    (folder / "manifest.json").unlink()
    run_stages(run_file, ["tokenize"], changes)
    assert lost.read_bytes() == before[lost][1]
    assert {path: path.stat().st_mtime_ns for path in others} == {
        path: before[path][0] for path in others
    }


def test_a_shard_with_one_difference_is_left_to_the_reference(
    run_file: Path, tmp_path: Path
) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer"], [])
    data = load(run_file).paths.data_dir
    (shard,) = (data / "documents").glob("web/train_*.parquet")
    encoder = Encoder(data / "tokenizer", "auto", parse_special_tokens=False)
    assert (
        write_shard(all_documents(data), shard, tmp_path / "same", encoder, fast=True) is not None
    )
    encoder.reference.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=True
    )  # no longer the same tokenizer
    assert write_shard(all_documents(data), shard, tmp_path / "other", encoder, fast=True) is None
    assert {path.stem for path in tmp_path.glob("*.bin")} == {"same"}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "byte-level-bpe"])
def test_threads_that_share_an_encoder_write_the_same_bytes(
    run_file: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        f"tokenizer.kind={kind}",
        f"tokenizer.vocab_size={VOCABULARY[kind]}",
        "prepare.shard_text_bytes=200",
    ]
    run_stages(run_file, STAGES, changes)
    data = load(run_file).paths.data_dir
    expected = digests(data / "tokens")
    assert len(expected) >= 3 * 8
    monkeypatch.setattr(
        "pipeline.tokens.encode.FORGET_EVERY_BYTES", 1
    )  # started afresh all the time, too
    monkeypatch.setattr("pipeline.tokens.encode.MOST_RESIDENT_BYTES", 1)
    for _ in range(5):
        shutil.rmtree(data / "tokens")
        run_stages(run_file, ["tokenize"], [*changes, "executor.workers=auto"])
        assert digests(data / "tokens") == expected


def test_a_kind_that_gigatoken_does_not_know_is_said(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(
        run_file, STAGES, ["tokenizer.kind=sentencepiece-unigram", "tokenizer.vocab_size=293"]
    )
    assert "does not support this kind of tokenizer" in " ".join(capsys.readouterr().err.split())
    data = load(run_file).paths.data_dir
    shards = sorted((data / "documents").glob("*/*.parquet"))
    assert read_json(data / "tokens" / "manifest.json")["counts"]["encoders"] == {
        "reference": len(shards)
    }
    for shard in shards:
        prefix = data / "tokens" / shard.parent.name / shard.stem
        assert read_by_description(prefix)[0] == independent_encoding(shard, data / "tokenizer")

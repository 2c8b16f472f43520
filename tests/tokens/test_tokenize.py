"""Tokens on disk against an independent encoding of the same documents."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import run_stages
from test_indexed_dataset import read_by_description
from tokenizers import Tokenizer

from pipeline.artifacts import read_json
from pipeline.config import load

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
    changes = [f"tokenizer.kind={kind}", f"tokenizer.vocab_size={VOCABULARY[kind]}", f"tokens.encoder={encoder}"]
    changes += ["prepare.shard_text_bytes=600", "prepare.validation_fraction=0.2"]
    run_stages(run_file, STAGES, changes)
    data = load(run_file).paths.data_dir
    shards = sorted((data / "documents").glob("*/*.parquet"))
    assert len(shards) > 2
    for shard in shards:
        prefix = data / "tokens" / shard.parent.name / shard.stem
        assert read_by_description(prefix)[0] == independent_encoding(shard, data / "tokenizer"), shard
    counts = read_json(data / "tokens" / "manifest.json")["counts"]
    assert counts["encoders"] == {"gigatoken" if encoder == "auto" else "reference": len(shards)}
    assert sum(split["documents"] for split in counts["sources"]["web"].values()) == 40


def test_special_token_text_in_a_document_stays_text(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "web.jsonl").write_text('{"text": "stop <|endoftext|> not"}\n' * 3 + '{"text": "plain"}\n')
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
    assert {path: path.stat().st_mtime_ns for path in others} == {path: before[path][0] for path in others}

"""Both kinds of tokenizer are trained, exported, loaded as a user would, and compared with an independent encoding."""

import random
from pathlib import Path

import pytest
import sentencepiece
from helpers import run_stages

from pipeline.config import Tokenizer, load
from pipeline.errors import DataError
from pipeline.tokens import sentencepiece_bpe
from pipeline.tokens.train_tokenizer import EDGE_STRINGS, load_exported

VOCABULARY = {"sentencepiece-bpe": 300, "byte-level-bpe": 270}
WORDS = ["the", "quick", "brown", "fox", "def", "return", "12345", "naïve", "Δx", "日本語", "\n    ", "==", "(x)"]


def texts(count: int) -> list[str]:
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS, k=60)) for _ in range(count)]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    sentencepiece_bpe.train(iter(texts(200)), Tokenizer(kind="sentencepiece-bpe", vocab_size=340), path)
    return path


def test_the_fast_tokenizer_gives_sentencepieces_ids(model_file: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    fast = sentencepiece_bpe.to_fast(model_file)
    fast.encode_special_tokens = True
    for text in [*EDGE_STRINGS, *texts(50)]:
        assert fast.encode(text, add_special_tokens=False).ids == reference.encode(text), repr(text)


def test_decoding_gives_the_text_back_but_for_the_symbol_of_a_space(model_file: Path) -> None:
    fast = sentencepiece_bpe.to_fast(model_file)
    fast.encode_special_tokens = True
    for text in EDGE_STRINGS:
        decoded = fast.decode(fast.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        assert decoded == text.replace("\u2581", " "), repr(text)


def test_training_sentences_are_short_enough_and_lose_nothing() -> None:
    text = ("line of text\n" * 400 + "x" * 3000) * 3
    pieces = list(sentencepiece_bpe.pieces_of(iter([text, "", "short"])))
    assert "".join(pieces) == text + "short"
    assert max(len(piece.encode()) for piece in pieces) <= sentencepiece_bpe.MAX_SENTENCE_BYTES


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "byte-level-bpe"])
def test_the_stage_exports_what_transformers_loads(run_file: Path, kind: str) -> None:
    changes = [f"tokenizer.kind={kind}", f"tokenizer.vocab_size={VOCABULARY[kind]}"]
    config = load(run_file, changes)
    run_stages(run_file, ["prepare", "train-tokenizer"], changes)
    tokenizer = load_exported(config.paths.data_dir / "tokenizer")
    assert len(tokenizer) == VOCABULARY[kind]
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    text = "document 7 says that 7 and 7 make 14"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|endoftext|>")["input_ids"] == [tokenizer.eos_token_id]  # asked for by a user: special


def test_a_pretrained_tokenizer_is_taken_as_it_is(run_file: Path, tmp_path: Path) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer"], [])
    first = load(run_file).paths.data_dir / "tokenizer"
    text = run_file.read_text().replace(
        "{kind: byte-level-bpe, vocab_size: 270}", f"{{kind: pretrained, path: {first}}}"
    )
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("data_dir: data", "data_dir: data2"))
    run_stages(other, ["prepare", "train-tokenizer"], [])
    again = load_exported(tmp_path / "data2" / "tokenizer")
    assert again("say that 7")["input_ids"] == load_exported(first)("say that 7")["input_ids"]


def test_too_large_a_vocabulary_is_the_users_mistake(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    for kind in ("sentencepiece-bpe", "byte-level-bpe"):
        with pytest.raises(DataError, match=r"tokenizer\.vocab_size = 30000: .*Take a smaller vocabulary or more text"):
            run_stages(run_file, ["train-tokenizer"], [f"tokenizer.kind={kind}", "tokenizer.vocab_size=30000"])


def test_a_missing_pretrained_folder_is_named(run_file: Path) -> None:
    text = run_file.read_text().replace("{kind: byte-level-bpe, vocab_size: 270}", "{kind: pretrained, path: nowhere}")
    run_file.write_text(text)
    with pytest.raises(DataError, match=r"nowhere: holds no tokenizer\.json"):
        run_stages(run_file, ["prepare", "train-tokenizer"], [])

"""The stage: every kind is trained, exported, loaded as a user would, proven, and the same at every
run."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import run_stages

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.run_file import load
from pipeline.config.sections import TokenizerSection
from pipeline.config.yaml_files import read_yaml
from pipeline.errors import DataError
from pipeline.logs import elapsed
from pipeline.tokens import byte_level_bpe
from pipeline.tokens.kinds.training_thread import train_in_thread
from pipeline.tokens.sample import Sample
from pipeline.tokens.tokenizer_folder import PROOF_STRINGS, load_exported, proof_strings, prove

VOCABULARY = {"sentencepiece-bpe": 300, "sentencepiece-unigram": 340, "byte-level-bpe": 270}
RECIPES = sorted((Path(__file__).parents[2] / "tokenizer").glob("*.yaml"))


@pytest.fixture
def run_file(run_file: Path) -> Path:
    """Add rows of many different words: a unigram vocabulary needs them."""
    generator = random.Random(0)
    words = [
        "".join(generator.choices("abcdefghijklm", k=generator.randrange(2, 9))) for _ in range(200)
    ]
    with (run_file.parent / "web.jsonl").open("a") as file:
        for _ in range(100):
            file.write(f'{{"text": "{" ".join(generator.choices(words, k=30))}"}}\n')
    return run_file


def stage(run_file: Path, kind: str, whole_proof: bool = False) -> Path:
    """Run the stages up to the tokenizer; returns its folder."""
    changes = [f"tokenizer.kind={kind}", f"tokenizer.vocab_size={VOCABULARY[kind]}"]
    run_stages(run_file, ["prepare", "train-tokenizer"], changes, whole_proof)
    return load(run_file, changes).paths.data_dir / "tokenizer"


@pytest.mark.parametrize("kind", VOCABULARY)
def test_the_stage_exports_what_transformers_loads(run_file: Path, kind: str) -> None:
    folder = stage(run_file, kind)
    tokenizer = load_exported(folder)
    assert len(tokenizer) == VOCABULARY[kind]
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    text = "document 7 says that 7 and 7 make 14"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|endoftext|>")["input_ids"] == [
        tokenizer.eos_token_id
    ]  # asked for by a user: special
    as_text = tokenizer("<|endoftext|><0x41>", split_special_tokens=True)["input_ids"]
    assert tokenizer.eos_token_id not in as_text
    assert tokenizer.decode(as_text) == "<|endoftext|><0x41>"
    assert (folder / "tokenizer.model").exists() == (kind == "sentencepiece-bpe")


@pytest.mark.parametrize("kind", VOCABULARY)
def test_the_report_counts_what_was_read_and_compared(run_file: Path, kind: str) -> None:
    folder = stage(run_file, kind, whole_proof=True)
    report = json.loads((folder / "report.json").read_text())
    documents = json.loads((folder.parent / "documents" / "manifest.json").read_text())["counts"][
        "sources"
    ]["web"]
    text_bytes, count = documents["text_bytes"]["train"], documents["documents"]["train"]
    assert (
        report["training_bytes"] == report["sample"]["web"]["bytes"] == text_bytes
    )  # far less than sample_bytes
    assert report["sample"]["web"]["documents"] == count
    with_symbol = report["strings_with_the_space_symbol"]
    assert with_symbol >= 4
    lost = 0 if kind == "byte-level-bpe" else with_symbol
    assert (
        report["strings_decoded_to_themselves"]
        == report["strings_compared"] - lost
        == PROOF_STRINGS - lost
    )
    assert ("strings_that_sentencepiece_cuts_differently" in report) == (
        kind == "sentencepiece-unigram"
    )


@pytest.mark.parametrize("kind", VOCABULARY)
def test_running_again_gives_the_same_bytes(run_file: Path, tmp_path: Path, kind: str) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in folder.iterdir()
            if path.name != "manifest.json"
        }

    other = tmp_path / "other.yaml"
    other.write_text(run_file.read_text().replace("data_dir: data", "data_dir: data2"))
    first, second = contents(stage(run_file, kind)), contents(stage(other, kind))
    assert first == second


@pytest.mark.parametrize("kind", VOCABULARY)
def test_too_large_a_vocabulary_is_the_users_mistake(run_file: Path, kind: str) -> None:
    run_stages(run_file, ["prepare"], [])
    with pytest.raises(
        DataError, match=r"tokenizer\.vocab_size = 30000: .*Use a smaller vocabulary or more text"
    ):
        run_stages(
            run_file, ["train-tokenizer"], [f"tokenizer.kind={kind}", "tokenizer.vocab_size=30000"]
        )


def test_the_proof_fails_on_one_other_id(run_file: Path) -> None:
    folder = stage(run_file, "byte-level-bpe")
    tokenizer = load_exported(folder)

    def almost(text: str) -> list[int]:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids[::-1] if text == "ab" else ids

    assert (
        prove(folder, TOKENIZER_KINDS["byte-level-bpe"], almost, ["a", "b"])["strings_compared"]
        == 2
    )
    with pytest.raises(
        DataError, match="gives different ids from its reference for 1 of 2 strings, first 'ab'"
    ):
        prove(folder, TOKENIZER_KINDS["byte-level-bpe"], almost, ["a", "ab"])


def test_the_proof_fails_where_text_does_not_come_back(run_file: Path) -> None:
    folder = stage(run_file, "sentencepiece-bpe")
    tokenizer = load_exported(folder)

    def same(text: str) -> list[int]:
        encoding = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return encoding["input_ids"]

    counts = prove(folder, TOKENIZER_KINDS["sentencepiece-bpe"], same, ["a b", "a▁b"])
    assert (counts["strings_decoded_to_themselves"], counts["strings_with_the_space_symbol"]) == (
        1,
        1,
    )
    with pytest.raises(
        DataError, match="decoding does not give the text back for 1 of 2 strings, first 'a▁b'"
    ):
        prove(folder, TOKENIZER_KINDS["byte-level-bpe"], same, ["a b", "a▁b"])


def test_text_that_becomes_the_end_of_a_document_is_refused(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    with pytest.raises(
        DataError, match="the text 'document' in a document is encoded as the end-of-document token"
    ):
        run_stages(
            run_file,
            ["train-tokenizer"],
            ["tokenizer.end_of_document=document", "tokenizer.vocab_size=400"],
        )


def test_the_strings_of_the_proof(run_file: Path) -> None:
    (run_file.parent / "notes.jsonl").write_text('{"text": "NOTE NOTE NOTE"}\n' * 3)
    text = run_file.read_text().replace(
        "sources:\n", "sources:\n  notes: {kind: jsonl, paths: [notes.jsonl]}\n"
    )
    run_file.write_text(text)
    run_stages(run_file, ["prepare"], ["prepare.validation_fraction=0"])
    strings = proof_strings(load(run_file), ["<special>"])
    assert len(strings) == PROOF_STRINGS
    assert strings == proof_strings(load(run_file), ["<special>"])
    assert "a<special> <special><special>b" in strings
    assert max(len(text) for text in strings if " " not in text) == 100_000
    assert (
        700 < sum("NOTE" in text or text in "NOTE NOTE NOTE" for text in strings) < 1100
    )  # every other piece
    assert any("document" in text for text in strings)


DIGITS = "in 12345 x"


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("single-digits", ["in", "Ġ", "1", "2", "3", "4", "5", "Ġx"]),
        ("cl100k", ["in", "Ġ", "123", "45", "Ġx"]),
        ("gpt2", ["in", "Ġ12345", "Ġx"]),
    ],
)
def test_what_no_token_reaches_across(pattern: str, pieces: list[str]) -> None:
    config = TokenizerSection.model_validate(
        {"kind": "byte-level-bpe", "vocab_size": 300, "split_pattern": pattern}
    )
    assert byte_level_bpe.train(iter([DIGITS] * 9), config).encode(DIGITS).tokens == pieces


def test_the_time_is_shown_line_by_line_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(
        [100.0, 109.0, 110.0, 110.0, 119.0, 121.0, 121.0]
    )  # read once a tick, twice where it prints
    monkeypatch.setattr("pipeline.logs.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with elapsed("learning 300 ids from 1 kB") as tick:
        for _ in range(4):
            tick()
    assert capsys.readouterr().err.splitlines() == [
        "learning 300 ids from 1 kB, 10.0 s",
        "learning 300 ids from 1 kB, 21.0 s",
    ]


def test_an_error_of_the_sample_is_not_swallowed(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    sample = Sample(load(run_file))
    for shard in (run_file.parent / "data" / "documents" / "web").glob("train_*.parquet"):
        shard.write_bytes(b"nothing")
    with pytest.raises(DataError, match="pipeline prepare"):
        train_in_thread(lambda texts: len(list(texts)), sample, 1)
    sample = Sample(load(run_file))

    def swallow(texts: object) -> str:
        try:
            list(texts)  # type: ignore[call-overload]
        except Exception:
            return "as a trainer in C++ may"
        return "nothing raised"

    with pytest.raises(DataError, match="pipeline prepare"):
        train_in_thread(swallow, sample, 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_loads(run_file: Path, path: Path) -> None:
    run_file.write_text(
        run_file.read_text().replace(
            "{kind: byte-level-bpe, vocab_size: 270}", f"{{recipe: {path}}}"
        )
    )
    recipe = load(run_file).tokenizer
    assert set(read_yaml(path)) <= set(TokenizerSection.model_fields) - {"recipe"}
    assert path.name.startswith(recipe.kind)
    assert recipe.vocab_size is not None
    assert path.stem.endswith(f"-{recipe.vocab_size // 1000}k")

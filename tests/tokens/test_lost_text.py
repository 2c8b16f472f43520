"""Tokenizers that are taken as they are: what they lose of the text is counted by source, and too
much is refused."""

import json
from pathlib import Path

import pytest
from helpers import run_stages, write_byte_level_tokenizer
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.tokens.lost_text import LostText, letters, measure, unknown_ids

TEXT = "Document 7 says: Größe"
NOTHING = frozenset[int]()


def words() -> Tokenizer:
    """Know three words and the end; everything else is unknown."""
    vocabulary = {"[UNK]": 0, "</s>": 1, "document": 2, "says": 3, "that": 4}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def dropping() -> Tokenizer:
    """Have no token for most letters and none for what is unknown: they leave no id behind."""
    return Tokenizer(BPE({"</s>": 0, "e": 1, "a": 2, " ": 3}, []))


def bytes_after(folder: Path, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    write_byte_level_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def deleting(folder: Path) -> Tokenizer:
    """Delete the letters before they are encoded, which every byte would be."""
    return bytes_after(folder, normalizers.Replace(Regex("[a-m]"), ""))


@pytest.mark.parametrize("kind", ["words", "dropping", "deleting"])
def test_a_tokenizer_that_destroys_the_text_is_refused_unless_the_run_file_wants_it(
    run_file: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = {"words": words, "dropping": dropping}.get(
        kind, lambda: deleting(tmp_path / "bytes")
    )()
    path = tmp_path / "theirs.json"
    tokenizer.save(str(path))
    end = "<|endoftext|>" if kind == "deleting" else "</s>"
    settings = [f"tokenizer={{kind: pretrained, path: {path}, end_of_document: {end}}}"]
    run_stages(run_file, ["prepare"], [])
    with pytest.raises(DataError) as refused:
        run_stages(run_file, ["train-tokenizer"], settings)
    assert refused.value.exit_code == 2
    for part in ("source web: ", "tokenizer.max_lost_share = 0.01", f"tokenizer.path = {path}"):
        assert part in str(refused.value)
    folder = load(run_file).paths.data_dir / "tokenizer"
    assert not (folder / "manifest.json").exists()
    capsys.readouterr()
    run_stages(run_file, ["train-tokenizer"], [*settings, "tokenizer.max_lost_share=1"])
    assert "source web: 0 of " in capsys.readouterr().err
    loss = LostText(**json.loads((folder / "report.json").read_text())["lost_text"]["web"])
    assert loss.pieces_that_come_back == 0
    assert loss.lost_share > 0.3
    assert (loss.unknown_share > 0.5) is (kind == "words")


def test_unknown_ids_and_lost_letters_are_counted() -> None:
    tokenizer = words()
    loss = measure(tokenizer, frozenset([0]), ["document says", "document x y z"])
    assert (loss.pieces, loss.pieces_that_come_back) == (2, 1)
    assert (loss.tokens, loss.unknown_tokens) == (6, 3)
    assert (loss.characters, loss.lost_characters) == (12 + 11, 3)
    assert (loss.unknown_share, loss.lost_share) == (0.5, 3 / 23)


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        normalizers.Lowercase(),
        normalizers.NFKC(),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    ],
)
def test_case_forms_accents_and_white_space_are_not_lost(
    tmp_path: Path, normalizer: normalizers.Normalizer | None
) -> None:
    tokenizer = bytes_after(tmp_path, normalizer)
    loss = measure(tokenizer, NOTHING, [TEXT, "ﬁne  print\n", "plain"])
    assert (loss.unknown_share, loss.lost_share) == (0, 0)
    assert loss.pieces_that_come_back == (3 if normalizer is None else 2)


def test_a_tokenizer_that_lower_cases_is_taken_with_its_figures(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run_file.parent / "web.jsonl").open("a") as file:
        file.write('{"text": "A Capital Letter"}\n')
    bytes_after(tmp_path / "bytes", normalizers.Lowercase()).save(str(tmp_path / "lower.json"))
    settings = [f"tokenizer={{kind: pretrained, path: {tmp_path}/lower.json}}"]
    run_stages(run_file, ["prepare", "train-tokenizer"], settings)
    assert "source web: 40 of 41 pieces of its text come back" in capsys.readouterr().err
    report = json.loads((load(run_file).paths.data_dir / "tokenizer" / "report.json").read_text())
    loss = LostText(**report["lost_text"]["web"])
    assert (loss.unknown_tokens, loss.lost_characters) == (0, 0)


def test_letters_are_counted_whatever_their_form() -> None:
    assert letters("Größe ﬁ É\n") == letters("GRÖSSE fi e\u0301")
    assert letters("ab").total() == 2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (WordLevel({"a": 0, "?": 1}, unk_token="?"), {1}),
        (Unigram([("a", 0.0), ("?", 0.0)], unk_id=1), {1}),
        (BPE({"a": 0}, []), set()),
        (BPE({"a": 0, "<pad>": 1}, []), {1}),  # named by tokenizer_config.json alone
    ],
)
def test_the_unknown_token_is_the_models_or_the_configs(
    tmp_path: Path, model: WordLevel | Unigram | BPE, expected: set[int]
) -> None:
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"unk_token": "<pad>"}')
    assert unknown_ids(tmp_path) == expected

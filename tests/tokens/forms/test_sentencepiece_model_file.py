"""A SentencePiece `.model` is taken with its ids, or refused with the first string that differs."""

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from helpers import run_stages
from public_vocabularies import fuzz_strings

from pipeline.config.run_file import load
from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.store.files import read_json
from pipeline.tokens.forms.sentencepiece_model_file import SentencePieceFile
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer
from pipeline.tokens.sentencepiece_models.sentencepiece_file import parse_model
from pipeline.tokens.sentencepiece_models.sentencepiece_unigram import is_rounding
from pipeline.tokens.tokenizer_folder import EDGE_STRINGS, load_exported
from pipeline.tokens.train_tokenizer import count_other_cuts

README = Path(__file__).parents[3] / "README.md"
SYMBOLS = ["<sep>", "==", "<a b>"]
STRINGS = [
    *EDGE_STRINGS,
    *fuzz_strings(400, seed=6),
    *(f"a {symbol}{symbol} b" for symbol in (*SYMBOLS, "<ctl>", "<s>", "</s>")),
    "  two   words  ", "\u2581", " \u2581 ", "a\u2581 ", "the<sep>the", " ",
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bytes": {"byte_fallback": True},
    "no prefix": {"add_dummy_prefix": False},
    "spaces kept": {"remove_extra_whitespaces": False},
    "neither": {
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "byte_fallback": True,
    },
    "suffix": {"treat_whitespace_as_suffix": True},
    "suffix, spaces kept": {"treat_whitespace_as_suffix": True, "remove_extra_whitespaces": False},
    "pieces across words": {
        "split_by_whitespace": False,
        "split_by_number": False,
        "split_by_unicode_script": False,
    },
    "digits": {"split_digits": True},
    "control": {"control_symbols": ["<ctl>", "the"]},
}


def model_of(**options: object) -> bytes:
    """Learn a model from this project's README."""
    model = io.BytesIO()
    settings: dict[str, object] = {
        "vocab_size": 500,
        "normalization_rule_name": "identity",
        "hard_vocab_limit": False,
        "minloglevel": 3,
        "num_threads": 1,
    }
    rows = [line[:500] for line in README.read_text().split("\n") if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(rows), model_writer=model, **(settings | options)
    )
    return model.getvalue()


def settings_of(folder: Path, **options: object) -> TokenizerSection:
    path = folder / "x.model"
    path.write_bytes(model_of(**options))
    return TokenizerSection(kind="pretrained", path=path, end_of_document="</s>")


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_ids_are_sentencepieces(tmp_path: Path, model_type: str, name: str) -> None:
    section = settings_of(tmp_path, model_type=model_type, **OPTIONS[name])
    form = SentencePieceFile()
    form.check(section)
    made = form.take(section, tmp_path / "made")
    loaded = load_exported(tmp_path / "made")
    path = tmp_path / "x.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    model = parse_model(path.read_bytes())
    assert len(loaded) == form.expected_ids(section) == processor.vocab_size()
    for text in STRINGS:
        ids = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        theirs = processor.encode(text)
        rounds = model_type == "unigram" and is_rounding(model, ids, theirs)
        assert ids == theirs or rounds, repr(text)
        assert ids == made.reference(text) or rounds
    assert loaded.decode([]) == ""
    assert loaded.decode(loaded("a b", add_special_tokens=False)["input_ids"]) == "a b"


def test_user_defined_symbols_of_a_unigram_model_are_found_in_changed_text(tmp_path: Path) -> None:
    section = settings_of(tmp_path, user_defined_symbols=SYMBOLS, byte_fallback=True)
    form = SentencePieceFile()
    form.check(section)
    made = form.take(section, tmp_path / "made")
    assert made.other is not None
    count_other_cuts(made, made.other, STRINGS, "x")
    piece = parse_model((tmp_path / "x.model").read_bytes()).pieces.index("<sep>")
    assert made.reference("a<sep>b")[-2] == piece
    with pytest.raises(DataError, match=r"user-defined symbols and changes the text.*name a tok"):
        form.check(settings_of(tmp_path, model_type="bpe", user_defined_symbols=SYMBOLS))


def test_rules_of_single_characters_are_taken(tmp_path: Path) -> None:
    (tmp_path / "rules.tsv").write_text("9\t20\n2019\t27\nFF0C\t2C\n")
    options = {"normalization_rule_tsv": str(tmp_path / "rules.tsv")}
    section = settings_of(tmp_path, **options)
    SentencePieceFile().check(section)
    made = SentencePieceFile().take(section, tmp_path / "made")
    assert made.reference("it\u2019s\tso") == made.reference("it's so")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(section.path))
    for character in "\t\u2019\uff0c":
        for text in (f"a{character}b", f"a{character}\u0301b", f"a{character}\ufe0f", character):
            assert made.reference(text) == processor.encode(text), repr(text)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_rules_are_compared_on_characters_that_belong_together(
    tmp_path: Path, model_type: str
) -> None:
    """Without bytes, most characters of the table are one unknown piece, whatever they become."""
    section = settings_of(tmp_path, model_type=model_type, normalization_rule_name="nmt_nfkc")
    message = r"SentencePiece for 'a.{2,6}b', since its normaliser \(nmt_nfkc\)"
    with pytest.raises(DataError, match=message):
        SentencePieceFile().check(section)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization_rule_name": "nmt_nfkc"}, r"'.+', since its normaliser \(nmt_nfkc\) rewr"),
        ({"rules": "2C 20\t2C\n"}, r"'.+', since its normaliser \(user_defined\) rewrites"),
    ],
)
def test_what_differs_is_refused_with_the_first_string(
    tmp_path: Path, model_type: str, options: dict[str, str], message: str
) -> None:
    more: dict[str, object] = {"byte_fallback": True, **options}
    if "rules" in more:
        (tmp_path / "rules.tsv").write_text(f"{more.pop('rules')}61 20\t62\n")
        more["normalization_rule_tsv"] = str(tmp_path / "rules.tsv")
    section = settings_of(tmp_path, model_type=model_type, **more)
    with pytest.raises(DataError, match=r"x\.model: its fast form gives other ids than Sent") as e:
        SentencePieceFile().check(section)
    assert e.match(message)
    assert "name a tokenizer.json made from it" in str(e.value)
    assert e.value.exit_code == 2


def test_other_models_are_refused_with_the_reason(tmp_path: Path) -> None:
    section = settings_of(tmp_path, model_type="char")
    with pytest.raises(DataError, match="it is a char model, which has no fast form"):
        SentencePieceFile().check(section)
    # normalizer_spec (3) with escape_whitespaces (5) = false
    assert section.path is not None
    section.path.write_bytes(model_of() + b"\x1a\x02\x28\x00")
    with pytest.raises(DataError, match="does not escape spaces"):
        SentencePieceFile().check(section)


def test_only_equally_good_cuts_are_rounding() -> None:
    """A piece is better than its letters; the order of the same pieces is free."""
    model = parse_model(model_of())
    the = model.pieces.index("\u2581the")
    letters = [model.pieces.index(piece) for piece in ("\u2581", "t", "h", "e")]
    assert is_rounding(model, [the, *letters], [*letters, the])
    assert not is_rounding(model, [the], letters)
    assert not is_rounding(model, [the], [model.pieces.index("\u2581a")])
    made = MadeTokenizer(lambda _: letters, {}, is_rounding=lambda *_: False)
    with pytest.raises(DataError, match="gives other ids than SentencePiece for 'the'"):
        count_other_cuts(made, lambda _: [the], ["the"], "x.model")


def test_the_stages_take_a_unigram_model(run_file: Path, tmp_path: Path) -> None:
    section = settings_of(tmp_path, byte_fallback=True)
    run_stages(
        run_file,
        ["prepare", "train-tokenizer", "tokenize"],
        [f"tokenizer={{kind: pretrained, path: {section.path}}}"],
    )
    folder = load(run_file).paths.data_dir / "tokenizer"
    assert load_exported(folder).eos_token == "</s>"
    assert not (folder / "tokenizer.model").exists()
    report = read_json(folder / "report.json")
    assert report["strings_that_sentencepiece_cuts_differently"] < 10

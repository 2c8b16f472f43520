"""SentencePiece models as fast tokenizers: BPE with SentencePiece's ids, unigram with those of
exact arithmetic."""

import json
import random
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import sentencepiece
import tokenizers

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.tokens.kinds import sentencepiece_training
from pipeline.tokens.sentencepiece_models import sentencepiece_bpe, sentencepiece_unigram
from pipeline.tokens.sentencepiece_models.sentencepiece_file import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    SentencePieceModel,
    parse_model,
    read_model,
)
from pipeline.tokens.tokenizer_folder import EDGE_STRINGS

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "def",
    "return",
    "12345",
    "naïve",
    "Δx",
    "日本語",
    "\n    ",
    "==",
    "(x)",
    "     ",
]


def texts(count: int) -> list[str]:
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS, k=60)) for _ in range(count)]


def varied(count: int) -> list[str]:
    """Texts of more different words than `texts`, for vocabularies that need them."""
    generator = random.Random(2)
    words = [
        "".join(generator.choices("abcdefghijklm", k=generator.randrange(2, 9))) for _ in range(300)
    ]
    return [" ".join(generator.choices([*words, *WORDS], k=60)) for _ in range(count)]


def spaces(count: int) -> list[str]:
    """Runs of spaces between words, which can be cut in many equally good ways."""
    generator = random.Random(1)
    return [
        "".join(generator.choice(WORDS) + " " * generator.randrange(1, 60) for _ in range(30))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def bpe(folder: Path) -> Path:
    path = folder / "bpe.model"
    config = TokenizerSection(kind="sentencepiece-bpe", vocab_size=340)
    path.write_bytes(sentencepiece_training.train(iter(texts(200)), config))
    return path


@pytest.fixture(scope="module")
def unigram(folder: Path) -> Path:
    path = folder / "unigram.model"
    config = TokenizerSection(kind="sentencepiece-unigram", vocab_size=400)
    path.write_bytes(sentencepiece_training.train(iter([*varied(200), *spaces(200)]), config))
    return path


def trained_elsewhere(folder: Path, name: str, **options: object) -> Path:
    """A BPE model with SentencePiece's own defaults, but for what is given."""
    defaults = {
        "model_type": "bpe",
        "vocab_size": 340,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(varied(200)),
        model_prefix=str(folder / name),
        minloglevel=2,
        **(defaults | options),
    )
    return folder / f"{name}.model"


def disagreements(path: Path, strings: list[str]) -> list[str]:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    model = read_model(path)
    assert sentencepiece_bpe.why_not(model) is None
    fast = sentencepiece_bpe.to_fast(model)
    fast.encode_special_tokens = True
    return [
        text
        for text in strings
        if fast.encode(text, add_special_tokens=False).ids != reference.encode(text)
    ]


def test_the_file_is_read_as_sentencepiece_reads_it(bpe: Path, unigram: Path) -> None:
    for path, model_type in ((bpe, "bpe"), (unigram, "unigram")):
        model, processor = (
            read_model(path),
            sentencepiece.SentencePieceProcessor(model_file=str(path)),
        )
        size = processor.vocab_size()
        assert model.model_type == model_type
        assert list(model.pieces) == [processor.id_to_piece(i) for i in range(size)]
        assert list(model.scores) == [processor.get_score(i) for i in range(size)]
        assert model.ids_of(BYTE) == [i for i in range(size) if processor.is_byte(i)]
        assert (model.ids_of(UNKNOWN), model.ids_of(CONTROL)) == ([0], [1])
        assert len(model.ids_of(NORMAL)) == size - 258
        assert (
            model.byte_fallback,
            model.dummy_prefix,
            model.remove_extra_spaces,
            model.rules,
        ) == (True, False, False, b"")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x0a\x7f"])
def test_what_is_no_model_is_said_so(folder: Path, content: bytes) -> None:
    (folder / "wrong.model").write_bytes(content)
    with pytest.raises(
        DataError, match=r"wrong\.model: is not a SentencePiece model that can be read"
    ):
        read_model(folder / "wrong.model")


def test_a_file_cut_short_is_no_model(folder: Path, bpe: Path) -> None:
    (folder / "cut.model").write_bytes(bpe.read_bytes()[:-40])
    with pytest.raises(DataError, match="is not a SentencePiece model"):
        read_model(folder / "cut.model")


def test_bpe_gives_sentencepieces_ids(bpe: Path) -> None:
    assert disagreements(bpe, [*EDGE_STRINGS, *texts(50), *spaces(50)]) == []


@pytest.mark.parametrize(
    "options",
    [
        {"add_dummy_prefix": True, "remove_extra_whitespaces": False},  # Llama 2's
        {"add_dummy_prefix": True, "remove_extra_whitespaces": True},
        {"add_dummy_prefix": False, "remove_extra_whitespaces": True},
        {"add_dummy_prefix": True, "byte_fallback": False, "allow_whitespace_only_pieces": True},
        {
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
            "user_defined_symbols": ["<sep>", "fo", "=="],
        },
    ],
    ids=["dummy prefix", "both", "extra spaces removed", "no bytes", "user-defined symbols"],
)
def test_models_trained_elsewhere_give_their_ids(folder: Path, options: dict[str, object]) -> None:
    path = trained_elsewhere(folder, "elsewhere", **options)
    strings = [
        *EDGE_STRINGS,
        *texts(30),
        *spaces(30),
        "  a  b  ",
        "▁▁",
        " ▁",
        "a▁ ",
        "<sep>",
        " the<sep>fox ==== <se",
    ]
    assert disagreements(path, strings) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"user_defined_symbols": ["<sep>"]}, "user-defined symbols and changes the text"),
    ],
)
def test_what_has_no_exact_form_is_refused_with_the_reason(
    folder: Path, options: dict[str, object], reason: str
) -> None:
    model = read_model(trained_elsewhere(folder, "refused", **options))
    assert re.search(reason, sentencepiece_bpe.why_not(model) or "")


def test_user_defined_symbols_are_read(folder: Path) -> None:
    model = read_model(trained_elsewhere(folder, "symbols", user_defined_symbols=["<sep>"]))
    assert [model.pieces[i] for i in model.ids_of(USER_DEFINED)] == ["<sep>"]


def best_cut(model: SentencePieceModel, text: str, scores: Sequence[float]) -> list[int]:
    """The definition: the cut with the highest sum of scores, in exact arithmetic; of equals, the
    longest last piece."""
    normal = {model.pieces[i]: (Fraction(scores[i]), i) for i in model.ids_of(NORMAL)}
    byte = model.ids_of(BYTE)
    unknown = min(score for score, _ in normal.values()) - 1000
    text = text.replace(" ", "▁")
    best: list[tuple[Fraction, int, list[int]]] = [(Fraction(0), 0, [])]
    for end in range(1, len(text) + 1):
        found = []
        for start in range(max(0, end - 16), end):
            piece = text[start:end]
            if piece in normal:
                found.append((best[start][0] + normal[piece][0], -start, [normal[piece][1]]))
            elif end - start == 1:
                found.append((best[start][0] + unknown, -start, [byte[b] for b in piece.encode()]))
        score, start, ids = max(found)
        best.append((score, -start, ids))
    ids, end = [], len(text)
    while end:
        ids[:0], end = best[end][2], best[end][1]
    return ids


def test_unigram_gives_the_ids_of_exact_arithmetic(unigram: Path) -> None:
    model = read_model(unigram)
    fast = sentencepiece_unigram.to_fast(model)
    fast.encode_special_tokens = True
    scores = [sentencepiece_unigram.quantized(score) for score in model.scores]
    strings = [text for text in EDGE_STRINGS if len(text) < 2000] + texts(10) + spaces(20)
    assert [
        s
        for s in strings
        if fast.encode(s, add_special_tokens=False).ids != best_cut(model, s, scores)
    ] == []


def test_scores_are_read_as_they_were_written(unigram: Path) -> None:
    model = read_model(unigram)
    written = sentencepiece_unigram.to_fast(model).to_str()
    assert tokenizers.Tokenizer.from_str(written).to_str() == written
    scores = [score for _, score in json.loads(written)["model"]["vocab"]]
    assert all((score / 2**-13).is_integer() for score in scores)
    assert all(abs(scores[i] - model.scores[i]) <= 2**-14 for i in model.ids_of(NORMAL))


def test_sentencepiece_itself_rounds(unigram: Path) -> None:
    """Why the `.model` file is not kept: on runs of spaces it cuts otherwise than its own scores
    say."""
    processor, model = (
        sentencepiece.SentencePieceProcessor(model_file=str(unigram)),
        read_model(unigram),
    )
    cuts = [(processor.encode(text), best_cut(model, text, model.scores)) for text in spaces(30)]
    differing = [(theirs, exact) for theirs, exact in cuts if theirs != exact]
    assert differing
    assert all(
        sorted(theirs) == sorted(exact) for theirs, exact in differing
    )  # the same pieces in another order


def test_decoding_gives_the_text_back_but_for_the_symbol_of_a_space(
    bpe: Path, unigram: Path
) -> None:
    fasts = (
        sentencepiece_bpe.to_fast(read_model(bpe)),
        sentencepiece_unigram.to_fast(read_model(unigram)),
    )
    for fast in fasts:
        fast.encode_special_tokens = True
        for text in EDGE_STRINGS:
            decoded = fast.decode(
                fast.encode(text, add_special_tokens=False).ids, skip_special_tokens=False
            )
            assert decoded == text.replace("\u2581", " "), repr(text)


@pytest.mark.parametrize("end", ["<|終 §|>", "the"])
def test_a_special_token_written_out_is_text_whatever_its_characters(end: str) -> None:
    config = TokenizerSection(kind="sentencepiece-unigram", vocab_size=400, end_of_document=end)
    model = parse_model(sentencepiece_training.train(iter(varied(200)), config))
    fast = sentencepiece_unigram.to_fast(model)
    fast.encode_special_tokens = True
    for text in (end, f"a{end}{end} b", "<0x41>", "<unk>", f"x {end}"):
        ids = fast.encode(text, add_special_tokens=False).ids
        assert not set(ids) & set(model.ids_of(CONTROL, UNKNOWN)), text
        assert fast.decode(ids) == text


def test_a_megabyte_without_a_space_comes_to_an_end(unigram: Path) -> None:
    """In 2 s here; a quadratic search would take days."""
    fast = sentencepiece_unigram.to_fast(read_model(unigram))
    text = "".join(random.Random(0).choices("abcdefgh<>日本é", k=1_000_000))
    assert fast.decode(fast.encode(text).ids) == text


@pytest.mark.parametrize(("pattern", "longest"), [("single-digits", 1), ("spaces", 5)])
def test_digits_are_split_or_not(pattern: str, longest: int) -> None:
    config = TokenizerSection.model_validate(
        {"kind": "sentencepiece-bpe", "vocab_size": 340, "split_pattern": pattern}
    )
    model = parse_model(sentencepiece_training.train(iter(texts(200)), config))
    assert max(len(piece) for piece in model.pieces if piece.isdecimal()) == longest  # of 12345


def test_training_twice_gives_the_same_model(unigram: Path) -> None:
    config = TokenizerSection(kind="sentencepiece-unigram", vocab_size=400)
    assert (
        sentencepiece_training.train(iter([*varied(200), *spaces(200)]), config)
        == unigram.read_bytes()
    )


def test_too_small_a_vocabulary_wants_a_larger_one() -> None:
    config = TokenizerSection(kind="sentencepiece-bpe", vocab_size=260)
    with pytest.raises(DataError, match=r"tokenizer\.vocab_size = 260: .*Use a larger vocabulary"):
        sentencepiece_training.train(iter(texts(50)), config)


def test_training_sentences_are_short_enough_and_lose_nothing() -> None:
    text = ("line of text\n" * 400 + "x" * 3000) * 3
    pieces = list(sentencepiece_training.pieces_of(iter([text, "", "short", "with\0nul"])))
    assert "".join(pieces) == text + "short"
    assert max(len(piece.encode()) for piece in pieces) <= sentencepiece_training.MAX_SENTENCE_BYTES

"""gigatoken's ids against those of the reference: never a silently different one."""

import io
import json
import random
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import zstandard
from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipeline.config.sections import TokenizerSection
from pipeline.store.environment import user_variable
from pipeline.tokens import byte_level_bpe
from pipeline.tokens.encode import (
    SEPARATOR,
    Encoder,
    id_count,
    load_encoder,
    prove_fast_encoder,
    why_reference,
)
from pipeline.tokens.kinds import sentencepiece_training
from pipeline.tokens.sentencepiece_models import sentencepiece_bpe
from pipeline.tokens.sentencepiece_models.sentencepiece_file import parse_model
from pipeline.tokens.tokenizer_folder import EDGE_STRINGS, write

KINDS = ("byte-level-bpe", "sentencepiece-bpe")
END = "<|endoftext|>"


def real_texts() -> list[str]:
    """Return texts of every slice of PIPELINE_TEST_CORPUS; without it, of this Python's standard
    library."""
    if corpus := user_variable("PIPELINE_TEST_CORPUS"):
        texts = []
        for file in sorted(Path(corpus).glob("*.jsonl.zst")):
            content = (
                zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file.read_bytes())).read()
            )
            texts += [json.loads(line)["text"][:20_000] for line in content.splitlines()[:60]]
        return texts
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:100]
    return [file.read_text("utf-8", errors="replace")[:20_000] for file in files]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an exported tokenizer of 2,000 ids."""
    path = tmp_path_factory.mktemp(request.param)
    config = TokenizerSection(kind=request.param, vocab_size=2000)
    if request.param == "byte-level-bpe":
        write(byte_level_bpe.train(iter(real_texts()), config), path, END, None)
    else:
        model = sentencepiece_training.train(iter(real_texts()), config)
        (path / "tokenizer.model").write_bytes(model)
        write(sentencepiece_bpe.to_fast(parse_model(model)), path, END, "<unk>")
    return path


@pytest.fixture
def reference(folder: Path) -> Callable[[str], list[int]]:
    """Return the encoding of SentencePiece itself, or of `tokenizers` for a byte-level
    vocabulary."""
    if (model := folder / "tokenizer.model").exists():
        return sentencepiece.SentencePieceProcessor(model_file=str(model)).encode  # pyright: ignore[reportReturnType]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def fuzz_string(generator: random.Random, texts: list[str]) -> str:
    """Return a string of one of the kinds that tokenizers stumble over, or several of them."""

    def piece() -> str:
        text = generator.choice(texts)
        start = generator.randrange(len(text) + 1)
        return text[start : start + generator.choice((1, 5, 30, 200))]

    def characters(*ranges: tuple[int, int]) -> str:
        return "".join(
            chr(generator.randrange(*generator.choice(ranges)))
            for _ in range(generator.randrange(1, 20))
        )

    kinds: tuple[Callable[[], str], ...] = (
        piece,
        lambda: characters((32, 127)),
        lambda: characters((0, 0xD800), (0xE000, 0x110000)),
        lambda: characters(
            (0x1F300, 0x1FAFF), (0x200D, 0x200E), (0xFE0F, 0xFE10), (0x1F3FB, 0x1F400)
        ),  # emoji
        lambda: characters(
            (0, 32), (0x7F, 0xA0), (0x2028, 0x2030), (0xFEFF, 0xFF00)
        ),  # control and format
        lambda: "".join(
            generator.choices(" \t\n\r\u00a0\u3000\u2009", k=generator.randrange(1, 40))
        ),
        lambda: generator.choice(
            (END, "<unk>", "<s>", "</s>", "<0x41>", "<|im_start|>", END[:-1], f"x{END}{END}")
        ),
        lambda: "▁" * generator.randrange(1, 5) + piece()[:5],
        lambda: generator.randbytes(generator.randrange(1, 30)).decode(
            "utf-8", errors="replace"
        ),  # as repaired on reading
        lambda: generator.choice(EDGE_STRINGS),
    )
    return "".join(generator.choice(kinds)() for _ in range(generator.choice((1, 1, 1, 2, 3))))


@pytest.mark.parametrize("strings", [5000, pytest.param(100_000, marks=pytest.mark.full)])
def test_random_strings(folder: Path, reference: Callable[[str], list[int]], strings: int) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    generator, texts = random.Random(seed), real_texts()
    encoder = load_encoder(folder, "auto")
    assert encoder.has_fast
    for _ in range(strings // 5000):
        batch = [fuzz_string(generator, texts) for _ in range(5000)]
        ids, lengths = encoder.encode_fast([string.encode() for string in batch])
        for string, found in zip(batch, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
            assert found.tolist() == [*reference(string), encoder.end_of_document], (
                f"seed {seed}: {string!r}"
            )


@pytest.mark.parametrize("alphabet", ["abcdefghijklmnopqrstuvwxyz", "a", "é日🙂", "\u00a0"])
@pytest.mark.parametrize("megabytes", [1, pytest.param(10, marks=pytest.mark.full)])
def test_megabytes_without_a_space(folder: Path, alphabet: str, megabytes: int) -> None:
    characters = megabytes * 1_000_000 // max(len(character.encode()) for character in alphabet)
    text = "".join(random.Random(0).choices(alphabet, k=characters)).encode()
    encoder = load_encoder(folder, "auto")
    fast, slow = encoder.encode_fast([text]), encoder.encode_reference([text])
    assert np.array_equal(fast[0], slow[0])
    assert fast[1].tolist() == slow[1].tolist() == [len(fast[0])]


def test_both_encoders_end_every_document_once(folder: Path) -> None:
    encoder = load_encoder(folder, "auto")
    documents = [text.encode() for text in ["", "a b  c", "", f"{END} is text", "🙂 naïve", ""]]
    (fast, lengths), (slow, same) = (
        encoder.encode_fast(documents),
        encoder.encode_reference(documents),
    )
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(lengths, same)
    assert (
        np.flatnonzero(fast == encoder.end_of_document).tolist()
        == (np.cumsum(lengths) - 1).tolist()
    )
    assert encoder.encode_fast([])[1].tolist() == encoder.encode_reference([])[1].tolist() == []


def test_special_tokens_are_found_only_if_asked_for(folder: Path) -> None:
    documents = [f"a{END}b".encode()]
    for parse in (False, True):
        encoder = load_encoder(folder, "auto", parse)
        fast, slow = encoder.encode_fast(documents)[0], encoder.encode_reference(documents)[0]
        np.testing.assert_array_equal(fast, slow)
        assert (fast == encoder.end_of_document).sum() == (2 if parse else 1)


def test_the_reference_cuts_a_long_text_without_changing_its_ids(
    folder: Path, reference: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tokens.encode.REFERENCE_BATCH_BYTES", 20_000)
    encoder = load_encoder(folder, "auto")
    long_text = "\n".join(real_texts())[:300_000]
    pieces = list(encoder._pieces(long_text.encode()))
    assert len(pieces) > 15 and max(len(piece.encode()) for piece in pieces) <= 20_000
    assert "".join(pieces) == long_text
    documents = ["short", long_text, "", "x" * 60_000]
    ids, lengths = encoder.encode_reference([document.encode() for document in documents])
    for document, found in zip(documents, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
        assert found.tolist() == [*reference(document), encoder.end_of_document]


def test_a_document_with_the_separators_own_text_is_encoded_by_the_reference(folder: Path) -> None:
    encoder = load_encoder(folder, "auto")
    documents = [b"one", f"two{SEPARATOR}three".encode(), b"four", f"{SEPARATOR[:3]}".encode()]
    for found, expected in zip(
        encoder.encode_fast(documents), encoder.encode_reference(documents), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_texts_cannot_shift_the_separator_beside_them(folder: Path) -> None:
    encoder = load_encoder(folder, "auto")
    parts = [part for cut in range(1, 4) for part in (SEPARATOR[:cut], SEPARATOR[cut:])]
    for first in parts:
        for second in parts:
            documents = [f"a{first}".encode(), f"{second}b".encode()]
            assert SEPARATOR.encode().join(documents).count(SEPARATOR.encode()) == 1
            for found, expected in zip(
                encoder.encode_fast(documents), encoder.encode_reference(documents), strict=True
            ):
                np.testing.assert_array_equal(found, expected)


def test_gigatoken_started_afresh_gives_the_same_ids(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(folder, "auto", parse_special_tokens=False)
    documents = [text.encode() for text in real_texts()[:50]]
    before, loaded = encoder.encode_fast(documents)[0], encoder._idle[0]
    monkeypatch.setattr("pipeline.tokens.encode.MOST_RESIDENT_BYTES", 1)
    encoder.encode_fast(documents)
    assert encoder._idle == [loaded], "too little was encoded since it was loaded"
    monkeypatch.setattr("pipeline.tokens.encode.FORGET_EVERY_BYTES", 1)
    encoder.encode_fast(documents)
    assert encoder._idle == []
    np.testing.assert_array_equal(encoder.encode_fast(documents)[0], before)


def test_threads_of_one_encoder_each_take_a_gigatoken_of_their_own(folder: Path) -> None:
    encoder = Encoder(folder, "auto", parse_special_tokens=False)
    documents = [text.encode() for text in real_texts()[:50]]
    expected = encoder.encode_fast(documents)[0]
    with ThreadPoolExecutor(4) as pool:
        for ids, _ in pool.map(encoder.encode_fast, [documents] * 40):
            np.testing.assert_array_equal(ids, expected)
    assert 1 <= len(encoder._idle) <= 4


def test_a_tokenizer_without_proof_is_encoded_by_the_reference(
    folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    assert "was not compared with it" in str(why_reference(tmp_path, False))
    proof = prove_fast_encoder(folder, list(EDGE_STRINGS))
    assert (
        proof["strings_that_differ"] == proof["strings_that_differ_with_special_tokens_parsed"] == 0
    )
    report.write_text(json.dumps({"gigatoken": proof}))
    assert why_reference(tmp_path, False) is None
    report.write_text(json.dumps({"gigatoken": proof | {"strings_that_differ": 2}}))
    assert f"gave other ids for 2 of {len(EDGE_STRINGS)} strings" in str(
        why_reference(tmp_path, False)
    )
    assert why_reference(tmp_path, True) is None
    report.write_text(
        json.dumps({"gigatoken": proof | {"strings_that_differ_with_special_tokens_parsed": 1}})
    )
    assert why_reference(tmp_path, False) is None
    assert "gave other ids for 1 of" in str(why_reference(tmp_path, True))
    report.write_text(json.dumps({"gigatoken": proof | {"version": "0.1"}}))
    assert "was compared in version 0.1" in str(why_reference(tmp_path, False))
    report.write_text(json.dumps({"gigatoken": {**proof, "knows_it": False}}))
    assert "does not support this kind of tokenizer" in str(why_reference(tmp_path, False))


def test_the_count_of_ids_is_one_more_than_the_largest() -> None:
    holes = Tokenizer(BPE({"a": 0, "b": 5}, []))
    assert id_count(holes) == 6


def test_a_difference_is_counted(folder: Path) -> None:
    encoder = Encoder(folder, "auto", parse_special_tokens=False)
    encoder.reference = Encoder(
        folder, "reference", parse_special_tokens=True
    ).reference  # finds the special token
    assert encoder.count_differences(["plain", f"a{END}b", "more"]) == 1

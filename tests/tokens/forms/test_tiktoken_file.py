"""A tiktoken file with its pattern gives the ids of the package tiktoken."""

from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public
from helpers import run_stages
from public_vocabularies import fuzz_strings, ranks_of, write_tiktoken_file
from taken_tokenizers import settings, taken
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Tokenizer

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.environment import user_variable
from pipeline.tokens.forms.sentencepiece_model_file import SentencePieceFile
from pipeline.tokens.forms.tiktoken_file import TiktokenFile
from pipeline.tokens.forms.tokenizer_form import form_of
from pipeline.tokens.split_patterns import CL100K, NAMED_PATTERNS
from pipeline.tokens.tokenizer_folder import load_exported

REAL = user_variable("PIPELINE_TEST_VOCABULARIES")
STRINGS = 20_000
OWN = r"\p{Han}|[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}]++|\s+"


def published(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the expression that tiktoken has for a name, without reading the vocabulary."""
    if name == "llama3":
        return CL100K
    if name == "gpt2":
        return tiktoken_ext.openai_public.r50k_pat_str
    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
    return getattr(tiktoken_ext.openai_public, name)()["pat_str"]


def differing(fast: Tokenizer, theirs: tiktoken.Encoding, strings: list[str]) -> list[str]:
    made = fast.encode_batch_fast(strings, add_special_tokens=False)
    expected = theirs.encode_ordinary_batch(strings, num_threads=1)
    return [s for s, m, e in zip(strings, made, expected, strict=True) if m.ids != e]


@pytest.mark.parametrize("pattern", [*NAMED_PATTERNS, OWN])
def test_the_ids_are_tiktokens(
    tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PIPELINE_TEST_VOCABULARIES, those of the real vocabularies that lie there."""
    theirs_expression = published(pattern, monkeypatch) if pattern in NAMED_PATTERNS else pattern
    ours = NAMED_PATTERNS[pattern].expression if pattern in NAMED_PATTERNS else pattern
    file = Path(REAL or tmp_path) / f"{pattern}.tiktoken"
    if pattern == OWN or not file.exists():
        file = write_tiktoken_file(tmp_path / "small.tiktoken", ranks_of(ours))
    fast, reference = taken(settings(file, pattern=pattern), tmp_path / "made")
    theirs = tiktoken.Encoding(
        "x",
        pat_str=theirs_expression,
        mergeable_ranks=load_tiktoken_bpe(str(file)),
        special_tokens={},
    )
    strings = fuzz_strings(STRINGS, seed=3)
    assert differing(fast, theirs, strings) == []
    # The reference of the stage, which needs no tiktoken.
    some = strings[:500]
    assert [text for text in some if reference(text) != theirs.encode_ordinary(text)] == []


def test_a_token_that_no_merge_makes_is_given_for_a_whole_word(tmp_path: Path) -> None:
    """As in Llama 3's file. `qzx` is a token, and neither `qz` nor `zx` is."""
    tokens = [*ranks_of(CL100K), b"qzx", b" qzxq"]
    file = write_tiktoken_file(tmp_path / "x.tiktoken", tokens)
    fast, reference = taken(settings(file, pattern="cl100k_base"), tmp_path / "made")
    theirs = tiktoken.Encoding(
        "x", pat_str=CL100K, mergeable_ranks=load_tiktoken_bpe(str(file)), special_tokens={}
    )
    strings = ["qzx", "a qzx", "qzxq", " qzxq", "qzx qzxq qz\nqzx1qzx"]
    assert differing(fast, theirs, [*strings, *fuzz_strings(500, 4)]) == []
    assert reference("qzx") == theirs.encode_ordinary("qzx") == [700]
    assert len(theirs.encode_ordinary("qzxqzx")) == 6


def test_the_stages_take_it_and_the_folder_loads_with_the_same_ids(
    run_file: Path, tmp_path: Path
) -> None:
    file = write_tiktoken_file(tmp_path / "tokenizer.model", ranks_of(CL100K))
    run_stages(
        run_file,
        ["prepare", "train-tokenizer", "tokenize"],
        [f"tokenizer={{kind: pretrained, path: {file}, pattern: llama3}}"],
    )
    tokenizer = load_exported(load(run_file).paths.data_dir / "tokenizer")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 700)
    text = "Document 7 says don't\n  \u65e5\u672c"
    theirs = tiktoken.Encoding(
        "x", pat_str=CL100K, mergeable_ranks=load_tiktoken_bpe(str(file)), special_tokens={}
    )
    assert tokenizer(text)["input_ids"] == theirs.encode_ordinary(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_are_those_of_the_run_file(tmp_path: Path) -> None:
    """Also between the ranks, as in p50k_base: the file leaves out the id 256."""
    tokens = [bytes([byte]) for byte in range(256)]
    file = write_tiktoken_file(tmp_path / "x.tiktoken", tokens)
    file.write_bytes(file.read_bytes() + b"YWI= 257\n")
    given = {"<|endoftext|>": 256, "<|im_end|>": 260}
    section = settings(file, pattern="gpt2", special_tokens=given)
    fast, _ = taken(section, tmp_path / "made")
    assert fast.encode("ab<|endoftext|>").ids[:2] == [257, ord("<")]
    assert [fast.id_to_token(number) for number in range(256, 261)] == [
        "<|endoftext|>", "ab", "<|reserved_258|>", "<|reserved_259|>", "<|im_end|>",
    ]  # fmt: skip
    assert load_exported(tmp_path / "made").eos_token_id == 256


def test_without_special_tokens_they_are_the_published_ones_or_the_next_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [bytes([byte]) for byte in range(256)]
    file = write_tiktoken_file(tmp_path / "x.tiktoken", tokens)
    assert TiktokenFile().expected_ids(settings(file, pattern="cl100k_base")) == 257
    named = NAMED_PATTERNS["cl100k_base"]
    special = {"<|endoftext|>": 300}
    short = type(named)(named.expression, 256, special)
    monkeypatch.setitem(NAMED_PATTERNS, "cl100k_base", short)
    assert TiktokenFile().expected_ids(settings(file, pattern="cl100k_base")) == 301
    # An entry without bytes, as in Whisper's files, takes an id, too.
    file.write_bytes(file.read_bytes() + b"= 256\n")
    assert TiktokenFile().expected_ids(settings(file, pattern="cl100k_base")) == 258


@pytest.mark.parametrize(
    ("special", "message"),
    [
        ({"<|endoftext|>": 5}, r"'<\|endoftext\|>' = 5 is the id of '.*'; ids from 256 on"),
        ({"<|endoftext|>": 300, "<x>": 300}, r"'<x>' = 300 is the id of '<\|endoftext\|>'"),
        ({"<x>": 256}, r"is no token of .*; its special tokens are '<x>'"),
        ({"<|endoftext|>": 1_000_000}, "highest id, 1,000,000 of .* leaves 999,744 ids"),
        ({"<|endoftext|>": 300, "<x>": 10**15}, r"highest id, 1,000,000,000,000,000 of '<x>', lea"),
    ],
)
def test_special_tokens_that_cannot_be_are_refused(
    tmp_path: Path, special: dict[str, int], message: str
) -> None:
    file = write_tiktoken_file(tmp_path / "x.tiktoken", [bytes([byte]) for byte in range(256)])
    with pytest.raises(DataError, match=message):
        TiktokenFile().check(settings(file, pattern="gpt2", special_tokens=special))


def test_without_its_pattern_it_is_refused_with_the_reason_and_the_names(
    run_file: Path, tmp_path: Path
) -> None:
    file = write_tiktoken_file(tmp_path / "x.tiktoken", ranks_of(CL100K))
    with pytest.raises(DataError) as refused:
        run_stages(run_file, ["prepare"], [f"tokenizer={{kind: pretrained, path: {file}}}"])
    assert refused.value.exit_code == 2
    message = str(refused.value)
    assert "not the pattern that cuts text into words" in message
    assert "Set tokenizer.pattern" in message
    assert "gpt2, cl100k_base, o200k_base, llama3" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"YWI 700", r"line 701: 'YWI 700' is no token in base64"),
        (b"YWI= x", "line 701: 'YWI= x' is no token in base64"),
        (b"YQ== 700", "line 701: 'YQ== 700' has the token of line "),
        (b"/////w== 3", "line 701: '/////w== 3' has the rank of line 4"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    file = write_tiktoken_file(tmp_path / "x.tiktoken", ranks_of(CL100K))
    file.write_bytes(file.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=message):
        TiktokenFile().check(settings(file, pattern="gpt2"))


def test_a_missing_byte_is_named(tmp_path: Path) -> None:
    tokens = [bytes([byte]) for byte in range(256) if byte != 0x41]
    file = write_tiktoken_file(tmp_path / "x.tiktoken", tokens)
    with pytest.raises(DataError, match="has no token for the byte 0x41"):
        TiktokenFile().check(settings(file, pattern="gpt2"))


def test_only_a_file_of_ranks_is_taken_for_one(tmp_path: Path) -> None:
    file = write_tiktoken_file(tmp_path / "tokenizer.model", ranks_of(CL100K))
    assert isinstance(form_of(settings(file)), TiktokenFile)
    file.write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    assert isinstance(form_of(settings(file)), SentencePieceFile)

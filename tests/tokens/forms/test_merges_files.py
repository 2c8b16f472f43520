"""vocab.json with merges.txt gives the ids of transformers' own reader; what does not fit is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import run_stages
from public_vocabularies import fuzz_strings, write_merges_files
from taken_tokenizers import settings, taken

from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError, DataError
from pipeline.store.environment import user_variable
from pipeline.tokens.forms.merges_files import MergesFiles
from pipeline.tokens.forms.tokenizer_form import form_of
from pipeline.tokens.forms.transformers_folder import TransformersFolder
from pipeline.tokens.split_patterns import NAMED_PATTERNS
from pipeline.tokens.tokenizer_folder import load_exported

GPT2 = NAMED_PATTERNS["gpt2"].expression
REAL = user_variable("PIPELINE_TEST_VOCABULARIES")
STRINGS = 20_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_merges_files(tmp_path_factory.mktemp("files"), GPT2)


@pytest.fixture
def copied(files: Path, tmp_path: Path) -> Path:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    return tmp_path


def test_the_ids_are_those_of_transformers_reader(files: Path, tmp_path: Path) -> None:
    """With PIPELINE_TEST_VOCABULARIES, those of GPT-2 itself."""
    from transformers import GPT2TokenizerFast

    folder = Path(REAL) if REAL else files
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (alone / name).write_bytes((folder / name).read_bytes())
    fast, _ = taken(settings(alone), tmp_path / "made")
    theirs = GPT2TokenizerFast.from_pretrained(str(alone))
    strings = fuzz_strings(STRINGS, seed=1)
    expected = theirs(strings, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    made = fast.encode_batch_fast(strings, add_special_tokens=False)
    assert [s for s, m, e in zip(strings, made, expected, strict=True) if m.ids != e] == []


def test_the_stages_take_it_and_the_folder_loads_with_the_same_ids(
    run_file: Path, files: Path
) -> None:
    run_stages(
        run_file,
        ["prepare", "train-tokenizer", "tokenize"],
        [f"tokenizer={{kind: pretrained, path: {files}}}"],
    )
    tokenizer = load_exported(load(run_file).paths.data_dir / "tokenizer")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 700)
    text = "Document 7 says don't\n  \u65e5\u672c"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_two_may_be_named_and_gpt2s_own_names_do(copied: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    named = settings(
        (copied / "vocab.json").rename(tmp_path / "v.json"),
        merges=(copied / "merges.txt").rename(tmp_path / "m.txt"),
    )
    fast, _ = taken(named, tmp_path / "one")
    (tmp_path / "v.json").rename(original / "encoder.json")
    (tmp_path / "m.txt").rename(original / "vocab.bpe")
    again, _ = taken(settings(original), tmp_path / "two")
    assert again.to_str() == fast.to_str()


def test_one_file_stands_for_both_in_its_folder(copied: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        section = settings(copied / name)
        assert form_of(section).files(section) == [copied / "vocab.json", copied / "merges.txt"]
    (copied / "merges.txt").unlink()
    with pytest.raises(DataError, match=r"vocab\.json is not a tokenizer.*or tokenizer\.merges"):
        section = settings(copied / "vocab.json")
        form_of(section).check(section)


@pytest.mark.parametrize("pattern", ["cl100k_base", r"\p{L}+|[^\p{L}]"])
def test_another_pattern_is_taken_and_compared_with_plain_python(
    tmp_path: Path, pattern: str
) -> None:
    expression = NAMED_PATTERNS["cl100k_base"].expression
    folder = write_merges_files(tmp_path / "files", expression)
    fast, reference = taken(settings(folder, pattern=pattern), tmp_path / "made")
    strings = fuzz_strings(1000, seed=2)
    assert [s for s in strings if reference(s) != fast.encode(s).ids] == []


def test_a_folder_that_names_its_class_is_read_by_transformers(copied: Path) -> None:
    (copied / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    section = settings(copied)
    form = form_of(section)
    assert isinstance(form, TransformersFolder)
    form.check(section)
    assert form.expected_ids(section) == 701
    assert [file.name for file in form.files(section)] == [
        "tokenizer_config.json", "vocab.json", "merges.txt",
    ]  # fmt: skip


def change_vocabulary(change: Callable[[dict[str, int]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        pieces = json.loads((folder / "vocab.json").read_text("utf-8"))
        change(pieces)
        (folder / "vocab.json").write_text(json.dumps(pieces), "utf-8")

    return apply


def change_merges(change: Callable[[list[str]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        lines = (folder / "merges.txt").read_text("utf-8").split("\n")
        change(lines)
        (folder / "merges.txt").write_text("\n".join(lines), "utf-8")

    return apply


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            change_vocabulary(lambda pieces: pieces.pop("he")),
            r"merges\.txt, line \d+: 'h e' needs the piece 'he', which is not in .*vocab\.json",
        ),
        (
            change_merges(lambda lines: lines.insert(1, "he n")),
            r"merges\.txt, line 2: 'he n' needs the piece 'hen', which is not",
        ),
        (
            change_merges(lambda lines: lines.remove("h e")),
            r"merges\.txt, line \d+: '.*' merges 'he', which is no single byte and is made by no",
        ),
        (change_merges(lambda lines: lines.insert(2, "a b c")), "line 3: 'a b c' is no merge"),
        (
            change_merges(lambda lines: lines.insert(20, lines[1])),
            "line 21: .* is the same merge as an earlier line",
        ),
        (
            change_vocabulary(lambda pieces: pieces.pop("\u0100")),
            r"vocab\.json: has no piece for the byte 0x00.*name the tokenizer\.json",
        ),
        (
            change_vocabulary(lambda pieces: pieces.update(he=3)),
            "and '.*' have the same id 3",
        ),
        (change_vocabulary(lambda pieces: pieces.update(he="x")), "is no vocabulary"),
        (lambda folder: (folder / "vocab.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "merges.txt").write_bytes(b"\xff"), "cannot be read as UTF-8"),
        (
            change_vocabulary(lambda pieces: pieces.update(he=10**15)),
            r"highest id, 1,000,000,000,000,000 of 'he', leaves 999,999,999,999,",
        ),
        (
            lambda folder: (folder / "vocab.json").write_text('{"a": 1, "b": 2, "a": 3}'),
            r"vocab\.json: is not valid JSON \('a' stands twice\)",
        ),
        (
            lambda folder: (folder / "merges.txt").write_text("#version: 0.2\n"),
            r"merges\.txt: its 0 merges make 0 pieces .* none of 445 others \(.* and 442 more\)",
        ),
        (
            change_merges(lambda lines: lines.__delitem__(slice(300, None))),
            r"merges\.txt: its 299 merges make .* so that it is cut off, or of another",
        ),
        (
            lambda folder: (folder / "added_tokens.json").write_text('{"<|x|>": 701}'),
            r"added_tokens\.json: adds tokens to the vocabulary \('<\|x\|>': 701\)",
        ),
        (
            lambda folder: (folder / "added_tokens.json").write_text("{"),
            r"added_tokens\.json: is not valid JSON",
        ),
        (
            change_vocabulary(lambda pieces: pieces.pop("<|endoftext|>")),
            r"end_of_document = '<\|endoftext\|>': is no token of .*; its special tokens are none",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(
    copied: Path, break_it: Callable[[Path], None], message: str
) -> None:
    break_it(copied)
    with pytest.raises(DataError, match=message) as refused:
        MergesFiles().check(settings(copied))
    assert refused.value.exit_code == 2


def test_merges_that_are_no_file_are_named(copied: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.merges = .*none: is no file"):
        section = settings(copied / "vocab.json", merges=copied / "none")
        form_of(section).files(section)


def test_a_special_token_without_an_id_in_the_vocabulary_gets_the_given_one(
    copied: Path, tmp_path: Path
) -> None:
    fast, _ = taken(settings(copied, special_tokens={"<|im_end|>": 703}), tmp_path / "made")
    special = {701: "<|reserved_701|>", 702: "<|reserved_702|>", 703: "<|im_end|>"}
    assert {number: fast.id_to_token(number) for number in special} == special
    with pytest.raises(DataError, match=r"'<\|endoftext\|>' = 5 has the id 700|is the id of"):
        MergesFiles().check(settings(copied, special_tokens={"<|endoftext|>": 5}))


def test_added_tokens_that_are_special_tokens_are_taken(copied: Path, tmp_path: Path) -> None:
    (copied / "added_tokens.json").write_text('{"<|x|>": 701, "<|endoftext|>": 700}')
    fast, _ = taken(settings(copied, special_tokens={"<|x|>": 701}), tmp_path / "made")
    assert fast.id_to_token(701) == "<|x|>"


def test_settings_of_one_form_are_refused_with_another(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.pattern: is not used with a tokenizer\.json"):
        form_of(settings(tmp_path / "x.json", pattern="gpt2"))
    with pytest.raises(ConfigError, match=r"tokenizer\.pattern: is used with kind pretrained only"):
        load(run_file, ["tokenizer.pattern=gpt2"])


def test_the_settings_are_printed_and_read_again(run_file: Path, copied: Path) -> None:
    given = f"path: {copied}/vocab.json, merges: {copied}/merges.txt, pattern: '\\S+|\\s+'"
    special = 'special_tokens: {"<|im_end|>": 703}'
    config = load(run_file, [f"tokenizer={{kind: pretrained, {given}, {special}}}"])
    (run_file.parent / "again.yaml").write_text(dump(config))
    assert load(run_file.parent / "again.yaml") == config


def test_unused_settings_change_no_fingerprint() -> None:
    dumped = settings(Path("x")).model_dump()
    assert not {"merges", "pattern", "special_tokens"} & dumped.keys()

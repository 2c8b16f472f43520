"""An existing tokenizer is taken as it is: a transformers folder, a tokenizer.json, a SentencePiece
model."""

import json
from pathlib import Path

import pytest
import sentencepiece
from helpers import run_stages
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.artifacts import stage_states
from pipeline.store.stages import STAGES
from pipeline.tokens.tokenizer_folder import load_exported

TEXT = "document 7 says that  7 and 7 make 14 naïve"


def take(run_file: Path, path: Path, *more: str) -> Path:
    """Run the stage with that tokenizer; returns its folder."""
    run_stages(run_file, ["prepare", "train-tokenizer"], [pretrained(path), *more])
    return load(run_file).paths.data_dir / "tokenizer"


def pretrained(path: Path) -> str:
    return f"tokenizer={{kind: pretrained, path: {path}}}"


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    """A byte-level tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={c: i for i, c in enumerate([*alphabet, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "bytes.json"))
    return tmp_path / "bytes.json"


def model_file(folder: Path, **options: object) -> Path:
    rows = [f"document {i} says that {i} and {i} make {2 * i}" for i in range(40)]
    defaults = {
        "model_type": "bpe",
        "vocab_size": 310,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(rows),
        model_prefix=str(folder / "m"),
        minloglevel=2,
        **(defaults | options),
    )
    return folder / "m.model"


def test_a_folder(run_file: Path, tmp_path: Path) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer"], [])
    first = load(run_file).paths.data_dir / "tokenizer"
    other = tmp_path / "other.yaml"
    other.write_text(run_file.read_text().replace("data_dir: data", "data_dir: data2"))
    again = take(other, first)
    assert (again / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    report = json.loads((again / "report.json").read_text())
    assert (report["kind"], report["training_bytes"], report["strings_that_differ"]) == (
        "pretrained",
        0,
        0,
    )
    assert report["strings_decoded_to_themselves"] == report["strings_compared"]


def test_a_tokenizer_json_needs_a_token_for_the_end(run_file: Path, json_file: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"has no eos_token, and tokenizer.end_of_document = '<\|endoftext\|>' is not",
    ):
        take(run_file, json_file)
    folder = take(run_file, json_file, "tokenizer.end_of_document=<end>")
    tokenizer = load_exported(folder)
    assert (len(tokenizer), tokenizer.eos_token_id) == (257, 256)
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT


def test_a_sentencepiece_model_keeps_its_ids_and_special_tokens(
    run_file: Path, tmp_path: Path
) -> None:
    """Llama 2's options: a space in front, spaces kept, bytes for what is unknown. Training sees
    `</s>`, never `<s>`."""
    path = model_file(tmp_path, remove_extra_whitespaces=False)
    folder = take(run_file, path)
    tokenizer, processor = (
        load_exported(folder),
        sentencepiece.SentencePieceProcessor(model_file=str(path)),
    )
    assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == processor.encode(TEXT)
    assert tokenizer.decode(processor.encode(TEXT)) == TEXT
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == (
        "</s>",
        "</s>",
        "<unk>",
    )
    assert (folder / "tokenizer.model").read_bytes() == path.read_bytes()


def test_a_model_without_eos_needs_a_piece_for_the_end(run_file: Path, tmp_path: Path) -> None:
    path = model_file(tmp_path, eos_id=-1, control_symbols=["<end>"])
    with pytest.raises(DataError, match="has no eos_token"):
        take(run_file, path)
    assert (
        load_exported(take(run_file, path, "tokenizer.end_of_document=<end>")).eos_token == "<end>"
    )


def test_a_token_that_is_also_text_is_taken_with_a_warning(
    run_file: Path, json_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = take(run_file, json_file, "tokenizer.end_of_document=a")
    assert (
        "the text 'a' in a document is encoded as the end-of-document token"
        in capsys.readouterr().err
    )
    assert (
        json.loads((folder / "report.json").read_text())[
            "strings_with_the_end_of_a_document_inside"
        ]
        > 0
    )


def test_a_model_without_an_exact_form_is_refused(run_file: Path, tmp_path: Path) -> None:
    path = model_file(tmp_path, normalization_rule_name="nmt_nfkc")
    with pytest.raises(
        DataError,
        match=r"m\.model: its fast form gives other ids than Sent.*\(nmt_nfkc\) rewrites text",
    ):
        take(run_file, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b"{}", r"x\.json is not a tokenizer of the tokenizers library"),
        ("x.json", b"\xff", r"x\.json is not a tokenizer of the tokenizers library"),
        ("x.model", b"nothing", r"x\.model: is not a SentencePiece model that can be read"),
        (
            "folder/tokenizer.json",
            b"{",
            r"tokenizer\.json is not a tokenizer of the tokenizers library",
        ),
        (
            "folder/readme",
            b"",
            r"folder: holds no tokenizer\.json; set it to a transformers folder",
        ),
        (
            "folder/spiece.model",
            b"",
            r"folder: holds no tokenizer\.json, but spiece\.model: set tokenizer\.path to that file",
        ),
        (
            "other/x",
            b"",
            r"folder: does not exist; set it to a transformers folder with tokenizer\.json",
        ),
    ],
)
def test_what_is_no_tokenizer_is_said_so(
    run_file: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        take(run_file, tmp_path / "folder" if "/" in name else file)


def state(run_file: Path, *overrides: str) -> tuple[str, tuple[str, ...]]:
    table = {stage.name: stage for stage in STAGES}
    found = stage_states(table, load(run_file, ["executor.workers=1", *overrides]))[
        "train-tokenizer"
    ]
    return found.kind, found.reasons


def test_every_file_that_is_read_decides(run_file: Path, tmp_path: Path, json_file: Path) -> None:
    settings = (pretrained(json_file), "tokenizer.end_of_document=<end>")
    run_stages(run_file, ["prepare", "train-tokenizer"], list(settings))
    assert state(run_file, *settings, "data.mixture={web: 2}") == (
        "done",
        (),
    )  # a mixture changes nothing here
    json_file.write_text(json_file.read_text() + " ")
    kind, reasons = state(run_file, *settings)
    assert kind == "stale"
    assert len(reasons) == 1
    assert reasons[0].startswith("pretrained bytes.json: ")

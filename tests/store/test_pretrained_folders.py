"""Folders of a tokenizer or a model that others made: code in them is refused by name, and none of
it is run or copied."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import run_stages, write_byte_level_tokenizer
from transformers import LlamaConfig

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.model.architecture import model_config
from pipeline.store.pretrained_folders import open_tokenizer, opening_options
from pipeline.tokens.agreement import folder_ids
from pipeline.tokens.kinds.tokenizer_kind import check_tokenizer_files, tokenizer_kind

MARK = "code_has_run"


def with_code(folder: Path, file: str, content: dict[str, object]) -> None:
    """Put code beside a tokenizer, and an entry that names it."""
    (folder / "own.py").write_text(
        f"open({str(folder / MARK)!r}, 'w')\n"
        "from transformers import LlamaConfig, PreTrainedTokenizerFast\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    path = folder / file
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, **content}))


def of_the_tokenizer(folder: Path) -> str:
    with_code(
        folder,
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": [None, "own.Own"]}, "tokenizer_class": "Own"},
    )
    return "tokenizer_config.json"


def of_the_model(folder: Path) -> str:
    with_code(
        folder, "config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    )
    return "config.json"


def of_another_version(folder: Path) -> str:
    """transformers reads the file that is named for its version in the place of config.json."""
    with_code(
        folder,
        "config.4.0.0.json",
        {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}},
    )
    (folder / "config.json").write_text(
        json.dumps({"model_type": "own", "configuration_files": ["config.4.0.0.json"]})
    )
    return "config.4.0.0.json"


def of_a_part(folder: Path) -> str:
    inner = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    with_code(folder, "config.json", {"model_type": "llava", "text_config": inner})
    return "config.json"


def of_generation(folder: Path) -> str:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(folder / MARK)!r}, 'w')\n")
    return "custom_generate/generate.py"


def of_a_kernel(folder: Path) -> str:
    LlamaConfig().save_pretrained(folder)
    with_code(folder, "config.json", {"attn_implementation": "somebody/kernel"})
    return "config.json"


CODE = (of_the_tokenizer, of_the_model, of_another_version, of_a_part, of_generation, of_a_kernel)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tokenizer folder without code, and a person who would answer `y` to any question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    write_byte_level_tokenizer(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize("add", CODE)
def test_a_tokenizer_with_code_is_refused_by_name(
    run_file: Path, folder: Path, add: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = add(folder)
    config = load(run_file, [f"tokenizer={{kind: pretrained, path: {folder}}}"])
    target = config.paths.data_dir / "tokenizer"
    for refusing in (
        check_tokenizer_files,
        lambda config: tokenizer_kind(config).make(config, target),
    ):
        with pytest.raises(DataError) as refused:
            refusing(config)
        assert refused.value.exit_code == 2
        assert f"tokenizer.path = {folder}: " in str(refused.value)
        assert file in str(refused.value)
    assert "[y/N]" not in capsys.readouterr().out
    assert not (folder / MARK).exists()
    assert not target.exists()
    assert not [name for name in sys.modules if name.startswith("transformers_modules")]


def test_the_first_stage_asks_for_code_before_it_reads_anything(
    run_file: Path, folder: Path
) -> None:
    of_the_tokenizer(folder)
    with pytest.raises(DataError, match="auto_map"):
        run_stages(run_file, ["prepare"], [f"tokenizer={{kind: pretrained, path: {folder}}}"])
    assert not (load(run_file).paths.data_dir / "documents" / "manifest.json").exists()
    assert not (folder / MARK).exists()


@pytest.mark.parametrize("add", CODE)
def test_a_model_with_code_is_refused_by_name(
    run_file: Path, folder: Path, add: Callable[[Path], str]
) -> None:
    LlamaConfig(vocab_size=512).save_pretrained(folder)
    file = add(folder)
    model = load(run_file, [f"model={{pretrained: {folder}}}"])
    with pytest.raises(DataError) as refused:
        model_config(model, (259, 0))
    assert f"model.pretrained = {folder}: " in str(refused.value)
    assert file in str(refused.value)
    with pytest.raises(DataError, match=file):
        opening_options(folder, "the harness")
    assert not (folder / MARK).exists()


def test_a_pipe_in_the_folder_is_named_and_not_waited_for(run_file: Path, folder: Path) -> None:
    os.mkfifo(folder / "chat_template.jinja")
    with pytest.raises(
        DataError, match=r"theirs: chat_template\.jinja is neither a file nor a folder"
    ):
        check_tokenizer_files(load(run_file, [f"tokenizer={{kind: pretrained, path: {folder}}}"]))


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_json_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"theirs: config\.json is not valid JSON"):
        opening_options(folder, str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": []},
        {"hidden_size": "x"},
        {"rope_parameters": [1]},
        {"num_attention_heads": 0},
        {"configuration_files": 5},
        {"dtype": "nothing"},
    ],
)
def test_a_config_of_odd_values_is_a_message(
    run_file: Path, folder: Path, changes: dict[str, object]
) -> None:
    LlamaConfig(vocab_size=512).save_pretrained(folder)
    with_code(folder, "config.json", changes)
    with pytest.raises(DataError, match=r"model\.pretrained = .*: cannot be loaded"):
        model_config(load(run_file, [f"model={{pretrained: {folder}}}"]), (259, 0))


@pytest.mark.parametrize("content", [[], "x", {"eos_token": []}, {"eos_token": {"a": 1}}])
def test_a_tokenizer_config_of_odd_values_names_no_end(folder: Path, content: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    assert folder_ids(folder).end_of_document is None
    with pytest.raises(DataError, match="cannot be loaded"):
        open_tokenizer(folder, str(folder))


def test_a_file_of_such_a_folder_is_taken(run_file: Path, folder: Path) -> None:
    """`tokenizers` alone reads it, which knows no code."""
    of_the_tokenizer(folder)
    run_stages(
        run_file,
        ["prepare", "train-tokenizer"],
        [f"tokenizer={{kind: pretrained, path: {folder}/tokenizer.json}}"],
    )
    assert not (folder / MARK).exists()
    assert not list(load(run_file).paths.data_dir.rglob("*.py"))

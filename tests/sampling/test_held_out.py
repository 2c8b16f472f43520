"""What identifies held-out text: its content and what is chosen of it, not where it lies."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.sampling.held_out import TOKENS_RECORD, held_out_text, held_out_tokens
from pipeline.store.layout import data_folder, run_folder

TRAIN = {"prose/train_0.bin": "a", "sums/train_0.bin": "b"}
HELD_OUT = {"prose/validation_0.bin": "c", "sums/validation_0.bin": "d"}
DOCUMENTS = {"prose/validation_0.parquet": "e", "sums/validation_0.parquet": "f"}


def config_of(
    folder: Path,
    tokens: Mapping[str, str],
    documents: Mapping[str, str] = DOCUMENTS,
    changed: tuple[str, str] = ("", ""),
) -> RunConfig:
    """Write a run file and manifests of files with these checksums, and return the settings."""
    folder.mkdir()
    path = folder / "run.yaml"
    path.write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)).replace(*changed))
    config = load(path)
    data = data_folder(config)
    for manifest, files in (
        (data.tokens_manifest, tokens),
        (data.documents_manifest, documents),
    ):
        manifest.parent.mkdir(parents=True)
        records = {name: {"bytes": 1, "checksum": checksum} for name, checksum in files.items()}
        output = "".join(files.values())
        manifest.write_text(json.dumps({"output": output, "files": records}))
    return config


def begin_run(config: RunConfig) -> None:
    """Record the tokens as a run does when it begins."""
    tokens: Mapping[str, str] = json.loads(data_folder(config).tokens_manifest.read_text())
    settings = run_folder(config).settings
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({TOKENS_RECORD: tokens["output"]}))


def test_only_the_content_of_held_out_shards_counts(tmp_path: Path) -> None:
    own = config_of(tmp_path / "own", TRAIN | HELD_OUT)
    copied = config_of(tmp_path / "copied", HELD_OUT)
    assert held_out_tokens(own) == held_out_tokens(copied) != ""
    assert held_out_text(own) == held_out_text(copied) != ""


def test_another_tokenizer_changes_the_tokens_and_not_the_text(tmp_path: Path) -> None:
    own = config_of(tmp_path / "own", HELD_OUT)
    other = config_of(tmp_path / "other", HELD_OUT | {"sums/validation_0.bin": "D"})
    assert held_out_tokens(own) != held_out_tokens(other)
    assert held_out_text(own) == held_out_text(other)


def test_other_documents_change_the_text(tmp_path: Path) -> None:
    own = config_of(tmp_path / "own", HELD_OUT)
    other = config_of(tmp_path / "other", HELD_OUT, {"prose/validation_0.parquet": "e"})
    assert held_out_text(own) != held_out_text(other)


@pytest.mark.parametrize(
    "changed",
    [
        ("validation_sequences: 5", "validation_sequences: 6"),
        ("sequence_length: 32", "sequence_length: 16"),
    ],
)
def test_what_is_chosen_of_the_text_counts(tmp_path: Path, changed: tuple[str, str]) -> None:
    own = config_of(tmp_path / "own", HELD_OUT)
    other = config_of(tmp_path / "other", HELD_OUT, changed=changed)
    assert held_out_tokens(own) != held_out_tokens(other)
    assert held_out_text(own) != held_out_text(other)


def test_a_source_that_the_run_does_not_have_does_not_count(tmp_path: Path) -> None:
    own = config_of(tmp_path / "own", HELD_OUT)
    more = config_of(tmp_path / "more", HELD_OUT | {"old/validation_0.bin": "g"})
    assert held_out_tokens(own) == held_out_tokens(more)


def test_without_held_out_text_there_is_no_fingerprint(tmp_path: Path) -> None:
    config = config_of(tmp_path / "own", TRAIN, {})
    assert (held_out_tokens(config), held_out_text(config)) == ("", "")
    data_folder(config).tokens_manifest.unlink()
    assert held_out_tokens(config) == ""


def test_a_run_that_has_begun_has_the_tokens_that_it_read(tmp_path: Path) -> None:
    own = config_of(tmp_path / "own", HELD_OUT)
    before = (held_out_tokens(own), held_out_text(own))
    begin_run(own)
    assert (held_out_tokens(own), held_out_text(own)) == before


def test_a_data_folder_that_was_rebuilt_since_tells_nothing_of_what_the_run_read(
    tmp_path: Path,
) -> None:
    """Without the record of the run it would be taken for a run on the new tokens."""
    old = config_of(tmp_path / "old", HELD_OUT)
    new = config_of(tmp_path / "new", HELD_OUT | {"sums/validation_0.bin": "D"})
    begin_run(old)
    begin_run(new)
    data_folder(new).tokens_manifest.replace(data_folder(old).tokens_manifest)
    begun = held_out_tokens(old)
    assert begun == "cd, 32, 5"
    assert held_out_text(old) == ""

    # The same holds where the folder is gone.
    data_folder(old).tokens_manifest.unlink()
    assert held_out_tokens(old) == begun

"""Which models the entries of `evaluation.models` name, and what identifies a model."""

from pathlib import Path

import pytest
from helpers import pretend_checkpoint

from pipeline.checkpoint.folders import read_checkpoint_manifest, write_checkpoint_manifest
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.evaluation.models_to_score import (
    folder_identity,
    folder_tokenizer,
    models_to_score,
)


def test_entries_that_name_no_checkpoint_are_refused_together(run_file: Path) -> None:
    config = load(run_file, ["evaluation.models=[all, {every: 1000}]"])
    checkpoints = config.paths.run_dir / "checkpoints"
    with pytest.raises(ConfigError) as refused:
        models_to_score(config)
    assert refused.value.problems == [
        f"evaluation.models: all: {checkpoints} holds no complete checkpoint; there are none",
        f"evaluation.models: {{every: 1000}}: {checkpoints} holds no complete checkpoint at a "
        "multiple of 1000 steps; there are none",
    ]


def test_a_merge_of_a_run_that_does_not_exist_names_its_place(run_file: Path) -> None:
    missing = run_file.parent / "missing"
    config = load(run_file, [f"evaluation.models=[{{merge: {{run: {missing}, last: 2}}}}]"])
    with pytest.raises(ConfigError, match=f"merge.run = {missing}: no such folder; name the fol"):
        models_to_score(config)


def test_an_entry_that_names_no_checkpoint_is_said_beside_others(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file, ["evaluation.models=[{every: 3}, 4]"])
    checkpoint = pretend_checkpoint(config.paths.run_dir, 4, 128)
    manifest = read_checkpoint_manifest(checkpoint)
    write_checkpoint_manifest(checkpoint, {**manifest, "model": {}, "tokenizer": "hash"})
    assert [model.step for model in models_to_score(config)] == [4]
    assert "at a multiple of 3 steps; there are 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        ("tokenizer.json", "tokenizer_config.json"),
        ("vocab.json", "merges.txt", "added_tokens.json"),
        ("vocab.txt", "special_tokens_map.json"),
        ("tokenizer.model",),
        ("spiece.model",),
        ("qwen.tiktoken",),
    ],
)
def test_every_file_of_a_tokenizer_identifies_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in names:
        (tmp_path / name).write_text("a")
    first = folder_tokenizer(tmp_path)
    (tmp_path / "README.md").write_text("a")
    assert folder_tokenizer(tmp_path) == first
    for name in names:
        (tmp_path / name).write_text("b")
        assert folder_tokenizer(tmp_path) != first, name
        assert folder_identity(tmp_path)["tokenizer"] == folder_tokenizer(tmp_path)
        (tmp_path / name).write_text("a")
    assert folder_tokenizer(tmp_path) == first


def test_the_tokenizer_is_no_part_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("a")
    first = folder_identity(tmp_path)
    (tmp_path / "vocab.json").write_text("a")
    second = folder_identity(tmp_path)
    assert second["weights"] == first["weights"]
    assert second["tokenizer"] != first["tokenizer"]

"""What identifies a model before it is loaded."""

from pathlib import Path

import pytest

from pipeline.evaluation.models_to_score import folder_identity, folder_tokenizer


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

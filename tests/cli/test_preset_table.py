"""`presets` prints a shipped table, which says what the presets say."""

import json

import pytest

from pipeline.cli.preset_table import (
    TABLE,
    as_table,
    rows_of_presets,
    shipped_rows,
    show_presets,
)
from pipeline.errors import ConfigError


def test_the_table_says_what_the_presets_say() -> None:
    assert TABLE.read_text() == as_table(rows_of_presets()), (
        "run `python -m pipeline.cli.preset_table`, and commit the table"
    )


def test_a_row_is_read_as_it_was_written() -> None:
    assert shipped_rows() == rows_of_presets()


def test_json_has_the_figures_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    """gpt3-125m is 768 wide, with a head of its own that counts as a second embedding or is tied."""
    show_presets(1_000, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["vocab_size"] == 1_000
    preset = next(row for row in printed["presets"] if row["name"] == "gpt3-125m")
    assert preset["embedding_parameters"] == 768_000
    assert preset["parameters"] == 768_000 + preset["non_embedding_parameters"]
    assert preset["train_tokens"] == 300_000_000_000


def test_a_vocabulary_without_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--vocab-size = 0: must be at least 1"):
        show_presets(0, as_json=False)

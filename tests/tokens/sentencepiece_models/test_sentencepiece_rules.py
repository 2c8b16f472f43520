"""The rules of a SentencePiece normaliser, read from the table in its model."""

import io
from pathlib import Path

import pytest
import sentencepiece

from pipeline.tokens.sentencepiece_models.sentencepiece_file import parse_model
from pipeline.tokens.sentencepiece_models.sentencepiece_rules import (
    MOST_STEPS,
    joined_characters,
    single_rules,
)


def table_of(folder: Path, rules: str) -> bytes:
    """Return the table that SentencePiece makes of rules: code points, a tab, code points."""
    (folder / "rules.tsv").write_text(rules)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four"] * 9),
        model_writer=model,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=3,
        num_threads=1,
        normalization_rule_tsv=str(folder / "rules.tsv"),
    )
    return parse_model(model.getvalue()).rules


def test_rules_of_single_characters_are_read(tmp_path: Path) -> None:
    table = table_of(tmp_path, "C4\t41 65\nAD\t\n2019\t27\n1F600\t3A 29\n")
    rules = {"\u00c4": "Ae", "\u00ad": "", "\u2019": "'", "\U0001f600": ":)"}
    assert single_rules(table) == rules
    assert len(list(joined_characters(table))) == 3 * len(rules)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param("61 62\t63\n", id="several characters"),
        pytest.param("61\t62\n62\t63\n", id="one after another gives another text"),
        pytest.param("".join(f"{0x400 + n:X}\t61\n" for n in range(MOST_STEPS + 1)), id="many"),
    ],
)
def test_other_tables_are_no_steps(tmp_path: Path, rules: str) -> None:
    assert single_rules(table_of(tmp_path, rules)) is None


def test_as_many_rules_as_allowed_are_steps(tmp_path: Path) -> None:
    rules = "".join(f"{0x400 + n:X}\t61\n" for n in range(MOST_STEPS))
    assert single_rules(table_of(tmp_path, rules)) == {
        chr(0x400 + n): "a" for n in range(MOST_STEPS)
    }

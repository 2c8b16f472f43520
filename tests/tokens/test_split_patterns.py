"""Patterns that cut text: those with names, and expressions of the user."""

import pytest
import regex
from public_vocabularies import fuzz_strings, matches

from pipeline.errors import DataError
from pipeline.tokens.split_patterns import NAMED_PATTERNS, expression_of


@pytest.mark.parametrize("name", NAMED_PATTERNS)
def test_a_named_pattern_leaves_no_text(name: str) -> None:
    expression = expression_of(name)
    strings = fuzz_strings(300, seed=5)
    assert ["".join(matches(expression, text)) for text in strings] == strings


def test_numbers_and_words_are_cut_as_published() -> None:
    text = "HTTPServer's 12345/x\n\n"
    assert {
        name: matches(pattern.expression, text) for name, pattern in NAMED_PATTERNS.items()
    } == {
        "gpt2": ["HTTPServer", "'s", " 12345", "/", "x", "\n\n"],
        "cl100k_base": ["HTTPServer", "'s", " ", "123", "45", "/x", "\n\n"],
        "o200k_base": ["HTTPServer's", " ", "123", "45", "/x", "\n\n"],
        "llama3": ["HTTPServer", "'s", " ", "123", "45", "/x", "\n\n"],
    }


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("gpt4", r"tokenizer\.pattern = 'gpt4': no such pattern; set it to gpt2, cl100k_base"),
        (r"(\p{L}+", r"is not a regular expression \(missing \)"),
        (r"\p{Nothing}+", "is not a regular expression"),
        (r"\p{L}*", "matches empty text"),
        (r"\p{L}+|\s+", r"matches not all of a text: it leaves '\\x00"),
        (r"\p{N}{1,3}+|\s+", r"has a possessive repetition \(\{1,3\}\+\).*write \(\?>X"),
    ],
)
def test_what_is_no_pattern_is_refused_by_name(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        expression_of(pattern)
    assert refused.value.exit_code == 2


def test_why_a_possessive_count_is_refused() -> None:
    """The engine of tokenizer.json repeats it, so that numbers would not be cut."""
    assert regex.findall(r"\p{N}{1,3}+", "12345") == ["123", "45"]
    assert matches(r"\p{N}{1,3}+", "12345") == ["12345"]
    assert matches(r"(?>\p{N}{1,3})", "12345") == ["123", "45"]

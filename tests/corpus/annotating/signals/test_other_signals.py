"""The signals of Gopher, C4 and FineWeb on small texts, by hand."""

import pytest

from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.signals.c4 import is_kept_line
from pipeline.corpus.annotating.signals.signals_part import QualitySignals

PAGE = "The cat, and # 12 dogs...\n- same line\n\n\u2022 same line\n- same line\n\nla fin\u2026"
"""Seven lines, two of them empty; 17 words; three paragraphs."""


def values_of(name: str, text: str) -> dict[str, object]:
    names = SIGNAL_SETS[name]
    return dict(zip(names, QualitySignals(names, "en").values(DocumentText(text)), strict=True))


def test_gopher_by_hand() -> None:
    words = PAGE.split()
    assert len(words) == 17
    assert values_of("gopher", PAGE) == {
        "gopher_word_count": 17.0,
        "gopher_mean_word_length": round(sum(map(len, words)) / 17, 8),
        "gopher_hash_to_word_ratio": round(1 / 17, 8),
        "gopher_ellipsis_to_word_ratio": round(2 / 17, 8),
        "gopher_frac_lines_start_with_bullet": round(3 / 7, 8),
        # Without one: # 12 - \u2022 -.
        "gopher_frac_words_with_letter": round(12 / 17, 8),
        "gopher_stop_words": 2.0,
        # `- same line` stands twice in five lines with text.
        "gopher_frac_dupe_lines": 0.2,
        "gopher_frac_dupe_paragraphs": 0.0,
        "gopher_frac_chars_dupe_lines": round(11 / len(PAGE), 8),
        "gopher_frac_chars_dupe_paragraphs": 0.0,
    }


def test_repeated_paragraphs() -> None:
    found = values_of("gopher", "\none\ntwo\n\none\ntwo\n\n\none\n")
    assert found["gopher_frac_dupe_paragraphs"] == round(1 / 3, 8)
    assert found["gopher_frac_chars_dupe_paragraphs"] == round(7 / 24, 8)
    assert found["gopher_frac_dupe_lines"] == round(3 / 5, 8)


def test_lines_of_white_space_repeat_nothing() -> None:
    found = values_of("gopher", " = Title = \n \n one \n \n two \n \t\n three")
    assert found["gopher_frac_dupe_lines"] == 0.0
    assert found["gopher_frac_chars_dupe_lines"] == 0.0


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        ("One two three four five.", True),
        (' He asked: "Is it really so?"\r', True),
        ("One two three four.", False),
        ("One two three four five", False),
        ("One two three four five...", False),
        ("Please enable JavaScript to see this.", False),
        ("We use cookies on all our pages.", False),
        (f"One two three four {'x' * 1001}.", False),
    ],
)
def test_lines_that_c4_keeps(line: str, is_kept: bool) -> None:
    assert is_kept_line(line) is is_kept


def test_c4_by_hand() -> None:
    text = (
        "Menu\nOne two three four five. And one two three four!\nLorem Ipsum {x} {y} is here now.\n"
    )
    found = values_of("c4", text)
    starts, ends, scores = found.pop("c4_lines_kept")  # type: ignore[misc]
    assert [*zip(starts, ends, scores, strict=True)] == [(0, 5, 0), (5, 54, 1), (54, 87, 1)]
    assert found == {"c4_num_sentences": 3.0, "c4_lorem_ipsum": 1.0, "c4_opening_brackets": 2.0}


def test_fineweb_by_hand() -> None:
    text = f"Short.\n{'x' * 30}\n \n{'y' * 31}\u3002\nShort.\n"
    # Lines with text: four; two equal ones of 6 characters.
    assert values_of("fineweb", text) == {
        "fineweb_frac_lines_end_with_punctuation": 0.75,
        "fineweb_frac_short_lines": 0.75,
        "fineweb_frac_chars_dupe_lines": round(6 / (6 + 30 + 1 + 32 + 6), 8),
        # Raw words: Short . x y \u3002 Short .
        "fineweb_newlines_to_words": round(5 / 7, 8),
    }


def test_an_empty_text_has_undefined_signals() -> None:
    for name in ("gopher", "fineweb"):
        found = values_of(name, "")
        assert not any(found.values())
    assert values_of("fineweb", "\n")["fineweb_frac_short_lines"] is None

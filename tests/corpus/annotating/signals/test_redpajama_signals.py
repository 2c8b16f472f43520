"""The signals of RedPajama-v2: by hand, and equal to the published code on real text."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from published_code import PublishedCode, needs_published_code, published_code, real_documents

from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.config.run_file import load
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.raw_words import RAW_WORDS
from pipeline.corpus.annotating.signals.signals_part import (
    STOP_WORD_FRACTION,
    QualitySignals,
    document_signals,
    line_signals,
)

NAMES = SIGNAL_SETS["redpajama-v2"]
OF_RAW_WORDS = {
    "rps_doc_stop_word_fraction",
    "rps_doc_symbol_to_word_ratio",
    "rps_doc_frac_no_alph_words",
    "rps_doc_frac_all_caps_words",
}
"""The signals that depend on how a text is split into raw words."""
HARD_TEXTS = {
    "newlines": "\n\n \n",
    "no newline": "one",
    "punctuation": "!!! ... ###\n{}\n",
    "sigma": "\u039f\u03a3\u03a3 A\u03a3\nA\u03a3B javascript JavaScript, java script\n",
    "accents": "E\u0301\u00c9 \u01c5 \u0130 \u00e9\u0301\n\u0301a\n\u2022 x\n\u2013y\n \u25aa z\u2026",
    "numbers": "1,000 2\u00bd \u0663 12%\n" * 3,
    "spaces": "a\x0bb\x1cc\x85d\u2028e\u2003f\r\ng",
    "lorem": "Lorem  ipsum; LOREM\nIPSUM lorem, ipsum\n",
    "a repeats": "a a a a a a a a a a a a b",
    "quotes": "He said: \u201cNo!\u201d\nWhy? \n\u201d\n",
}


def signals_of(text: str, names: tuple[str, ...] = NAMES) -> dict[str, object]:
    """Return the values: a number, or for lines a list of spans."""
    values = QualitySignals(names, "en").values(DocumentText(text))
    found: dict[str, object] = {}
    for name, value in zip(names, values, strict=True):
        found[name] = value
        if isinstance(value, tuple):
            found[name] = [
                tuple(span) for span in zip(*(each.tolist() for each in value), strict=True)
            ]
    return found


def test_every_name_has_a_function_and_there_are_no_others() -> None:
    computed = {*document_signals(), *line_signals(), STOP_WORD_FRACTION}
    assert computed == {name for names in SIGNAL_SETS.values() for name in names}
    assert len(NAMES) == 27


def test_a_repeating_text_by_hand() -> None:
    expected = {
        # Six words of one character; `a b` occurs three times, `a b a` and `a b a b` twice.
        "rps_doc_word_count": 6.0,
        "rps_doc_mean_word_length": 1.0,
        "rps_doc_frac_unique_words": 0.33333333,
        "rps_doc_unigram_entropy": round(math.log(2), 8),
        "rps_doc_frac_chars_top_2gram": 1.0,
        "rps_doc_frac_chars_top_3gram": 1.0,
        "rps_doc_frac_chars_top_4gram": 1.33333333,
        "rps_doc_frac_chars_dupe_5grams": 0.0,
        "rps_doc_num_sentences": 1.0,
        "rps_doc_frac_no_alph_words": 0.0,
        "rps_doc_frac_all_caps_words": 0.0,
        "rps_doc_symbol_to_word_ratio": 0.0,
        "rps_lines_num_words": [(0, 11, 6.0)],
    }
    found = signals_of("a b a b a b")
    assert {name: found[name] for name in expected} == expected
    # `a b a b a` and `b a b a b` twice each: all words but none more than once.
    longer = signals_of("a b a b a b a b")
    assert longer["rps_doc_frac_chars_dupe_5grams"] == 1.0
    assert longer["rps_doc_frac_chars_dupe_6grams"] == 1.0
    assert longer["rps_doc_frac_chars_dupe_7grams"] == 0.0


def test_a_small_page_by_hand() -> None:
    text = "The CAT {sat}.\n\u2022 Buy javascript 42\u2026\nx"
    found = signals_of(text)
    lines = [(0, 15), (15, 36), (36, 37)]
    spans = {
        "rps_lines_num_words": [3, 4, 1],
        "rps_lines_javascript_counts": [0, 1, 0],
        "rps_lines_ending_with_terminal_punctution_mark": [1, 0, 0],
        "rps_lines_start_with_bulletpoint": [0, 1, 0],
        # T, C, A, T of 15 characters with the newline; B of 21.
        "rps_lines_uppercase_letter_fraction": [0.26666667, 0.04761905, 0],
        # 4, 2 of the normalised line with its bullet and ellipsis: 20 characters.
        "rps_lines_numerical_chars_fraction": [0, 0.1, 0],
    }
    for name, scores in spans.items():
        assert found[name] == [(*line, score) for line, score in zip(lines, scores, strict=True)]
    # Raw words: The CAT { sat }. \u2022 Buy javascript 42 \u2026 x, of which five have letters.
    assert found["rps_doc_frac_no_alph_words"] == round(1 - 6 / 11, 8)
    assert found["rps_doc_frac_all_caps_words"] == round(1 / 11, 8)
    assert found["rps_doc_symbol_to_word_ratio"] == round(1 / 11, 8)
    assert found["rps_doc_frac_lines_end_with_ellipsis"] == round(1 / 3, 8)
    assert found["rps_doc_curly_bracket"] == round(2 / 37, 8)
    assert found["rps_doc_num_sentences"] == 2.0
    # `x` is a stop word of the list, `The` is not.
    assert found["rps_doc_stop_word_fraction"] == round(1 / 11, 8)


def test_a_text_without_words_has_undefined_signals() -> None:
    found = signals_of("\n")
    assert found["rps_doc_word_count"] == 0.0
    assert found["rps_doc_mean_word_length"] is None
    assert found["rps_doc_symbol_to_word_ratio"] is None
    assert found["rps_doc_frac_chars_top_2gram"] == 0.0


def test_the_language_of_stop_words_is_a_setting(run_file: Path) -> None:
    config = load(run_file, ["annotate={signals: redpajama-v2, stop_words: de}"], needs=())
    part = QualitySignals.asked_for(config)
    assert part is not None
    values = dict(zip(part.names, part.values(DocumentText("der Hund und the dog")), strict=True))
    assert values[STOP_WORD_FRACTION] == 0.4
    english = QualitySignals(part.names, "en")
    assert english.fingerprint() != part.fingerprint()
    without = [
        QualitySignals(("rps_doc_word_count",), language).fingerprint() for language in ("en", "de")
    ]
    assert without[0] == without[1]


def published_values(code: PublishedCode, document: object) -> Mapping[str, object]:
    """Return what the published code computes, in the form of `signals_of`."""
    values: dict[str, object] = {}
    for name in NAMES:
        spans = [(start, end, score) for start, end, score in code.signals[name](document)]
        values[name] = spans
        if name in document_signals() or name == STOP_WORD_FRACTION:
            values[name] = spans[0][2]
    return values


@needs_published_code
def test_all_signals_are_those_of_the_published_code(capsys: pytest.CaptureFixture[str]) -> None:
    texts = HARD_TEXTS | real_documents(each=12)
    split_otherwise: list[str] = []
    with published_code() as code:
        for name, text in texts.items():
            document = code.document(text, domain=None, precompute_ngrams=True)
            published = published_values(code, document)
            compared = {*NAMES}
            # NLTK from 3.10 on has word characters of its own, here `re` decides.
            if [*document.raw_words] != RAW_WORDS.findall(text):
                split_otherwise.append(name)
                compared -= OF_RAW_WORDS
            found = signals_of(text)
            assert {each: found[each] for each in compared} == {
                each: published[each] for each in compared
            }, name
    with capsys.disabled():
        print(f"\nNLTK splits {len(split_otherwise)} of {len(texts)} otherwise: {split_otherwise}")
    assert len(split_otherwise) < 0.25 * len(texts)

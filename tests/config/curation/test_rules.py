"""Rules of `select`: what a comparison may be, what a preset stands for, what is refused."""

import re
from pathlib import Path

import pytest

from pipeline.config.curation.rules import (
    RuleComparison,
    expand_rules,
    parse_comparison,
    preset_rules,
)
from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.config.run_file import dump, load
from pipeline.config.shipped_files import RULES, shipped_files
from pipeline.errors import ConfigError

RUN = "paths: {data_dir: data, run_dir: run}\nsources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"


@pytest.mark.parametrize(
    ("written", "comparison"),
    [
        ("rps_doc_word_count>=50", RuleComparison("rps_doc_word_count", None, ">=", 50.0)),
        ("  x < 1e-3 ", RuleComparison("x", None, "<", 0.001)),
        ("x <= 100_000", RuleComparison("x", None, "<=", 100_000.0)),
        ("x != -.5", RuleComparison("x", None, "!=", -0.5)),
        ("mean( lines ) <= 0.9", RuleComparison("lines", "mean", "<=", 0.9)),
        ("count(pii) == 0", RuleComparison("pii", "count", "==", 0.0)),
        ("language == en", RuleComparison("language", None, "==", "en")),
        ("language != 'zh-Hant'", RuleComparison("language", None, "!=", "zh-Hant")),
    ],
)
def test_what_a_comparison_may_be(written: str, comparison: RuleComparison) -> None:
    assert parse_comparison(written) == comparison
    # Its one spelling means the same.
    assert parse_comparison(comparison.text) == comparison


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("x", "is no comparison"),
        ("x >= ", "is no comparison"),
        ("x >= 1 and y < 2", "is no comparison"),
        ("x => 1", "is no comparison"),
        ("x >= 1; drop", "is no comparison"),
        ("median(x) >= 1", "has median\\(...\\); there are mean, sum, count"),
        ("language < en", "words take == and != alone"),
    ],
)
def test_what_no_comparison_is(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_comparison(written)


def test_presets_and_comparisons_become_rules_by_name() -> None:
    rules = expand_rules(["redpajama-v2", "rps_doc_word_count >= 9"])
    assert rules["redpajama-v2/words-min"] == "rps_doc_word_count >= 50"
    assert list(rules)[-1] == "rps_doc_word_count>=9"
    assert expand_rules({"short": "x>=1"}) == {"short": "x >= 1"}
    assert expand_rules("c4") == preset_rules("c4")


@pytest.mark.parametrize("name", shipped_files(RULES))
def test_every_shipped_preset_reads_what_annotate_computes(name: str) -> None:
    computed = {"language", "language_score"}.union(*SIGNAL_SETS.values())
    for text in preset_rules(name).values():
        assert parse_comparison(text).text == text
        assert parse_comparison(text).column in computed


def test_a_run_file_prints_its_presets_as_rules(tmp_path: Path) -> None:
    run_file = tmp_path / "run.yaml"
    run_file.write_text(
        RUN + "annotate: {signals: c4}\nselect: {rules: [c4, language_score >= 0.5]}\n"
    )
    config = load(run_file, needs=())
    assert config.select is not None
    run_file.write_text(dump(config))
    assert "c4/sentences-min: c4_num_sentences >= 3" in run_file.read_text()
    assert load(run_file, needs=()) == config


def test_a_run_file_without_the_section_prints_none(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    config = load(tmp_path / "run.yaml", needs=())
    assert config.select is None
    assert "select" not in dump(config)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("rules: [gophr]", "neither a comparison nor a preset; there are c4, fineweb"),
        ("rules: [x >=, 3]", "is no comparison.*is no text"),
        ("rules: 3", "is neither a list"),
        ("rules: [x >= 1e999]", "has 1e999, which is larger than any value"),
        ("rules: {'..': x > 1}", "a name has letters"),
        ("exact_duplicates: [hash]", "'text_hash', 'published', 'url' or 'id'"),
        ("max_removed: {rule:x: 0.5}", "is not a reason that this run file can produce; there are"),
        ("max_removed: {near-duplicates: 0.5}", "did you mean near-duplicate or"),
        ("max_removed: {default: 2}", "less than or equal to 1"),
    ],
)
def test_what_the_section_refuses(tmp_path: Path, section: str, why: str) -> None:
    (tmp_path / "run.yaml").write_text(RUN + f"select: {{{section}}}\n")
    with pytest.raises(ConfigError, match=why):
        load(tmp_path / "run.yaml", needs=())


def test_wrong_columns_and_reasons_are_named_together(tmp_path: Path) -> None:
    """Shares for the rules that stood there before, and a rule that is misspelt."""
    (tmp_path / "run.yaml").write_text(
        RUN + "annotate: {}\nselect: {rules: [gopher, rps_doc_wordcount >= 80], max_removed: "
        "{'rule:rps_doc_wordcount>=50': 0.5, 'rule:gopher/words-mn': 0.4, default: 2}}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "run.yaml", ["select.max_removed.default=0.3"], needs=())
    found = "\n".join(refused.value.problems)
    assert "no column rps_doc_wordcount; did you mean rps_doc_word_count" in found
    assert "rule:rps_doc_wordcount>=50: is not a reason" in found
    assert "did you mean rule:rps_doc_wordcount>=80" in found
    assert "did you mean rule:gopher/words-min" in found
    assert len(found) < 2_000


def test_deduplication_of_c4_is_answered_with_the_lines_to_write(tmp_path: Path) -> None:
    run_file = tmp_path / "run.yaml"
    run_file.write_text(RUN + "annotate: {signals: c4}\nselect: {rules: [c4, c4-dedup]}\n")
    with pytest.raises(ConfigError) as refused:
        load(run_file, needs=())
    annotate, select = re.findall(r"`(?:annotate|select): \{(.*?)\}`", str(refused.value))
    run_file.write_text(
        RUN + f"annotate: {{signals: c4, {annotate}}}\nselect: {{rules: [c4], {select}}}\n"
    )
    config = load(run_file, needs=())
    assert config.annotate is not None and config.annotate.paragraph_unit == "three-sentences"
    assert config.select is not None and config.select.paragraph_duplicates is not None

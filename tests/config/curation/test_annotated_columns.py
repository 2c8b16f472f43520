"""What `select` reads has to be annotated: the columns of each setting, and what is refused on loading."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.curation.annotated_columns import ALWAYS, annotated_columns
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.parts import parts_asked_for
from pipeline.errors import ConfigError

RUN = "paths: {data_dir: data, run_dir: run}\nsources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
OFF = "annotate={signals: none, language: false, pii: false, minhash: none, paragraphs: false}"


def loaded(folder: Path, *overrides: str) -> RunConfig:
    (folder / "run.yaml").write_text(RUN)
    return load(folder / "run.yaml", overrides, needs=())


def problems(folder: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loaded(folder, *overrides)
    return refused.value.problems


def kind_of(field: pa.Field) -> str:
    """Return the kind of a column, from its type in the file."""
    kind = field.type
    if pa.types.is_list(kind):
        element = kind.value_type
        has_scores = pa.types.is_struct(element) and element.get_field_index("score") >= 0
        return "scores" if has_scores else "list"
    if pa.types.is_string(kind):
        return "word"
    return "bytes" if pa.types.is_fixed_size_binary(kind) else "number"


def test_columns_are_those_that_the_parts_make(tmp_path: Path) -> None:
    sets = "[redpajama-v2, redpajama-v2-published, gopher, c4, fineweb]"
    config = loaded(tmp_path, f"annotate={{signals: {sets}, attributes: [toxic]}}")
    assert config.annotate is not None
    parts = parts_asked_for(config)
    made = {field.name: kind_of(field) for part in parts for field in part.fields()}
    columns = annotated_columns(config.annotate)
    assert made.items() <= columns.items()
    # The id is no column of a part, and lists of duplicates need a tree.
    assert columns.keys() - made.keys() == {"id", "published_duplicate"}
    off = loaded(tmp_path, OFF).annotate
    assert off is not None and annotated_columns(off) == ALWAYS


def test_each_part_that_is_off_is_named_with_its_setting(tmp_path: Path) -> None:
    section = (
        "select={rules: [language == en], near_duplicates: {threshold: 0.8}, pii: replace, "
        "paragraph_duplicates: {fewest_characters: 9}, exact_duplicates: [text_hash]}"
    )
    needs = {
        "select.rules": ("language", "true"),
        "select.pii = replace": ("pii", "true"),
        "select.near_duplicates": ("minhash", "{}"),
        "select.paragraph_duplicates": ("paragraphs", "true"),
    }
    assert problems(tmp_path, OFF, section) == [
        f"{reader}: needs annotate.{name}, which is off; set annotate.{name}: {value}, or leave "
        "this out"
        for reader, (name, value) in needs.items()
    ]
    # The values that the message names turn the parts on.
    turned_on = [f"annotate.{name}={value}" for name, value in needs.values()]
    loaded(tmp_path, OFF, *turned_on, section)


@pytest.mark.parametrize(
    ("section", "readers", "signals"),
    [
        ("rules: [gopher, c4]", "select.rules reads", "[redpajama-v2, gopher, c4]"),
        ("near_duplicates: {threshold: 0.8}", "select.near_duplicates reads", "none"),
        (
            "exact_duplicates: [text_hash], pii: remove",
            "select.pii, select.exact_duplicates read",
            "none",
        ),
        ("decontaminate: {tasks: [arc_easy]}", "select.decontaminate reads", "none"),
    ],
)
def test_absent_section_is_named_with_the_signals_to_ask_for(
    section: str, readers: str, signals: str, tmp_path: Path
) -> None:
    assert problems(tmp_path, f"select={{{section}}}") == [
        f"annotate: is not set, and {readers} annotations; add the section, for example "
        f"`annotate: {{signals: {signals}}}`"
    ]
    loaded(tmp_path, f"annotate={{signals: {signals}}}", f"select={{{section}}}")


def test_signals_that_are_not_computed_are_one_message(tmp_path: Path) -> None:
    section = "select={rules: [c4, fineweb, rps_doc_word_count >= 5]}"
    (problem,) = problems(tmp_path, "annotate={signals: [redpajama-v2]}", section)
    assert problem.startswith("select.rules: reads c4_num_sentences, c4_lorem_ipsum, ")
    assert problem.endswith("set annotate.signals: [redpajama-v2, c4, fineweb]")
    assert "rps_doc_word_count" not in problem


def test_columns_that_do_not_exist_are_listed_once(tmp_path: Path) -> None:
    section = (
        "select={rules: [rps_doc_wordcount >= 1, shade > 0, publisheduplicate > 0], "
        "cut_spans: [{column: toxic}]}"
    )
    first, *others, last = problems(tmp_path, OFF, "annotate.signals=gopher", section)
    absent = "the annotations have no column"
    close = f"select.rules: {absent} rps_doc_wordcount; did you mean rps_doc_word_count"
    assert first.startswith(close)
    assert others == [
        f"select.rules: {absent} shade",
        f"select.rules: {absent} publisheduplicate; did you mean published_duplicate?",
        f"select.cut_spans.0: {absent} toxic",
    ]
    assert "contamination" not in last
    assert last.startswith("annotate: makes the columns gopher_word_count, gopher_mean_word_length")
    assert "annotate.attributes" in last


def test_comparisons_that_do_not_fit_their_column_are_refused_together(tmp_path: Path) -> None:
    rules = (
        "language == 2, pii >= 1, mean(pii) > 1, mean(language) > 1, text_hash == x, "
        "rps_lines_num_words > 1, rps_doc_word_count == many, published_duplicate == false, "
        "published_duplicate < 2"
    )
    cut = "cut_spans: [{column: rps_doc_word_count}]"
    found = problems(tmp_path, "annotate={}", f"select={{rules: [{rules}], {cut}}}")
    assert [problem.split(": ", 1)[1] for problem in found] == [
        "language holds words, which 2.0 is not",
        "pii has a list for each document; write count(pii)",
        "pii has no values to take the mean of; write count(pii)",
        "language has one value for each document; leave out mean",
        "text_hash holds neither numbers nor words",
        "rps_lines_num_words has a value for each line; write mean(rps_lines_num_words), sum or "
        "count",
        "rps_doc_word_count holds numbers, which many is not",
        "published_duplicate is 1 or 0, true or false for a document; write published_duplicate == 0",
        "published_duplicate is 1 or 0, true or false for a document; write published_duplicate == 0",
        "the column rps_doc_word_count holds no spans with scores",
    ]

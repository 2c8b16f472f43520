"""The plan of a corpus, by hand."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from test_plan import rates

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.file_search import InputFile, SourceFiles
from pipeline.planning.corpus_plan import TEXT_BYTES_PER_RAW_BYTE, plan_corpus
from pipeline.planning.curation_size import (
    LINE_SIGNAL_BYTES,
    NUMBER_BYTES,
    OTHER_BYTES,
    PARAGRAPH_BYTES,
    with_annotation_rates,
    with_curation,
)
from pipeline.planning.disk_use import data_size

MB = 1_000_000


@pytest.fixture
def corpus(tmp_path: Path) -> RunConfig:
    (tmp_path / "run.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\n"
        "sources: {web: {kind: jsonl, paths: [web]}, ids: {kind: megatron, paths: [ids]}}\n"
        "annotate: {signals: c4}\n"
        "select: {rules: [c4]}\n"
    )
    return load(tmp_path / "run.yaml", needs=())


def raw(**sizes: Mapping[str, int]) -> dict[str, SourceFiles]:
    return {
        source: SourceFiles([InputFile(Path(n), n, size, 0) for n, size in files.items()], [], [])
        for source, files in sizes.items()
    }


def test_text_is_estimated_from_the_sizes_of_raw_files(corpus: RunConfig) -> None:
    files = raw(web={"a.jsonl": MB, "b.jsonl.zstd": MB, "c.JSON.GZ": MB}, ids={"x.bin": MB})
    plan = plan_corpus(corpus, lambda _: files, "h100-sxm")
    by_suffix = TEXT_BYTES_PER_RAW_BYTE
    text = MB * (by_suffix[""] + by_suffix[".zst"] + by_suffix[".gz"])
    assert plan.sources["web"].text_bytes == plan.data.text_bytes == pytest.approx(text)
    assert (plan.sources["ids"].bytes, plan.sources["ids"].text_bytes) == (MB, 0)
    assert plan.data.tokens == 0
    assert list(plan.hours.of_stages()) == ["prepare", "annotate", "select"]
    data = plan.data
    parts = (data.document_bytes, data.annotation_bytes, data.selection_bytes)
    assert min(parts) > 0
    assert data.data_bytes == sum(parts)
    # Each figure has what it rests on.
    assert {f"text bytes per raw byte, {name}" for name in ("plain", ".gz", ".zst")} < {*plan.rates}
    assert "selection bytes per document" in plan.rates
    assert "mfu" not in plan.rates


def test_tokens_are_planned_where_a_tokenizer_is_named(corpus: RunConfig) -> None:
    path = corpus.paths.data_dir.with_name("run.yaml")
    for vocabulary, width in (("vocab_size: 1000", 2), ("vocab_size: 100000", 4)):
        section = f"tokenizer={{kind: byte-level-bpe, {vocabulary}}}"
        sources = "sources={web: {kind: jsonl, paths: [web]}}"
        config = load(path, [section, sources], needs=())
        plan = plan_corpus(config, lambda _: raw(web={"a.jsonl": MB}), "h100-sxm")
        assert plan.data.tokens == pytest.approx(plan.data.text_bytes / 4)
        assert plan.data.token_bytes == pytest.approx(plan.data.tokens * width * 1.01)
        assert list(plan.hours.of_stages())[-1] == "tokenize"


def test_annotations_are_estimated_by_their_columns(run_file: Path) -> None:
    """Of c4 the signal of lines, of FineWeb numbers alone; bands are numbers, too."""
    config = load(run_file, ["annotate={signals: c4, minhash: none, paragraphs: false}"])
    lines = with_annotation_rates(rates(), config).annotation_bytes_per_text_byte.value
    assert lines == pytest.approx(LINE_SIGNAL_BYTES)
    config = load(run_file, ["annotate={signals: none}"])
    found = with_annotation_rates(rates(), config)
    assert found.annotation_bytes_per_text_byte.value == pytest.approx(PARAGRAPH_BYTES)
    # language_score and 14 bands.
    per_document = found.annotation_bytes_per_document.value
    assert per_document == 15 * NUMBER_BYTES + OTHER_BYTES
    published = load(run_file, ["annotate={signals: none, minhash: {scheme: redpajama-v2}}"])
    shorter = with_annotation_rates(rates(), published).annotation_bytes_per_document.value
    assert shorter == 10 * NUMBER_BYTES + OTHER_BYTES


def test_a_training_run_counts_annotations_and_verdicts(run_file: Path) -> None:
    simple = rates(
        text_bytes_per_document=1000,
        annotation_bytes_per_text_byte=0.5,
        annotation_bytes_per_document=100,
        selection_bytes_per_document=10,
    )
    size = data_size(1000 * 1000, 1000, simple)
    assert with_curation(size, load(run_file), simple) == size
    config = load(run_file, ["annotate={signals: c4}", "select={rules: [c4]}"])
    curated = with_curation(size, config, simple)
    assert (curated.annotation_bytes, curated.selection_bytes) == (2_000_000 + 400_000, 40_000)
    assert curated.data_bytes == size.data_bytes + 2_440_000

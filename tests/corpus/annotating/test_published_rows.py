"""Published signals, signatures, duplicates and attributes as columns of the annotations."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import xxhash
from corpus.trees.published_trees import make_dolma, make_redpajama_v2, read_lines, write_lines
from helpers import prepare_here

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.urls import Url
from pipeline.corpus.annotating.annotate import annotate, annotation_inputs, check_parts
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.published_rows import describe_published
from pipeline.corpus.annotating.signals.signals_part import QualitySignals
from pipeline.corpus.remote.connection import NoAnswer
from pipeline.corpus.remote.listing import forget_listings
from pipeline.errors import ConfigError, UserError
from pipeline.store.artifacts import Result
from pipeline.store.manifests.recorded_settings import differences

HEAD = "2023-06/0000/en_head"
TAIL = "2023-06/0000/en_tail"
SIGNALS = "quality_signals/2023-06/0000/en_head.signals.json.gz"
NAMES = "[rps_doc_word_count, rps_doc_mean_word_length, rps_lines_num_words, ccnet_length]"
BANDS = "minhash: {scheme: redpajama-v2, similarity: '0.9'}"


class Corpus:
    """A tree that is prepared as the only source, and annotated."""

    def __init__(self, run_file: Path, root: Path) -> None:
        self._run_file = run_file
        self._source = f"sources={{tree: {{kind: jsonl, paths: ['{root}']}}}}"
        text = run_file.read_text()
        run_file.write_text(
            text.replace("web: {kind: jsonl, paths: [web.jsonl]}", self._source[9:-1])
        )
        prepare_here(run_file)

    def config(self, section: str) -> RunConfig:
        settings = [f"annotate={{language: false, pii: false, {section}}}", "executor.workers=1"]
        return load(self._run_file, settings)

    def annotate(self, section: str) -> Result[Any]:
        return annotate(self.config(section))

    def rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield each document with its annotations."""
        data = self._run_file.parent / "data"
        for path in sorted((data / "documents").rglob("*.parquet")):
            annotations = data / "annotations" / path.relative_to(data / "documents")
            yield from zip(
                pq.read_table(path).to_pylist(), pq.read_table(annotations).to_pylist(), strict=True
            )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_redpajama_v2(tmp_path / "rp2", (HEAD, TAIL))


@pytest.fixture
def rp2(run_file: Path, root: Path) -> Corpus:
    return Corpus(run_file, root)


def published_rows(root: Path) -> dict[int, dict[str, Any]]:
    return {row: line["quality_signals"] for row, line in enumerate(read_lines(root / SIGNALS))}


def computed(text: str, name: str) -> Any:
    (value,) = QualitySignals((name,), "en").values(DocumentText(text))
    return value


def test_published_values_are_taken_and_others_computed(root: Path, rp2: Corpus) -> None:
    rp2.annotate(f"signals: {NAMES}, {BANDS}")
    signals = published_rows(root)
    stored = pq.read_table(root / "minhash/2023-06/0000/en_head.minhash.parquet")
    bands = stored["signature_sim0.9"].to_pylist()
    seen = 0
    for document, row in rp2.rows():
        length = computed(document["text"], "rps_doc_mean_word_length")
        assert row["rps_doc_mean_word_length"] == length
        if "tail" in document["origin_file"]:
            # Nothing is published: what can be computed is.
            assert row["rps_doc_word_count"] == computed(document["text"], "rps_doc_word_count")
            assert row["ccnet_length"] is None
            assert row["published_duplicate"] is None
            continue
        seen += 1
        number = document["origin_row"]
        published = signals[number]
        assert row["rps_doc_word_count"] == published["rps_doc_word_count"][0][2]
        assert row["ccnet_length"] == len(document["text"])
        assert row["rps_lines_num_words"] == [
            dict(zip(("start", "end", "score"), span, strict=True))
            for span in published["rps_lines_num_words"]
        ]
        expected = None
        if bands[number] is not None:
            expected = [
                xxhash.xxh3_64_intdigest(band, place) for place, band in enumerate(bands[number])
            ]
        assert row["minhash_bands"] == expected
    assert seen == len(signals)


def test_the_list_of_duplicates_marks_exactly_its_rows(root: Path, rp2: Corpus) -> None:
    rp2.annotate("signals: none, minhash: none")
    table = pq.read_table(root / "duplicates/2023-06/0000/en_head.duplicates.parquet")
    listed = {int(identity.rpartition("/")[2]) for identity in table["doc_id"].to_pylist()}
    marked = {
        document["origin_row"]
        for document, row in rp2.rows()
        if row["published_duplicate"] and "head" in document["origin_file"]
    }
    assert marked == listed
    assert listed


def test_lists_that_select_reads_are_looked_for_before_anything_is_annotated(
    root: Path, rp2: Corpus, run_file: Path
) -> None:
    reads = "select={rules: [published_duplicate == 0], exact_duplicates: [published]}"
    config = load(run_file, ["annotate={language: false, signals: none}", reads])
    check_parts(config)
    (root / "duplicates").rename(root / "moved")
    with pytest.raises(ConfigError, match=r"published, select\.rules: .*no column published_dup"):
        check_parts(config)
    # Whether a path that is missing was a tree is unknown; `prepare` reports it.
    root.rename(root.with_name("elsewhere"))
    check_parts(config)


def test_recomputing_reads_nothing_and_checking_names_the_difference(
    root: Path, rp2: Corpus
) -> None:
    names = "[rps_doc_mean_word_length, ccnet_length]"
    rp2.annotate(f"signals: {names}, published_signals: check, minhash: none")
    rows = read_lines(root / SIGNALS)
    signals = rows[2]["quality_signals"]
    signals["rps_doc_mean_word_length"] = [[*signals["ccnet_length"][0][:2], 1.25]]
    write_lines(root / SIGNALS, rows)
    with pytest.raises(
        UserError,
        match=r"tree/\w+/\d+ has rps_doc_mean_word_length = 1.25 in the published signals, and \S+ is "
        r"computed.*set published_signals to use or recompute",
    ):
        rp2.annotate(f"signals: {names}, published_signals: check, minhash: none")
    rp2.annotate(f"signals: {names}, published_signals: use, minhash: none")
    assert 1.25 in [row["rps_doc_mean_word_length"] for _, row in rp2.rows()]
    (root / SIGNALS).unlink()
    rp2.annotate(f"signals: {names}, published_signals: recompute, minhash: none")
    assert 1.25 not in [row["rps_doc_mean_word_length"] for _, row in rp2.rows()]
    with pytest.raises(UserError, match=r"en_head.signals.json.gz is missing"):
        rp2.annotate(f"signals: {names}, published_signals: use, minhash: none")


def test_changed_files_are_read_again_and_only_what_comes_from_them(
    root: Path, rp2: Corpus
) -> None:
    section = "signals: [rps_doc_word_count], minhash: {words: 2}"
    rp2.annotate(section)
    before = {row["id"]: row for _, row in rp2.rows()}
    rows = read_lines(root / SIGNALS)
    rows[1]["quality_signals"]["rps_doc_word_count"][0][2] = 77.0
    write_lines(root / SIGNALS, rows)
    rp2.annotate(section)
    changed = [row for _, row in rp2.rows() if row != before[row["id"]]]
    assert [row["rps_doc_word_count"] for row in changed] == [77.0]
    assert changed[0]["minhash_bands"] == before[changed[0]["id"]]["minhash_bands"]


def test_replaced_files_make_the_stage_stale_and_only_their_shards_are_read(
    root: Path, rp2: Corpus
) -> None:
    section = "signals: [rps_doc_word_count], minhash: {words: 2}"
    described = annotation_inputs(rp2.config(section))["published parts of tree"]
    # Nobody reads the published signatures.
    assert isinstance(described, dict)
    assert {part for part, version in described.items() if version} == {"signals", "duplicates"}
    os.utime(root / "minhash/2023-06/0000/en_head.minhash.parquet", ns=(1, 1))
    assert annotation_inputs(rp2.config(section))["published parts of tree"] == described

    # A file of the same size that was written later.
    os.utime(root / SIGNALS, ns=(1, 1))
    changed = annotation_inputs(rp2.config(section))["published parts of tree"]
    assert [line.split(":")[0] for line in differences({"tree": described}, {"tree": changed})] == [
        "tree, signals"
    ]

    # Files that were moved away after they were read are no change; a kind that is gone is one.
    (root / SIGNALS).rename(root / "moved")
    assert annotation_inputs(rp2.config(section))["published parts of tree"] is None
    (root / "quality_signals").rename(root / "moved_too")
    gone = annotation_inputs(rp2.config(section))["published parts of tree"]
    assert isinstance(gone, dict) and "signals" not in gone


def test_signals_that_are_not_numbers_are_named_and_nothing_is_left(
    root: Path, rp2: Corpus, run_file: Path
) -> None:
    rows = read_lines(root / SIGNALS)
    rows[0]["quality_signals"]["rps_doc_word_count"][0][2] = "many"
    write_lines(root / SIGNALS, rows)
    with pytest.raises(UserError, match=r"signals.json.gz: row 0 has .*many.*rps_doc_word_count"):
        rp2.annotate("signals: [rps_doc_word_count], minhash: none")
    folder = run_file.parent / "data" / "annotations"
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "manifest.json").exists()


def test_attributes_of_dolma_are_columns_and_spans_beyond_the_text_are_counted(
    run_file: Path, tmp_path: Path
) -> None:
    root = make_dolma(tmp_path / "dolma")
    (folder, *_) = sorted(path for path in (root / "attributes").iterdir() if path.is_dir())
    (file, *_) = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = read_lines(file)
    key = next(name for name, spans in rows[0]["attributes"].items() if isinstance(spans, list))
    rows[0]["attributes"][key] = [[2, 10**6, 0.5]]
    write_lines(file, rows)
    corpus = Corpus(run_file, root)
    result = corpus.annotate(f"signals: none, minhash: none, attributes: ['{key}', other]")
    # The tree has another one.
    assert result.closing == [
        "published spans that reached beyond their text and were cut at its end: 2"
    ]
    cut = [
        (len(document["text"]), row[key])
        for document, row in corpus.rows()
        if row[key] and row[key][0]["score"] == 0.5
    ]
    assert (cut[0][0], [{"start": 2, "end": cut[0][0], "score": 0.5}]) in cut
    assert {row["other"] for _, row in corpus.rows()} == {None}


def test_a_tree_that_cannot_be_asked_makes_nothing_stale(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: Url, seconds: float, request: Any) -> None:
        raise NoAnswer(f"{url} does not answer")

    forget_listings()
    monkeypatch.setattr("pipeline.corpus.remote.listing.ask", refuse)
    for path in ("memory://nobody/tree", "/nowhere/tree"):
        config = load(run_file, [f"sources.web.paths=['{path}']", "sources.web.layout=dolma"])
        assert describe_published(config) == {"published parts of web": None}
    forget_listings()

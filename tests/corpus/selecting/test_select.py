"""The stage `select`: which documents are kept, why the others are not, and what stops it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import xxhash
from curation import annotate_shard, write_corpus
from helpers import digests

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.pii import replacement
from pipeline.corpus.selecting import duplicates, judged_shards
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.selecting.select import select
from pipeline.errors import ConfigError, DataError, TasksFailed, UserError
from pipeline.store.records import Json

SECTIONS = "paths: {data_dir: data, run_dir: run}\nexecutor: {workers: 1}\nannotate: {}\n"


def run_of(folder: Path, section: str, sources: Sequence[str] = ("web",)) -> RunConfig:
    lines = "".join(f"  {name}: {{kind: jsonl, paths: [{name}.jsonl]}}\n" for name in sources)
    if "max_removed" not in section:
        section += ", max_removed: {default: 1}"
    (folder / "run.yaml").write_text(f"{SECTIONS}sources:\n{lines}select: {{{section}}}\n")
    return load(folder / "run.yaml", needs=())


def verdicts(folder: Path, source: str = "web", split: str = "train") -> list[dict[str, Json]]:
    paths = sorted((folder / "data" / "selection" / source).glob(f"{split}_*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def reasons(folder: Path, source: str = "web", split: str = "train") -> list[list[str]]:
    return [row["reasons"] for row in verdicts(folder, source, split)]


def test_each_rule_that_a_document_does_not_pass_is_recorded(tmp_path: Path) -> None:
    columns = {
        "rps_doc_word_count": [50.0, 49.0, None, 7.0],
        "language": ["en", "de", "en", None],
        "rps_lines_start_with_bulletpoint": [
            [{"start": 0, "end": 1, "score": 1.0}, {"start": 1, "end": 2, "score": 0.0}],
            [{"start": 0, "end": 1, "score": 1.0}],
            [],
            [{"start": 0, "end": 1, "score": 0.0}],
        ],
    }
    write_corpus(tmp_path / "data", "web", ["one", "two", "three", "four"], columns=columns)
    rules = (
        "long: rps_doc_word_count >= 50, language: language == en, "
        "bullets: mean(rps_lines_start_with_bulletpoint) <= 0.9"
    )
    result = select(run_of(tmp_path, f"rules: {{{rules}}}"))
    assert reasons(tmp_path) == [
        [],
        ["rule:long", "rule:language", "rule:bullets"],
        # What is undefined passes no rule: words that are null, the mean of no line.
        ["rule:long", "rule:bullets"],
        ["rule:long", "rule:language"],
    ]
    assert [row["reason"] for row in verdicts(tmp_path)] == [None, *3 * ["rule:long"]]
    assert result.counts["sources"]["web"]["train"] == {
        "documents": 4,
        "text_bytes": 15,
        "kept": 1,
        "kept_bytes": 3,
        "cut": 0,
        "removed": {"rule:long": {"documents": 3, "text_bytes": 12}},
    }
    assert result.counts.get("headline") == (
        "1 of 4 documents kept (3 bytes of 15 bytes); 3 removed: 3 rule:long"
    )


def test_of_copies_the_first_in_the_order_of_priority_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_corpus(data, "first", ["in both", "held out, too", "alone"])
    write_corpus(data, "first", ["held out, too", "only here"], split="validation")
    write_corpus(data, "second", ["new", "in both", "new", "own"])
    write_corpus(data, "second", ["alone", "new"], split="validation")
    result = select(run_of(tmp_path, "exact_duplicates: [text_hash]", ("first", "second")))
    train = verdicts(tmp_path, "first")
    assert [row["reasons"] for row in train] == [[], ["held-out-copy", "exact-duplicate"], []]
    assert train[1]["lost_to"] == "first/validation_0a00_000/0"
    assert reasons(tmp_path, "first", "validation") == [[], []]
    # Held-out text of a later source loses to training text of an earlier one.
    assert [row["lost_to"] for row in verdicts(tmp_path, "second", "validation")] == [
        "first/train_0a00_000/2",
        None,
    ]
    assert [row["lost_to"] for row in verdicts(tmp_path, "second")] == [
        "second/validation_0a00_000/1",
        "first/train_0a00_000/0",
        "second/validation_0a00_000/1",
        None,
    ]
    second = result.counts["sources"]["second"]["train"]["removed"]
    assert {reason: counts["documents"] for reason, counts in second.items()} == {
        "held-out-copy": 2,
        "exact-duplicate": 1,
    }


def test_of_pages_with_one_url_the_longest_stays_and_ids_are_of_a_source(tmp_path: Path) -> None:
    metas = [{"url": "u", "id": 1}, {"url": "u", "id": 2}, {"id": 1}, {"url": ""}, {"url": ""}]
    texts = ["short", "longer", "third", "fourth", "fifth"]
    write_corpus(tmp_path / "data", "web", texts, metas=metas)
    write_corpus(tmp_path / "data", "more", ["sixth"], metas=[{"id": 1}])
    select(run_of(tmp_path, "exact_duplicates: [url]", ("web", "more")))
    removed = [row["lost_to"] for row in verdicts(tmp_path)]
    assert removed == ["web/train_0a00_000/1", None, None, None, None]
    select(run_of(tmp_path, "exact_duplicates: [id]", ("web", "more")))
    # Of equally long texts the first one stays.
    assert [row["lost_to"] for row in verdicts(tmp_path)] == [
        None,
        None,
        "web/train_0a00_000/0",
        None,
        None,
    ]
    assert reasons(tmp_path, "more") == [[]]


def test_a_published_list_removes_exactly_its_rows(tmp_path: Path) -> None:
    columns = {"published_duplicate": [False, True, None]}
    write_corpus(tmp_path / "data", "web", ["same", "same", "same"], columns=columns)
    select(run_of(tmp_path, "exact_duplicates: [published]"))
    assert reasons(tmp_path) == [[], ["listed-duplicate"], []]


def test_what_rules_remove_is_no_copy_that_stays(tmp_path: Path) -> None:
    columns = {"rps_doc_word_count": [1.0, 9.0]}
    write_corpus(tmp_path / "data", "web", ["same", "same"], columns=columns)
    select(run_of(tmp_path, "rules: [rps_doc_word_count >= 5], exact_duplicates: [text_hash]"))
    assert reasons(tmp_path) == [["rule:rps_doc_word_count>=5"], []]


def test_personal_data_are_replaced_and_spans_clamped(tmp_path: Path) -> None:
    def span(start: int, end: int, kind: str) -> dict[str, int | str]:
        return {"start": start, "end": end, "kind": kind}

    columns = {
        "pii": [
            [span(8, 13, "email"), span(18, 99, "ip")],
            [],
            [span(0, 3, "phone"), span(2, 4, "ip")],
        ]
    }
    texts = ["é mail: a@b.c and 1.2.3.4", "plain", "1234"]
    write_corpus(tmp_path / "data", "web", texts, columns=columns)
    config = run_of(tmp_path, "pii: replace")
    result = select(config)
    kept = [text for _, text in kept_documents(config).iterate_texts("web", "train")]
    hashes = [xxhash.xxh3_128_digest(text.encode()) for text in texts]
    email = replacement("email", "a@b.c", hashes[0])
    address = replacement("ip", "1.2.3.4", hashes[0])
    # Of two that overlap the first takes the place of both.
    phone = replacement("phone", "123", hashes[2])
    assert kept == [f"é mail: {email} and {address}", "plain", phone]
    assert result.counts["clamped_spans"] == 1
    assert "1 parts to replace end behind their text: cut at its end" in result.closing
    select(run_of(tmp_path, "pii: remove"))
    assert reasons(tmp_path) == [["personal-data"], [], ["personal-data"]]


def test_published_spans_are_cut_clamped_and_counted(tmp_path: Path) -> None:
    def span(start: int, end: int, score: float) -> dict[str, float]:
        return {"start": start, "end": end, "score": score}

    lines = "rps_lines_start_with_bulletpoint"
    columns = {
        lines: [[span(0, 4, 1.0), span(5, 8, 0.5)], [span(4, 90, 0.9)], None, [span(0, 5, 1.0)]],
        "rps_doc_word_count": [1.0, 1.0, 1.0, 1.0],
    }
    write_corpus(
        tmp_path / "data", "web", ["bad é one", "end bad", "good", "empty"], columns=columns
    )
    config = run_of(tmp_path, f"cut_spans: [{{column: {lines}, at_least: 0.8}}]")
    result = select(config)
    assert list(kept_documents(config).iterate_texts("web", "train")) == [
        ("web/train_0a00_000/0", "é one"),
        ("web/train_0a00_000/1", "end "),
        ("web/train_0a00_000/2", "good"),
    ]
    assert reasons(tmp_path)[3] == ["empty-after-cuts"]
    assert result.counts["clamped_spans"] == 1


def test_samples_have_their_evidence_and_no_control_characters(tmp_path: Path) -> None:
    columns = {"rps_doc_word_count": [1.0, 2.0, 100.0]}
    texts = ["red \x1b[31m text", "two", "enough"]
    write_corpus(tmp_path / "data", "web", texts, columns=columns)
    select(run_of(tmp_path, "rules: [rps_doc_word_count >= 50]"))
    lines = (
        (tmp_path / "data/selection/removed/rule-rps_doc_word_count-50.jsonl")
        .read_text()
        .splitlines()
    )
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["id"])
    assert [sample["failed"] for sample in samples] == [
        {"rps_doc_word_count >= 50": 1.0},
        {"rps_doc_word_count >= 50": 2.0},
    ]
    assert samples[0]["id"] == "web/train_0a00_000/0"
    assert "\x1b" not in samples[0]["excerpt"] and "red" in samples[0]["excerpt"]


def test_a_reason_that_removes_too_much_stops_the_stage(tmp_path: Path) -> None:
    columns = {"rps_doc_word_count": [1.0, 1.0, *8 * [9.0]]}
    texts = [f"text {number}" for number in range(10)]
    write_corpus(tmp_path / "data", "web", texts, columns=columns)
    section = "rules: {long: rps_doc_word_count >= 5}"
    with pytest.raises(DataError) as refused:
        select(run_of(tmp_path, f"{section}, max_removed: {{default: 0.1}}"))
    message = str(refused.value)
    assert "source web: rule:long removes 2 of 10 documents (20.0%, 12 bytes)" in message
    assert 'select: {max_removed: {"rule:long": 0.2}}' in message
    # Samples of what is refused lie beside the verdicts that readers read.
    (samples,) = (tmp_path / "data/selection/.unfinished").rglob("removed/rule-long.jsonl")
    assert str(samples) in message
    assert not (tmp_path / "data/selection/web").exists()
    select(run_of(tmp_path, f'{section}, max_removed: {{default: 0.1, "rule:long": 0.2}}'))
    assert (tmp_path / "data/selection/removed/rule-long.jsonl").is_file()
    assert len(reasons(tmp_path)) == 10


def test_thresholds_that_keep_nothing_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "data", "web", ["a", "b"], columns={"rps_doc_word_count": [1.0, 1.0]})
    with pytest.raises(
        DataError, match=r"no document is left to train on: 2 rule:rps_doc_word_count>=5\. Loosen"
    ):
        select(run_of(tmp_path, "rules: [rps_doc_word_count >= 5]"))


def test_a_source_that_loses_all_its_held_out_documents_is_named(tmp_path: Path) -> None:
    for split, words in (("train", [9.0, 1.0]), ("validation", [1.0, 1.0])):
        columns = {"rps_doc_word_count": words}
        write_corpus(tmp_path / "data", "web", ["one", "two"], split=split, columns=columns)
    result = select(run_of(tmp_path, 'rules: ["rps_doc_word_count >= 5"]'))
    warnings = [line for line in result.closing if line.startswith("WARNING")]
    assert warnings == [
        "WARNING: source web: none of its 2 held-out documents is left (2 "
        "rule:rps_doc_word_count>=5), so it gets no validation loss and no bits per byte. Loosen "
        "these filters, or hold out more of it (sources.web.validation_fraction)."
    ]
    # One that is left is enough.
    result = select(run_of(tmp_path, 'rules: ["rps_doc_word_count >= 1"]'))
    assert not [line for line in result.closing if line.startswith("WARNING")]


def test_published_lists_that_no_source_has_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "data", "web", ["a"])
    section = "exact_duplicates: [published], rules: [published_duplicate == 0]"
    why = r"published, select\.rules: the annotations have no column published_duplicate"
    with pytest.raises(ConfigError, match=why):
        select(run_of(tmp_path, section))


def test_annotations_of_other_documents_and_flipped_bytes_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_corpus(data, "web", ["one", "two"], columns={"rps_doc_word_count": [9.0, 9.0]})
    (shard,) = (data / "documents" / "web").glob("*.parquet")
    config = run_of(tmp_path, "rules: [rps_doc_word_count >= 5]")
    path = annotate_shard(data, shard, ["one"], {"rps_doc_word_count": [9.0]})
    with pytest.raises(TasksFailed, match="has 1 rows, and its documents 2"):
        select(config)
    other = tmp_path / "other"
    write_corpus(other, "web", ["three", "four"], columns={"rps_doc_word_count": [9.0, 9.0]})
    shutil.copy(next((other / "annotations/web").glob("*.parquet")), path)
    with pytest.raises(UserError, match=r"annotates other documents: of checksum .*annotate"):
        select(config)
    annotate_shard(data, shard, ["one", "two"], {"rps_doc_word_count": [9.0, 9.0]})
    content = bytearray(path.read_bytes())
    words = pq.read_metadata(path).row_group(0).column(2)
    content[words.dictionary_page_offset + words.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(TasksFailed, match=r"is damaged.*Delete it first.*`pipeline annotate`"):
        select(config)


def test_bytes_depend_neither_on_groups_nor_on_parts_nor_on_later_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {number % 7} {number % 3}" for number in range(40)]
    metas = [{"url": f"page {number % 13}"} for number in range(40)]
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_corpus(folder / "data", "web", texts, metas=metas, documents_per_shard=6)
        write_corpus(folder / "data", "books", [*texts[5:20], "own"], metas=[*metas[9:24], {}])
    section = "exact_duplicates: [text_hash, url]"
    select(run_of(tmp_path / "a", section, ("web", "books")))
    expected = digests(tmp_path / "a" / "data" / "selection")
    assert len(expected) > 8

    # One source first, then both, in small groups and several parts.
    monkeypatch.setattr(judged_shards, "GROUP_SHARDS", 2)
    monkeypatch.setattr(duplicates, "PARTITION_DOCUMENTS", 9)
    select(run_of(tmp_path / "b", section))
    alone = digests(tmp_path / "b" / "data" / "selection")
    select(run_of(tmp_path / "b", section, ("web", "books")))
    both = digests(tmp_path / "b" / "data" / "selection")
    assert both == expected
    assert {name: both[name] for name in alone if name.startswith("web/")} == {
        name: digest for name, digest in alone.items() if name.startswith("web/")
    }


def test_what_is_damaged_between_two_rounds_is_named(tmp_path: Path) -> None:
    metas = [{"url": "u"}, {"url": "u"}]
    write_corpus(tmp_path / "data", "web", ["same", "same"], metas=metas)
    refused = run_of(tmp_path, "exact_duplicates: [url], max_removed: {default: 0.1}")
    with pytest.raises(DataError, match=r"select\.max_removed allows"):
        select(refused)
    unfinished = tmp_path / "data/selection/.unfinished"
    losers = unfinished / "losers-url/000000.losers"
    content = bytearray(losers.read_bytes())
    content[-1] ^= 1
    losers.write_bytes(content)
    (unfinished / "next/selection/.tasks/000000.json").unlink()
    with pytest.raises(
        TasksFailed, match=r"000000\.losers: is damaged: .*Delete it first.*`pipeline select`"
    ):
        select(refused)
    losers.unlink()
    select(run_of(tmp_path, "exact_duplicates: [url]"))
    assert reasons(tmp_path) == [[], ["exact-duplicate"]]

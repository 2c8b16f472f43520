"""What `prepare` says of rows and values that it does not keep: counts, samples, files, keys, and
what to do."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import prepare_here

from pipeline.corpus.keys import find_documents
from pipeline.corpus.losses import NAMED_KEYS, OTHERS, Losses, add_up_losses
from pipeline.corpus.rows import Reject, Row
from pipeline.errors import DataError


def samples_of(losses: Losses) -> list[tuple[str, int]]:
    samples = [json.loads(line) for line in losses.samples().splitlines()]
    return [(sample["file"], sample["row"]) for sample in samples]


def test_samples_of_a_reason_come_from_as_many_files_as_there_are() -> None:
    losses = Losses()
    for row in range(100):
        losses.count_reject(Reject("no-text", row, ""), "a")
    assert samples_of(losses) == [("a", row) for row in range(20)]
    for file in "bcd":
        for row in range(100):
            losses.count_reject(Reject("no-text", row, ""), file)
    assert samples_of(losses) == [(file, row) for file in "abcd" for row in range(5)]
    for file in range(40):
        losses.count_reject(Reject("no-text", 7, ""), str(file))
    files = [file for file, _ in samples_of(losses)]
    assert len(files) == len(set(files)) == 20
    losses.count_reject(Reject("empty-text", 0, ""), "a")
    assert len(samples_of(losses)) == 21


def test_files_and_keys_are_counted_and_only_some_of_them_named() -> None:
    tasks = []
    for task in range(2):
        losses = Losses()
        for file in range(5):
            for row in range(2):
                losses.count_reject(
                    Reject("no-text", row, "", ("url", f"key {task} {file} {row}")), f"{task}{file}"
                )
        losses.count_incomplete(
            Row(b"t", b"{}", 0, tuple(f"column {number}" for number in range(60)))
        )
        tasks.append(losses.counts())
    counts = add_up_losses(tasks)
    assert counts["rejected"] == {"no-text": 20}
    assert counts["rejected_in_files"] == {"no-text": {"count": 10, "first": ["00", "01", "02"]}}
    assert counts["keys_without_text"]["url"] == 20 and len(counts["keys_without_text"]) == 21
    assert len(counts["null_values"]) == NAMED_KEYS + 1
    assert sum(counts["null_values"].values()) == 120 and counts["null_values"][OTHERS] == 20


def write_lines(path: Path, rows: list[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def refusal(run_file: Path, *overrides: str) -> str:
    with pytest.raises(DataError) as stopped:
        prepare_here(run_file, *overrides)
    return str(stopped.value)


def test_no_text_names_the_files_and_the_keys_that_rows_have(run_file: Path) -> None:
    folder = run_file.parent / "web"
    folder.mkdir()
    for file in range(5):
        write_lines(folder / f"{file}.jsonl", [{"raw_content": "a", "url": "u"}, {"content": "b"}])
    message = refusal(run_file, f"sources.web.paths=[{folder}]")
    assert "10 of 10 rows" in message and "10 no-text" in message
    assert "web/0.jsonl, web/1.jsonl, web/2.jsonl and 2 more files" in message
    assert "raw_content, url, content" in message and "sources.web.text_field" in message
    assert (
        "or raise prepare.max_bad_rows" not in message
    )  # of a source that would have no document left
    (folder / "5.jsonl").write_text('{"text": "a document"}\n')
    assert "or raise prepare.max_bad_rows" in refusal(run_file, f"sources.web.paths=[{folder}]")


def test_rows_whose_text_is_null_are_told_with_their_other_keys(run_file: Path) -> None:
    folder = run_file.parent / "web"
    folder.mkdir()
    write_lines(
        folder / "a.jsonl", [{"text": None, "body": "a"}, {"text": None, "ppl": float("nan")}]
    )
    assert "have the keys body, ppl: set" in refusal(run_file, f"sources.web.paths=[{folder}]")
    pq.write_table(
        pa.table({"text": pa.array([None], pa.string()), "body": ["a"]}), folder / "b.parquet"
    )
    message = refusal(run_file, f"sources.web={{kind: parquet, paths: [{folder}]}}")
    assert "1 no-text in web/b.parquet" in message and "have the keys body: set" in message


def test_a_source_without_a_document_says_why_whatever_is_allowed(run_file: Path) -> None:
    """Where no share of rejects and no broken file is too much, none is left: the reasons are as
    many as with a bound."""
    folder = run_file.parent / "web"
    folder.mkdir()
    write_lines(folder / "a.jsonl", [{"raw_content": "a"}])
    message = refusal(run_file, f"sources.web.paths=[{folder}]", "prepare.max_bad_rows=1")
    assert (
        "1 no-text in web/a.jsonl" in message
        and "raw_content" in message
        and "sources.web.text_field" in message
    )
    pq.write_table(pa.table({"content": ["a"]}), folder / "b.parquet")
    pq.write_table(pa.table({}), folder / "c.parquet")
    web = f"sources.web={{kind: parquet, paths: [{folder}]}}"
    message = refusal(run_file, web, "prepare.on_broken_file=keep-readable-rows")
    assert "web/b.parquet has no column 'text' but content" in message
    assert "web/c.parquet has no columns." in message


def test_a_kind_without_a_text_field_is_not_told_to_set_it(run_file: Path) -> None:
    folder = run_file.parent / "notes"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"\xff")
    message = refusal(run_file, f"sources.web={{kind: text, paths: [{folder}]}}")
    assert "1 invalid-utf8" in message and "notes/a.txt" in message
    assert "text_field" not in message and "raise prepare.max_bad_rows" not in message


def test_meta_that_becomes_null_is_counted_by_column_and_shown_and_every_text_is_kept(
    run_file: Path,
) -> None:
    folder = run_file.parent
    big = 123456789012345678901234567890
    lines = [
        {"text": f"scored {row}", "meta": {"ppl": float("nan"), "id": big + row}}
        for row in range(5)
    ]
    write_lines(folder / "scored.jsonl", [*lines, {"text": "plain", "ppl": 2.5}])
    n, crawled = pa.array([1, 2, 3]), pa.array([0, 253402300800_000_000, 5], pa.timestamp("us"))
    text = pa.array(["one", "two", "three"])
    table = pa.Table.from_arrays([text, n, n, crawled], names=["text", "n", "n", "crawled"])
    pq.write_table(table, folder / "far.parquet")
    far = f"sources.far={{kind: parquet, paths: [{folder}/far.parquet]}}"
    result = prepare_here(run_file, f"sources.web.paths=[{folder}/scored.jsonl]", far)
    sources = result.counts["sources"]
    assert {name: sum(counts["documents"].values()) for name, counts in sources.items()} == {
        "web": 6,
        "far": 3,
    }
    assert sources["web"]["null_values"] == {"ppl": 5}
    assert sources["far"]["null_values"] == {"n": 3, "crawled": 1}
    shown = "\n".join(result.closing)
    assert re.search(r"(?m)source web: .*: ppl 5$", shown)
    assert re.search(r"(?m)source far: .*: n 3, crawled 1$", shown)
    documents = folder / "data" / "documents"
    assert len(find_documents(documents, str(big + 3), ["web"])) == 1
    assert find_documents(documents, str(big + 5), ["web"]) == []


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(run_file: Path) -> None:
    folder = run_file.parent / "tables"
    folder.mkdir()
    text = pa.array(["one", "two"])
    pq.write_table(pa.Table.from_arrays([text, text], names=["text", "text"]), folder / "a.parquet")
    pq.write_table(pa.table({"text": text}), folder / "b.parquet")
    settings = [
        f"sources.web={{kind: parquet, paths: [{folder}]}}",
        "prepare.on_broken_file=keep-readable-rows",
    ]
    result = prepare_here(run_file, *settings)
    assert sum(result.counts["sources"]["web"]["documents"].values()) == 2
    assert list(result.counts["sources"]["web"]["broken_files"]) == ["tables/a.parquet"]
    assert "tables/a.parquet" in "\n".join(result.closing)
    assert str(folder / "a.parquet") in refusal(run_file, settings[0])

"""Reading documents through verdicts: what is left out, what is made again, what stays."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from begun_run import begin_run
from curation import write_corpus
from helpers import run_stages

from pipeline.cli.trace_view import show_trace
from pipeline.config.run_file import load
from pipeline.corpus.selecting.kept_documents import all_documents, kept_documents
from pipeline.corpus.selecting.select import select
from pipeline.errors import DataError, UserError
from pipeline.sampling.trace import trace_document
from pipeline.store.artifacts import stage_states
from pipeline.store.files import read_json
from pipeline.store.stages import STAGES
from pipeline.tokens import indexed_dataset
from pipeline.tokens.inspect import documents, overview
from pipeline.tokens.inspected_data import Question, open_data

URLS = ["select={exact_duplicates: [url], max_removed: {default: 1}}"]
SMALL = ["prepare.shard_text_bytes=400", "prepare.validation_fraction=0"]


def test_without_the_section_all_documents_are_read_as_they_are(tmp_path: Path) -> None:
    write_corpus(tmp_path, "web", ["one", "two", "three"])
    texts = all_documents(tmp_path)
    (shard,) = texts.shards("web", "train")
    assert list(texts.iterate_texts("web", "train")) == [
        (f"web/train_0a00_000/{row}", text) for row, text in enumerate(["one", "two", "three"])
    ]
    assert texts.verdicts(shard) is None
    assert texts.kept_rows(shard).tolist() == [0, 1, 2]
    listed = read_json(tmp_path / "documents" / "manifest.json")["files"]
    assert texts.contents() == {name: record["checksum"] for name, record in listed.items()}


def test_other_verdicts_than_those_listed_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for source, number in (("web", 1), ("books", 2)):
        metas = [{"url": "u"}] * number + [{}]
        write_corpus(data, source, [f"text {n}" for n in range(number + 1)], metas=metas)
    (tmp_path / "run.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\n"
        "sources: {web: {kind: jsonl, paths: [w]}, books: {kind: jsonl, paths: [b]}}\n"
        "select: {exact_duplicates: [url], max_removed: {default: 1}}\n"
    )
    config = load(tmp_path / "run.yaml", needs=())
    texts = kept_documents(config)
    with pytest.raises(DataError, match=r"is missing\. Run `pipeline select` first"):
        texts.contents()
    select(config)
    assert len(list(texts.iterate_texts("books", "train"))) == 1
    (shard,) = texts.shards("books", "train")
    assert texts.reasons(shard, 0) == texts.reasons(shard, 1) == ["exact-duplicate"]
    assert texts.reasons(shard, 2) == []
    path = data / "selection" / "books" / shard.name
    shutil.copy(data / "selection" / "web" / shard.name, path)
    with pytest.raises(DataError, match="holds other verdicts than are listed"):
        kept_documents(config).verdicts(shard)
    path.unlink()
    with pytest.raises(DataError, match=r"is missing\. Run `pipeline select` first"):
        kept_documents(config).verdicts(shard)


@pytest.fixture
def several_shards(run_file: Path) -> Path:
    """Return a run file whose documents, in several shards, are tokenized without `select`."""
    rows = [
        f'{{"text": "document {n} has its own text, a b c", "url": "page {min(n, 38)}"}}'
        for n in range(40)
    ]
    (run_file.parent / "web.jsonl").write_text("\n".join(rows))
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], SMALL)
    return run_file


def test_only_shards_with_other_verdicts_are_tokenized_again(
    several_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load(several_shards).paths.data_dir
    before = {path: path.stat().st_mtime_ns for path in (data / "tokens/web").glob("*.bin")}
    assert len(before) > 2
    run_stages(several_shards, ["select"], [*SMALL, *URLS])
    capsys.readouterr()
    run_stages(several_shards, ["train-tokenizer", "tokenize"], [*SMALL, *URLS])
    said = capsys.readouterr().err
    assert (
        "train-tokenizer was made from all documents, before the run file had the section" in said
    )

    # The last document has the url of the one before it, in the last shard.
    changed = [path for path, made in before.items() if path.stat().st_mtime_ns != made]
    assert changed == [max(before)]
    shard = indexed_dataset.read(changed[0].with_suffix(""))
    rows = np.fromfile(changed[0].with_suffix(".doc"), "<i8")
    (documents_shard,) = (data / "documents/web").glob(f"{changed[0].stem}.parquet")
    config = load(several_shards, [*SMALL, *URLS])
    kept = kept_documents(config).kept_rows(documents_shard)
    assert rows.tolist() == kept.tolist()
    assert len(shard.documents) - 1 == len(kept)

    # What reads no verdicts is stale with them, and the other way round.
    table = {stage.name: stage for stage in STAGES}
    assert stage_states(table, config)["tokenize"].kind == "done"
    without = stage_states(table, load(several_shards, SMALL))["tokenize"]
    assert without.kind == "stale"
    assert any("the section select was removed" in reason for reason in without.reasons)


def test_inspect_leaves_out_what_is_removed_and_says_why(several_shards: Path) -> None:
    config = load(several_shards, [*SMALL, *URLS])
    assert "nothing is selected yet" in open_data(config).notes[0]
    run_stages(several_shards, ["select", "tokenize"], [*SMALL, *URLS])
    data = open_data(config)
    shown = overview(data, Question())
    assert shown["sources"]["web"]["documents"]["train"] == 39
    every = documents(data, Question(samples=99))
    assert len(every) == 39 and all("removed" not in document for document in every)
    with pytest.raises(UserError, match="document numbers there: 0 to 38"):
        documents(data, Question(source="web", document=39))
    found = documents(data, Question(id="page 38"))
    assert [document.get("removed") for document in found] == [None, ["exact-duplicate"]]
    assert found[0]["tokens"] is not None and found[1]["tokens"] is None


def test_trace_names_why_a_document_is_never_read(
    several_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(several_shards, ["select", "tokenize"], [*SMALL, *URLS])
    run = begin_run(several_shards, [*SMALL, *URLS])
    kept, removed = trace_document(run, "page 38")["documents"]
    assert kept["tokens"] and "removed" not in kept
    assert removed["tokens"] == 0 and removed.get("removed") == ["exact-duplicate"]
    show_trace(
        several_shards,
        [*SMALL, *URLS],
        step=None,
        document=removed["id"],
        item=None,
        rank=None,
        row=None,
        limit=20,
        as_json=False,
    )
    assert "removed by `pipeline select`: exact-duplicate" in capsys.readouterr().out

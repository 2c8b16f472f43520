"""The section on removed documents: exact tokens of what is kept, estimates of what is not."""

import re
from pathlib import Path

from conftest import write_run_file
from fake_run import write_fake_run

from pipeline.config.run_file import load
from pipeline.reporting.removed_section import removed_section
from pipeline.reporting.run_data import read_finished_run
from pipeline.store.files import write_json

SELECT = ["annotate={signals: none}", "select={exact_duplicates: [text_hash]}"]


def test_kept_tokens_are_counted_and_removed_ones_estimated(tmp_path: Path) -> None:
    config = load(write_run_file(tmp_path), SELECT)
    write_fake_run(config)
    source = next(iter(config.sources))
    removed = {
        "near-duplicate": {"documents": 1, "text_bytes": 1_000},
        "rule:<b>": {"documents": 23, "text_bytes": 23_000},
    }
    verdicts = {
        "documents": 120,
        "text_bytes": 120_000,
        "kept": 96,
        "kept_bytes": 96_000,
        "cut": 0,
        "removed": removed,
    }
    manifest = {
        "stage": "select",
        "seconds": 1.0,
        "counts": {"sources": {source: {"train": verdicts}}, "headline": "96 kept"},
        "files": {},
        "inputs": {},
    }
    write_json(config.paths.data_dir / "selection" / "manifest.json", manifest)
    run = read_finished_run(config)
    page = removed_section(run)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in page.split("<tr>")[2:]]
    # 100 documents of 1,000 bytes and 300 tokens each are tokenized.
    assert rows == [
        [source, "train", "kept", "96", "80.0%", "96.0 kB", "28,800"],
        [source, "train", "rule:&lt;b&gt;", "23", "19.2%", "23.0 kB", "about 6,900"],
        [source, "train", "near-duplicate", "1", "0.8%", "1.0 kB", "about 300"],
    ]
    assert "Removed documents are never tokenized, so their tokens stay estimates" in page
    # The sizes of the source are those of what is read.
    assert [run.documents(source, "train"), run.documents(source, "validation")] == [96, 0]
    assert run.text_bytes(source) == 96_000


def test_without_selection_there_is_no_section(tmp_path: Path) -> None:
    config = load(write_run_file(tmp_path))
    write_fake_run(config)
    run = read_finished_run(config)
    assert removed_section(run) == ""
    assert run.documents(next(iter(config.sources)), "validation") == 4

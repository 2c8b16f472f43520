"""Tokens of removed documents: estimated where text of the source has been tokenized."""

from pathlib import Path

import pytest

from pipeline.config.run_file import load
from pipeline.corpus.selecting.removals import closing_lines
from pipeline.corpus.selecting.token_estimates import earlier_bytes_per_token, estimated_tokens
from pipeline.store.curation.verdict_counts import SelectCounts
from pipeline.store.files import write_json

RUN = "paths: {data_dir: data, run_dir: run}\nsources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
COUNTS: SelectCounts = {
    "sources": {
        "web": {
            "train": {
                "documents": 10,
                "text_bytes": 1000,
                "kept": 8,
                "kept_bytes": 500,
                "cut": 0,
                "removed": {"rule:long": {"documents": 2, "text_bytes": 500}},
            }
        }
    },
    "clamped_spans": 0,
}


@pytest.mark.parametrize(
    ("text_bytes", "ratio", "expected"),
    [(1000, 4.0, "about 250"), (4_938_271, 4.0, "about 1,230,000"), (1000, None, "")],
)
def test_estimates_have_three_digits(text_bytes: int, ratio: float | None, expected: str) -> None:
    assert estimated_tokens(text_bytes, ratio) == expected


def test_bytes_per_token_are_those_of_the_token_files(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    config = load(tmp_path / "run.yaml", needs=())
    assert earlier_bytes_per_token(config) == {}
    assert closing_lines(COUNTS, {}) == [
        "source web, train: 20.0% of 10 documents removed:",
        "  rule:long: 2, 500 bytes",
    ]

    # A source of existing ids has no text.
    sources = {
        "web": {
            "train": {"documents": 9, "tokens": 90, "text_bytes": 480},
            "validation": {"documents": 1, "tokens": 10, "text_bytes": 20},
        },
        "ids": {"train": {"documents": 1, "tokens": 10, "text_bytes": 0}},
    }
    write_json(tmp_path / "data/tokens/manifest.json", {"counts": {"sources": sources}})
    ratios = earlier_bytes_per_token(config)
    assert ratios == {"web": 5.0}
    assert closing_lines(COUNTS, ratios)[1:] == [
        "  rule:long: 2, 500 bytes, about 100 tokens (by the 5.00 bytes per token of data_dir/tokens)"
    ]

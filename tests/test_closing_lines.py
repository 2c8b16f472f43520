"""The line that a stage ends with: what it made, held out and rejected; the same when it is found
done."""

import re
from pathlib import Path

import pytest
from helpers import DATA_STAGES, run_stages

from pipeline.store.files import read_json

SETTINGS = ["prepare.validation_fraction=0.3", "prepare.max_bad_rows=0.5"]


def last_lines(printed: str, stage: str) -> list[str]:
    """Return the stage's own lines from the one that says that it is done."""
    own = [line for line in printed.splitlines() if line.startswith(f"{stage}: ")]
    first = next(place for place, line in enumerate(own) if line.startswith(f"{stage}: done"))
    return own[first:]


def counts(line: str) -> list[int]:
    """Return the whole numbers of a line that stand alone."""
    return [
        int(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?![\w.])", line)
    ]


def test_data_stages_end_with_what_they_made_held_out_and_rejected(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run_file.parent / "web.jsonl").open("a") as file:
        file.write('{"text": ""}\n{"text": " "}\n{"no": "text"}\n[]\n')
    run_stages(run_file, DATA_STAGES, SETTINGS)
    first = capsys.readouterr().err
    run_stages(run_file, DATA_STAGES, SETTINGS)
    again = capsys.readouterr().err
    folder = run_file.parent / "data"
    held_out = read_json(folder / "documents" / "manifest.json")["counts"]["sources"]["web"][
        "documents"
    ]["validation"]
    tokens = read_json(folder / "tokens" / "manifest.json")["counts"]["sources"]["web"]
    for printed in (first, again):
        prepared, *details = last_lines(printed, "prepare")
        assert {40, held_out, 4} <= set(counts(prepared))  # documents, held out, rejected rows
        assert all(
            reason in prepared for reason in ("2 empty-text", "1 no-text", "1 not-an-object")
        )
        (rejected,) = (line for line in details if "empty-text" in line)
        assert "source web" in rejected and "documents/web/rejected" in rejected
        learned, *_ = last_lines(printed, "train-tokenizer")
        assert {270, 40 - held_out} <= set(counts(learned))  # ids, documents
        tokenized, *_ = last_lines(printed, "tokenize")
        assert {40, held_out, tokens["validation"]["tokens"]} <= set(counts(tokenized))
        assert sum(split["tokens"] for split in tokens.values()) in counts(tokenized)
    assert "done already" not in first and again.count("done already") == 3


def test_where_nothing_is_left_out_one_line_says_so(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(run_file, ["prepare"], ["prepare.validation_fraction=0.3"])
    (line,) = last_lines(capsys.readouterr().err, "prepare")
    assert "0 rows rejected" in line

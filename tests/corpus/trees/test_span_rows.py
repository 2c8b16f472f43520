"""Rows with spans: what is taken as arrays is what the checks of each value make of it."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.trees import span_rows as module
from pipeline.corpus.trees.published_record import SourceDocument, SpanReader
from pipeline.corpus.trees.span_rows import SpanRows, parsed_object
from pipeline.errors import DataError

KEY = "quality_signals"
DOCUMENT = SourceDocument(0, 100, {})
PUBLISHED = {
    "ccnet_length": [[0, 90, 90.0]],
    "rps_doc_ml_palm_score": [[0, 90, None]],
    "rps_doc_books_importance": [[0, 90, -3.25e-7], [0, 90, 1e-05], [0, 90, -1.5], [0, 90, 2]],
    "rps_lines_num_words": [[0, 40, 7.0], [40, 130, 3.0], [120, 130, 0.1]],
    "none": [],
}

Outcome = tuple[dict[str, Any], int] | str


def taken(path: Path, line: bytes) -> Outcome:
    """Return the spans and how many were cut, or the message."""
    path.write_bytes(line + b"\n")
    try:
        spans, clamped = SpanRows(path, KEY).row(0).spans(DOCUMENT)
    except DataError as error:
        return str(error)
    return as_written(spans), clamped


def value_by_value(path: Path, line: bytes) -> Outcome:
    """Return what the checks of each value make of a line."""
    reader = SpanReader(path, DOCUMENT)
    try:
        spans = reader.named_spans(KEY, parsed_object(path, line, 0).get(KEY))
    except DataError as error:
        return str(error)
    return as_written(spans), reader.clamped


def as_written(spans: Mapping[str, Any]) -> dict[str, Any]:
    # `repr` tells -0.0 from 0.0.
    return {name: [(*span[:2], repr(span[2])) for span in values] for name, values in spans.items()}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_row_in_the_published_form_is_taken_without_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separators: tuple[str, str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"{arguments} are parsed as lists")

    monkeypatch.setattr(module, "parsed_object", refuse)
    path = tmp_path / "a.signals.json"
    row = {"id": "s/0", "metadata": {"url": f'"{KEY}":{{}}}}'}, KEY: PUBLISHED}
    path.write_text(f"{json.dumps(row, separators=separators)}\n" * 3)
    rows = SpanRows(path, KEY)
    # A second row, too: nothing of the first may hold the parser.
    for number in (0, 2):
        taken_row = rows.row(number)
        assert taken_row.fields == {"id": row["id"], "metadata": row["metadata"]}
        spans, clamped = taken_row.spans(DOCUMENT)
        assert clamped == 2
        assert spans == PUBLISHED | {
            "rps_lines_num_words": [(0, 40, 7.0), (40, 100, 3.0), (100, 100, 0.1)]
        } | {name: [*map(tuple, PUBLISHED[name])] for name in [*PUBLISHED][:3]}


@pytest.mark.parametrize(
    "signals",
    [
        "5",
        "null",
        "{}",
        '{"a": 5}',
        '{"a": [5]}',
        '{"a": [[]]}',
        '{"a": [ ]}',
        '{"a": [[0, 5, 0.5], 5, 6, 7]}',
        '{"a": [5, [0, 5, 0.5]]}',
        '{"a": [[0, 5, 0.5, 1], [0, 5]]}',
        '{"a": [[[0, 5, 0.5]]]}',
        '{"a": [[0.0, 5, 0.5]]}',
        '{"a": [[0, 5.0, 0.5]]}',
        '{"a": [[0, 5, true]]}',
        '{"a": [[0, 5, "x"]]}',
        '{"a": [[-1, 5, 0.5]]}',
        '{"a": [[6, 5, 0.5]]}',
        '{"a": [[null, 5, 0.5]]}',
        '{"a": [[0, 5, -0]]}',
        '{"a": [[0, 5, -0.0]]}',
        '{"a": [[0, 5, 1e5]]}',
        '{"a": [[0, 5, 1E-5]]}',
        '{"a": [[0, 5, 1e999]]}',
        '{"a": [[0, 5, 18446744073709551616]]}',
        # The first of them becomes the second as a float64.
        '{"a": [[9007199254740993, 9007199254740992, 0.5]]}',
        '{"a": [[9007199254740992, 9007199254740993, 0.5]]}',
        '{"a": [[0, 18446744073709551615, 0.5]]}',
        '{"a": [[00, 5, 0.5]]}',
        '{"a": [[0, 5, 0.5],]}',
        '{"a": [[0, 5, 0.5]], "a": [[0, 5, 1.5]]}',
        '{"a": [[0, 5, 0.5]]} , "quality_signals": {"b": [[0, 5, 0.5]]}',
        '{"a": [[0, 5, "x"]]}, "\\"quality_signals": {"b": [[0, 5, 0.5]]}',
        '{"[]": [[0, 5, 0.5]], "[,,.]": [], "q\\"": [[1, 2, 3.0]]}',
        '{"a": [[0, 5, 0.5]]}, "later": {"quality_signals": {"b": [[0, 5, 0.5]]}}',
        '{"a": [[0, 5, 0.5]]}, "text": "\\ud800"',
    ],
)
def test_other_forms_have_the_outcome_of_the_checks_of_each_value(
    tmp_path: Path, signals: str
) -> None:
    path = tmp_path / "a.signals.json"
    line = f'{{"id": "s/0", "{KEY}": {signals}}}'.encode()
    assert taken(path, line) == value_by_value(path, line)


def test_random_damage_has_the_outcome_of_the_checks_of_each_value(tmp_path: Path) -> None:
    path = tmp_path / "a.signals.json"
    draw = random.Random(0)
    whole = json.dumps({"id": "s/0", KEY: PUBLISHED}, separators=(",", ":")).encode()
    pieces = [*b"[],.-e05 {}:\\\xff", b'"', b"null", b"[]", b"[[0,1,0.5]]", b'"quality_signals":{']
    refused = 0
    for _ in range(500):
        place = draw.randrange(len(whole))
        piece = draw.choice([*pieces, b""])
        inserted = bytes([piece]) if isinstance(piece, int) else piece
        # One byte is replaced, deleted or stays behind what is inserted.
        damaged = whole[:place] + inserted + whole[place + draw.randrange(2) :]
        outcome = taken(path, damaged)
        assert outcome == value_by_value(path, damaged), damaged
        refused += isinstance(outcome, str)
    assert 100 < refused < 450

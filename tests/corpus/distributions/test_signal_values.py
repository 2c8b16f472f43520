"""Distributions of signals: quantiles that documents have, samples, cuts, names that do not exist."""

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from helpers import run_stages, write_documents

from pipeline.cli.curation.signals_view import SHORT_CHARACTERS, show_signals
from pipeline.config.run_file import load
from pipeline.corpus.distributions import signal_values as module
from pipeline.corpus.distributions.signal_values import (
    SourceValues,
    cuts,
    documents_at,
    quantiles,
    signal_values,
)
from pipeline.errors import DataError, UserError
from pipeline.reporting.signals.signals_page import removed_share

SECTIONS = [
    "annotate={language: false, pii: false, minhash: none, signals: [rps_doc_word_count, "
    "rps_lines_num_words, rps_doc_mean_word_length]}",
    "select={rules: ['rps_doc_word_count >= 3', 'sum(rps_lines_num_words) <= 4']}",
]
TEXTS = [" ".join(["word"] * count) for count in range(1, 6)] + ["!"]


@pytest.fixture
def annotated(run_file: Path) -> Path:
    (run_file.parent / "web.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in TEXTS)
    )
    run_stages(run_file, ["prepare", "annotate"], [*SECTIONS, "prepare.validation_fraction=0"])
    return run_file


def of_web(run_file: Path, **options: Any) -> SourceValues:
    (found,) = signal_values(load(run_file, SECTIONS), **options)
    return found


def test_values_of_documents_and_of_lines(annotated: Path) -> None:
    found = of_web(annotated)
    assert [*found.values["rps_doc_word_count"]] == [1, 2, 3, 4, 5, 0]
    assert [*found.values["mean(rps_lines_num_words)"]] == [1, 2, 3, 4, 5, 0]
    # The rule's own summary is looked at, too.
    assert [*found.values["sum(rps_lines_num_words)"]] == [1, 2, 3, 4, 5, 0]
    assert np.isnan(found.values["rps_doc_mean_word_length"]).tolist() == [False] * 5 + [True]
    assert [*of_web(annotated, signal="rps_doc_word_count").values] == ["rps_doc_word_count"]
    assert len(of_web(annotated, signal="rps_lines_num_words").values) == 2


def test_quantiles_are_values_of_documents() -> None:
    values = np.array([5, np.nan, 1, 3, 2, 4])
    assert quantiles(values, (0, 0.2, 0.5, 0.99, 1)) == [1, 1, 3, 5, 5]
    assert quantiles(np.array([np.nan]), (0.5,)) == [None]
    found = SourceValues("web", 6, tuple("abcdef"), {"x": values})
    assert documents_at(found, "x", 0.5, 1) == [3]
    assert documents_at(found, "x", 0.5, 3) == [4, 3, 5]
    assert documents_at(found, "x", 0, 2) == [2, 4]
    assert documents_at(found, "x", 1, 2) == [5, 0]
    assert documents_at(found, "x", 1, 9) == [2, 4, 3, 5, 0]


def test_what_each_rule_removes_alone(annotated: Path) -> None:
    found = of_web(annotated)
    removed = {
        cut.rule: removed_share(found.values[cut.comparison.left], cut)
        for cut in cuts(load(annotated, SECTIONS))
    }
    assert [*removed.values()] == [0.5, 1 / 6]


def test_of_a_large_source_whole_shards_are_read(run_file: Path) -> None:
    for number in range(3):
        write_documents(run_file.parent / "data", "web", f"train_{number}", TEXTS)
    config = load(run_file, ["executor.workers=1", *SECTIONS])
    manifest = config.paths.data_dir / "documents" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["counts"] = {}
    manifest.write_text(json.dumps(content))
    from pipeline.corpus.annotating.annotate import annotate

    result = annotate(config)
    (config.paths.data_dir / "annotations" / "manifest.json").write_text(
        json.dumps({"files": result.files, "counts": result.counts})
    )
    assert len(of_web(run_file).ids) == 18
    with patch.object(module, "MOST_DOCUMENTS", 7):
        found = of_web(run_file)
    assert (len(found.ids), found.documents) == (12, 18)


def show(run_file: Path, **options: Any) -> None:
    asked: dict[str, Any] = {
        "source": None,
        "signal": None,
        "quantile": None,
        "characters": 20,
        "page": None,
        "as_json": False,
    }
    show_signals(load(run_file, SECTIONS), **(asked | options))


def test_the_table_the_documents_and_the_page(
    annotated: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    show(annotated)
    printed = capsys.readouterr()
    assert "rps_doc_word_count" in printed.out
    assert "documents read: web 6 of 6" in printed.err
    lines = printed.out.splitlines()
    place = lines.index("rps_doc_word_count")
    assert lines[0].split() == ["undefined", "1%", "10%", "50%", "90%", "99%"]
    assert re.fullmatch(r"  web +\S+%( +[\d.]+){5}", lines[place + 1])
    assert lines[place + 2] == "    rps_doc_word_count>=3 removes 50.0% of web"
    assert max(map(len, lines)) <= 80
    show(annotated, as_json=True)
    (words, *_) = json.loads(capsys.readouterr().out)
    assert words["quantiles"]["0.5"] == 2
    assert words["removed_by"] == {"rps_doc_word_count>=3": 0.5}
    show(annotated, signal="rps_doc_word_count", quantile=1.0)
    printed = capsys.readouterr().out
    assert re.search(
        r"rps_doc_word_count = 5  web/train_\w+_000/4\n    word word word word \n", printed
    )
    # A long document is shown in short where no number is asked for.
    show(annotated, signal="rps_doc_word_count", quantile=1.0, characters=None)
    assert len(capsys.readouterr().out) < 4 * SHORT_CHARACTERS
    page = tmp_path / "signals.html"
    show(annotated, page=page)
    html = page.read_text()
    assert html.count("<svg") == 4
    assert "removed by rps_doc_word_count&gt;=3" in html
    show(annotated, page=page)
    assert page.read_text() == html


def test_names_that_do_not_exist_are_answered_with_those_that_do(
    annotated: Path, run_file: Path
) -> None:
    with pytest.raises(
        UserError, match=r"--signal rps_doc_wrod_count: .* did you mean rps_doc_word_count"
    ):
        show(annotated, signal="rps_doc_wrod_count")
    with pytest.raises(UserError, match=r"--source x: there are web"):
        show(annotated, source="x")
    with pytest.raises(UserError, match=r"--quantile: of which signal"):
        show(annotated, quantile=0.5)


def test_without_annotations_the_section_is_named(run_file: Path) -> None:
    with pytest.raises(DataError, match=r"holds no annotations. Add the section `annotate`"):
        show(run_file)

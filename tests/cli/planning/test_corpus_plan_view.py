"""`pipeline plan` of a run file that describes a corpus alone."""

import json
from pathlib import Path

import pytest

from pipeline.cli import commands
from pipeline.cli.plan_view import PlanQuestion, show_plan
from pipeline.logs import console
from pipeline.store.stages import STAGES

ROWS = 40
TEXT = "the document says that it has a number and some more words"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(console, "width", 120)
    rows = [{"text": f"{TEXT} {i}"} for i in range(ROWS)]
    (tmp_path / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "corpus.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\n"
        "sources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
        "prepare: {validation_fraction: 0.2}\n"
        "annotate: {signals: c4, language: false}\n"
        "select: {rules: ['c4_num_sentences >= 0']}\n"
        "executor: {workers: 1}\n"
    )
    return tmp_path / "corpus.yaml"


def printed(corpus: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    capsys.readouterr()
    show_plan(STAGES, question(corpus, *overrides), as_json=False, page=None)
    return capsys.readouterr().out


def question(corpus: Path, *overrides: str) -> PlanQuestion:
    return PlanQuestion(corpus, overrides, "h100-sxm", None, 24.0, [])


def test_a_corpus_has_sizes_and_hours_before_and_after_it_is_made(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = "tokenizer={kind: byte-level-bpe, vocab_size: 300}"
    before = printed(corpus, capsys, tokenizer)
    assert "1 file, 2.9 kB: about 2." in before
    for name in ("documents", "annotations", "selection", "tokens", "at the end"):
        assert f"\n  {name} " in before
    for stage in ("prepare", "annotate", "select", "train-tokenizer", "tokenize"):
        assert f" {stage}" in before.split("core-hours of data")[1].splitlines()[0]
    assert "text bytes per raw byte, plain" in before
    assert "assumed: sizes of the raw files" in before
    assert "not described by this run file: pack, " in before

    # What stages have counted replaces the estimates.
    commands.run_all(STAGES, corpus, [])
    after = printed(corpus, capsys, tokenizer)
    assert f"of text in {ROWS} documents" in after
    assert "text bytes per raw byte" not in after
    assert "annotation bytes" not in after
    corpus.with_name("web.jsonl").unlink()
    assert "raw files not found: 2.4 kB of text in 40" in printed(corpus, capsys)
    show_plan(STAGES, question(corpus), as_json=True, page=None)
    found = json.loads(capsys.readouterr().out)
    assert found["finished"] == ["prepare", "annotate", "select"]
    text = sum(len(f"{TEXT} {i}") for i in range(ROWS))
    assert found["text"]["web"] == {"text_bytes": text, "documents": ROWS}
    data = corpus.parent / "data"
    for stage, key in (("annotations", "annotation_bytes"), ("selection", "selection_bytes")):
        files = json.loads((data / stage / "manifest.json").read_text())["files"]
        assert found["data"][key] == sum(record["bytes"] for record in files.values())
    assert set(found["core_hours"]) == {"prepare", "annotate", "select"}

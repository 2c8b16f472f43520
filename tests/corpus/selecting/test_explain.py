"""`pipeline explain`: a verdict with all that is behind it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from curation import write_corpus

from pipeline.cli.commands import run_all
from pipeline.cli.curation.explain_view import show_explanation
from pipeline.config.run_file import load
from pipeline.corpus.selecting.explain import explain_document
from pipeline.corpus.selecting.select import select
from pipeline.errors import UserError
from pipeline.store.stages import STAGES

RUN = """\
paths: {data_dir: data, run_dir: run}
sources: {web: {kind: jsonl, paths: [w]}}
annotate: {}
select:
  rules: {long: rps_doc_word_count >= 5, english: language == en}
  exact_duplicates: [url, text_hash]
  max_removed: {default: 1}
"""


@pytest.fixture
def selected(tmp_path: Path) -> Path:
    """Return a run file with verdicts: a short text, and a copy of a text that lost to another."""
    texts = [
        "short",
        "the same \x1b text",
        "the same \x1b text",
        "a longer text at the url of the third",
    ]
    metas = [{"id": "first"}, {}, {"url": "u"}, {"url": "u"}]
    columns = {"rps_doc_word_count": [1.0, 9.0, 9.0, 9.0], "language": ["en", "en", "en", "en"]}
    write_corpus(tmp_path / "data", "web", texts, metas=metas, columns=columns)
    (tmp_path / "run.yaml").write_text(RUN)
    select(load(tmp_path / "run.yaml", needs=()))
    return tmp_path / "run.yaml"


def test_values_stand_against_the_rules(selected: Path) -> None:
    (document,) = explain_document(load(selected, needs=()), "first")
    assert document["reasons"] == ["rule:long"] and not document["kept"]
    assert [(rule["name"], rule["value"], rule["passes"]) for rule in document["rules"]] == [
        ("long", 1.0, False),
        ("english", "en", True),
    ]
    assert document["lost_to"] == []


@pytest.mark.ranks
def test_a_document_is_explained_without_pandas(selected: Path) -> None:
    """Importing it would take as long as all else."""
    code = (
        "import sys; from pathlib import Path; "
        "from pipeline.cli.curation.explain_view import show_explanation; "
        f"show_explanation(Path({str(selected)!r}), [], 'u', 80, as_json=False); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_copy_that_stays_is_shown_beside(
    selected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, kept = explain_document(load(selected, needs=()), "u")
    assert (lost["kept"], kept["kept"]) == (False, True)
    assert [(each["id"], each["kept"]) for each in lost["lost_to"]] == [
        ("web/train_0a00_000/3", True)
    ]
    show_explanation(selected, [], "web/train_0a00_000/2", 80, as_json=False)
    shown = capsys.readouterr().out
    assert "removed: exact-duplicate" in shown
    assert "lost to web/train_0a00_000/3, which stays" in shown
    assert "they differ from character 0 on" in shown
    assert "\x1b" not in shown
    show_explanation(selected, [], "first", 80, as_json=True)
    assert '"rule:long"' in capsys.readouterr().out


def test_verdicts_of_other_rules_are_named_before_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that was kept must not stand beside a rule that it fails without a word."""
    (tmp_path / "w").write_text('{"text": "some words of a document"}\n')
    (tmp_path / "run.yaml").write_text(
        RUN.replace("annotate: {}", "annotate: {language: false}").replace(
            ", english: language == en", ""
        )
    )
    run_all(STAGES, tmp_path / "run.yaml", ["executor.workers=1", "prepare.validation_fraction=0"])
    (shard,) = (tmp_path / "data" / "documents" / "web").glob("*.parquet")
    identity = f"web/{shard.stem}/0"
    same = ["prepare.validation_fraction=0"]
    capsys.readouterr()
    show_explanation(tmp_path / "run.yaml", same, identity, 80, as_json=False)
    assert capsys.readouterr().out.startswith(f"{identity} (train) kept")
    other = [*same, "select.rules={long: rps_doc_word_count >= 6}"]
    show_explanation(tmp_path / "run.yaml", other, identity, 80, as_json=False)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("select is stale (select.rules.long: ")
    show_explanation(tmp_path / "run.yaml", other, identity, 80, as_json=True)
    assert json.loads(capsys.readouterr().out)["outdated"].startswith("select is stale")


def test_what_cannot_be_explained_is_refused(selected: Path) -> None:
    with pytest.raises(UserError, match="no document of the sources web has this id or url"):
        explain_document(load(selected, needs=()), "nobody")
    with pytest.raises(UserError, match="has no section `select`"):
        explain_document(load(selected, ["select=null"], needs=()), "first")

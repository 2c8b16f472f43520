"""A kind of source is one class and one line in the table: a new one needs nothing else."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forks import is_in_fork
from helpers import iterate_texts, run_stages
from ranks import in_ranks

from pipeline.config.kinds import SOURCE_KINDS, quoted_choices
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.recognised import why_not_lines
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import RawFiles, SourceKind
from pipeline.errors import ConfigError
from pipeline.store.artifacts import read_manifest
from pipeline.store.layout import data_folder


class Tables(RawFiles):
    """A document is a record after the heading, which names the columns."""

    suffixes = (".csv",)
    has_text_field = True

    def why_unreadable(self, head: bytes) -> str | None:
        return why_not_lines(head)

    def rows(
        self, file: Path, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        with file.open(newline="") as opened:
            for number, fields in enumerate(csv.DictReader(opened)):
                text = fields.get(settings.text_fields[0]) or ""
                if text:
                    yield Row(text.encode(), b"{}", number)
                else:
                    yield Reject("empty-text", number, "", tuple(fields))
        advance(file.stat().st_size)


if is_in_fork():
    # A rank, which imports this file to find `train`, reads the run file only then.
    SOURCE_KINDS.paths["table"] = f"{__name__}:Tables"


def train(config: RunConfig) -> dict[str, Any]:
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    return run_job(config, StopSignal())


@pytest.fixture
def table_run(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file whose one source is of a kind that this file adds."""
    monkeypatch.setitem(SOURCE_KINDS.paths, "table", f"{__name__}:Tables")
    folder = run_file.parent / "table"
    folder.mkdir()
    with (folder / "a.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["body", "url"])
        writer.writerows([f"the text of document {n}, in words\n" * 20, n] for n in range(60))
    (folder / "notes.txt").write_text("no table")
    document = yaml.safe_load(run_file.read_text())
    document["sources"] = {"web": {"kind": "table", "paths": [str(folder)], "text_field": "body"}}
    document["data"].pop("mixture", None)
    run_file.write_text(yaml.safe_dump(document))
    return run_file


@pytest.mark.ranks
def test_a_new_kind_goes_through_the_stages(table_run: Path) -> None:
    overrides = ["prepare.validation_fraction=0.1"]
    run_stages(table_run, ["prepare", "train-tokenizer", "tokenize"], overrides)
    data = data_folder(load(table_run, overrides))
    texts = [text for _, text in iterate_texts(data.documents, "web", "train")]
    assert 40 < len(texts) < 60
    assert all(text.startswith("the text of document ") for text in texts)
    tokens = read_manifest(data.tokens_manifest)
    assert tokens is not None
    assert tokens["counts"]["sources"]["web"]["train"]["documents"] == len(texts)
    outcome = in_ranks(table_run, 1, train, overrides)
    assert outcome["status"] == "done", outcome


def test_a_new_kind_refuses_the_settings_of_others(table_run: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(table_run, ["sources.web.line_ends=lf", "sources.web.slice=code"])
    message = str(refused.value)
    assert "sources.web: kind table takes `paths: [...]` and no slice" in message
    assert (
        "sources.web.line_ends = lf: only kind text has this setting; the text of kind table"
        in message
    )


def test_a_word_that_names_no_kind_is_refused_with_those_that_do(run_file: Path) -> None:
    names = quoted_choices(SOURCE_KINDS.paths)
    with pytest.raises(
        ConfigError, match=f"sources.web.kind = 'telepathy': input should be {names}"
    ):
        load(run_file, ["sources.web.kind=telepathy"])


@pytest.mark.parametrize("name", SOURCE_KINDS.paths)
def test_each_name_in_the_table_is_a_kind(name: str) -> None:
    kind = SOURCE_KINDS[name]
    assert isinstance(kind, SourceKind)
    assert kind.row_kind is None or kind.row_kind in SOURCE_KINDS

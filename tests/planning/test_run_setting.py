"""The size of a corpus of text and of ids that exist already."""

import json
from pathlib import Path

import pytest
from test_plan import rates

from pipeline.config.run_file import load
from pipeline.planning.run_setting import measured_data, planned_data
from pipeline.store.layout import data_folder

IDS = [
    "sources.pile={kind: megatron, paths: [pile]}",
    "tokenizer={kind: pretrained, path: gpt2}",
    "train.train_tokens=1000000",
]


def test_existing_ids_take_no_space(run_file: Path) -> None:
    """2 bytes an id and 1 % of indices; 4 bytes of text a token, 0.4 of them as documents."""
    text = planned_data(load(run_file, ["train.train_tokens=1000000"]), 1000, rates())
    size = text.tokens
    assert (text.text_tokens, text.token_bytes) == (size, pytest.approx(2.02 * size))
    assert text.basis.source == "every token of train.train_tokens is read once"

    ids_alone = load(run_file, ["sources={web: {kind: megatron, paths: [pile]}}", *IDS[1:]])
    none = planned_data(ids_alone, 1000, rates())
    assert (none.tokens, none.text_tokens) == (size, 0)
    assert (none.text_bytes, none.document_bytes, none.token_bytes) == (0, 0, 0)
    assert none.basis.source.endswith("; all sources are ids that exist already")


def test_the_mixture_tells_how_much_is_text(run_file: Path) -> None:
    mixed = load(run_file, [*IDS, "data.mixture={web: 1, pile: 3}"])
    quarter = planned_data(mixed, 1000, rates())
    assert quarter.text_tokens == quarter.tokens / 4
    assert quarter.document_bytes == pytest.approx(0.4 * 4 * quarter.tokens / 4)
    assert "; 25% come from sources with text, by data.mixture" in quarter.basis.source
    unknown = planned_data(load(run_file, IDS), 1000, rates())
    assert unknown.text_tokens == unknown.tokens
    assert "the share of existing ids is not known" in unknown.basis.source


def test_links_to_existing_ids_are_not_counted_where_tokens_are_there(run_file: Path) -> None:
    config = load(run_file)
    folder = data_folder(config)
    assert measured_data(folder) is None
    sources = {
        "web": {"train": {"documents": 1, "tokens": 10, "text_bytes": 40}},
        "pile": {"train": {"documents": 1, "tokens": 90, "text_bytes": 0}},
    }
    files = {"web/a.bin": {"bytes": 20}, "pile/b.bin": {"bytes": 180, "link_to": "/data/b.bin"}}
    folder.tokens_manifest.parent.mkdir(parents=True)
    folder.tokens_manifest.write_text(json.dumps({"counts": {"sources": sources}, "files": files}))
    found = planned_data(config, 1000, rates())
    assert (found.tokens, found.text_tokens, found.text_bytes) == (100, 10, 40)
    assert (found.token_bytes, found.basis.kind) == (20, "measured")


def test_annotations_and_verdicts_of_a_training_run_are_on_its_disk(run_file: Path) -> None:
    """Estimated where they are not there, counted where they are."""
    simple = rates(
        text_bytes_per_document=100,
        annotation_bytes_per_text_byte=0.5,
        annotation_bytes_per_document=10,
        selection_bytes_per_document=2,
    )
    plain = planned_data(load(run_file), 1000, simple)
    assert (plain.annotation_bytes, plain.selection_bytes) == (0, 0)
    curated = load(run_file, ["annotate={signals: c4}", "select={rules: [c4]}"])
    data = planned_data(curated, 1000, simple)
    documents = data.text_bytes / 100
    assert data.annotation_bytes == pytest.approx(data.text_bytes / 2 + 10 * documents)
    assert data.selection_bytes == pytest.approx(2 * documents)
    assert data.data_bytes == pytest.approx(
        plain.data_bytes + data.annotation_bytes + data.selection_bytes
    )
